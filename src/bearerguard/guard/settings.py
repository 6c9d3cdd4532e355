"""Configuration by name: what `BEARERGUARD_*` environment variables and Flask settings mean.

Values are text as an environment has it, or, from a framework's configuration, lists and
booleans; lists in text are separated by commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.guard.issuer import Issuer

PREFIX = "BEARERGUARD_"

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
_TEXTS = ("JWKS_URI", "DISCOVERY_URL", "SHARED_SECRET")
_LISTS = ("ALGORITHMS", "TOKEN_TYPES")
_FLAGS = ("STRICT", "INSECURE_ALLOW_HTTP")


def issuer(values: Mapping[str, Any]) -> Issuer:
    """Return the issuer that the settings describe.

    Raises `ConfigurationError` naming the setting that is missing or malformed.
    """
    url = _text(values, "ISSUER")
    if url is None:
        raise ConfigurationError(
            f"{PREFIX}ISSUER is not set: give the issuer's URL, as its tokens have it in `iss`"
        )
    audience = _list(values, "AUDIENCE")
    if not audience:
        raise ConfigurationError(
            f"{PREFIX}AUDIENCE is not set: give this API's identifier, as tokens have it in `aud`"
        )
    options: dict[str, Any] = {name.lower(): _text(values, name) for name in _TEXTS}
    options |= {name.lower(): _flag(values, name) for name in _FLAGS}
    for name in _LISTS:
        names = _list(values, name)
        if names:
            options[name.lower()] = names
    return Issuer(url, audience=audience, **options)


def realm(values: Mapping[str, Any]) -> str | None:
    """Return the realm that the settings name, if any."""
    return _text(values, "REALM")


def _text(values: Mapping[str, Any], name: str) -> str | None:
    value = values.get(PREFIX + name)
    if value is not None and not isinstance(value, str):
        raise ConfigurationError(f"{PREFIX}{name}: give text, not {type(value).__name__}")
    return value or None


def _list(values: Mapping[str, Any], name: str) -> tuple[str, ...]:
    value = values.get(PREFIX + name)
    if value is None:
        return ()
    if isinstance(value, str):
        return tuple(filter(None, (part.strip() for part in value.split(","))))
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"{PREFIX}{name}: give names separated by commas, or a list")
    return tuple(value)


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(PREFIX + name, False)
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ConfigurationError(f"{PREFIX}{name}: give true or false")
    return text in _TRUE
