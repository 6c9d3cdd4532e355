"""Configuration by name: what `BEARERGUARD_*` environment variables and Flask settings mean.

Values are text as an environment has it, or, from a framework's configuration, lists and
booleans; lists in text are separated by commas.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.options import check_max_token_bytes
from bearerguard.runtime.fetching import Transport, default_transport

PREFIX = "BEARERGUARD_"

_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}
_TEXTS = ("JWKS_URI", "DISCOVERY_URL", "SHARED_SECRET")
_INTROSPECTION_TEXTS = (
    "CLIENT_ID",
    "CLIENT_SECRET",
    "PRIVATE_KEY",
    "PRIVATE_KEY_ID",
    "TOKEN",
    "ENDPOINT",
    "AUTH_METHOD",
)
_INTROSPECTION_SECONDS = ("CACHE_TTL", "NEGATIVE_TTL", "STALE_TTL")
_INTROSPECTION_FLAGS = ("SIGNED_ANSWERS", "ALLOW_MISSING_AUDIENCE")
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
    tokens = _text(values, "TOKENS")
    if tokens is not None:
        options["tokens"] = tokens
    options["introspection"] = _introspection(values)
    return Issuer(url, audience=audience, **options)


def _introspection(values: Mapping[str, Any]) -> Introspection | None:
    """Return how to ask the issuer, None when no `BEARERGUARD_INTROSPECTION_…` says how."""
    prefix = "INTROSPECTION_"
    texts = {name.lower(): _text(values, prefix + name) for name in _INTROSPECTION_TEXTS}
    if not any(texts.values()):
        return None
    seconds = {name.lower(): _seconds(values, prefix + name) for name in _INTROSPECTION_SECONDS}
    flags = {name.lower(): _flag(values, prefix + name) for name in _INTROSPECTION_FLAGS}
    options: dict[str, Any] = {**texts, **flags}
    options |= {name: value for name, value in seconds.items() if value is not None}
    return Introspection(**options)


def realm(values: Mapping[str, Any]) -> str | None:
    """Return the realm that the settings name, if any."""
    return _text(values, "REALM")


def max_token_bytes(values: Mapping[str, Any]) -> int | None:
    """Return how long a token may be, if the settings say so."""
    value = values.get(f"{PREFIX}MAX_TOKEN_BYTES")
    if value is None or value == "":
        return None
    try:
        size = int(value)
        check_max_token_bytes(size)
    except (TypeError, ValueError):  # a ConfigurationError is one: it would name the argument
        raise ConfigurationError(
            f"{PREFIX}MAX_TOKEN_BYTES: give a number of bytes, from 1024 to 1048576"
        ) from None
    return size


def transport(values: Mapping[str, Any]) -> Transport | None:
    """Return what sends the headers that the settings name, None where they name none."""
    name = f"{PREFIX}FETCH_HEADERS"
    given = values.get(name)
    return default_transport(given, setting=name) if given else None


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


def _seconds(values: Mapping[str, Any], name: str) -> float | None:
    value = values.get(PREFIX + name)
    if value is None or value == "":
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{PREFIX}{name}: give a number of seconds") from None


def _flag(values: Mapping[str, Any], name: str) -> bool:
    value = values.get(PREFIX + name, False)
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ConfigurationError(f"{PREFIX}{name}: give true or false")
    return text in _TRUE
