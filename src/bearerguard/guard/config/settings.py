"""Configuration by name: `BEARERGUARD_*` environment variables, or a framework's settings.

Owns the one table of these names, from which they are read, checked and documented. Values are
strings, or, from a framework's configuration, also lists, booleans and numbers. A list in a string
is separated by commas.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.claim_mapping import ClaimMapping
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.key_policy import KeyPolicy
from bearerguard.guard.config.options import (
    check_max_token_bytes,
    check_realm,
    checked_request_id_headers,
)
from bearerguard.runtime.environment import check_names
from bearerguard.transports.default import default_transport

P = ParamSpec("P")
T = TypeVar("T")

PREFIX = "BEARERGUARD_"
# The prefixes of the server's and the client's settings.
OTHER_PREFIXES = ("BEARERGUARD_SERVER_", "BEARERGUARD_CLIENT_")

Kind: TypeAlias = Literal["text", "list", "true or false", "seconds", "bytes", "headers"]
Owner: TypeAlias = Literal["Guard", "Issuer", "KeyPolicy", "ClaimMapping", "Introspection"]

# What comes between the prefix and the option's name.
_PART: Mapping[Owner, str] = {
    "Guard": "",
    "Issuer": "",
    "KeyPolicy": "KEYS_",
    "ClaimMapping": "CLAIMS_",
    "Introspection": "INTROSPECTION_",
}
_SECRETS = frozenset({"shared_secret", "client_secret", "private_key", "token"})
# Settings whose names differ from the option's.
_CALLED = {"url": "ISSUER", "transport": "FETCH_HEADERS"}


class Setting(NamedTuple):
    """One setting, and the option that it sets."""

    owner: Owner
    option: str
    kind: Kind
    meaning: str

    @property
    def is_secret(self) -> bool:
        """Whether its value may be a secret, which is never printed."""
        return self.kind == "headers" or self.option in _SECRETS

    @property
    def name(self) -> str:
        """The name of the variable, such as `BEARERGUARD_JWKS_URI`."""
        return PREFIX + _PART[self.owner] + _CALLED.get(self.option, self.option.upper())


_ISSUER = Setting("Issuer", "url", "text", "the issuer's URL, as tokens have it in `iss`; required")
_AUDIENCE = Setting(
    "Issuer", "audience", "list", "this API's identifiers, as tokens have them in `aud`; required"
)

SETTINGS: tuple[Setting, ...] = (
    _ISSUER,
    _AUDIENCE,
    Setting("Issuer", "jwks_uri", "text", "where the keys are; discovered by default"),
    Setting("Issuer", "discovery_url", "text", "where the metadata is, if at no well-known place"),
    Setting("Issuer", "shared_secret", "text", "the secret of HS256, HS384 and HS512"),
    Setting("Issuer", "algorithms", "list", "the signature algorithms accepted"),
    Setting("Issuer", "token_types", "list", "the `typ` values accepted; `at+jwt` by default"),
    Setting("Issuer", "accept_id_tokens", "true or false", "accept ID tokens as well"),
    Setting("Issuer", "strict", "true or false", "require every claim that RFC 9068 requires"),
    Setting("Issuer", "tokens", "text", "`auto`, `jwt` or `opaque`: which tokens are introspected"),
    Setting("Issuer", "aliases", "list", "other spellings of the issuer's URL in `iss`"),
    Setting("Issuer", "leeway", "seconds", "the clock skew accepted; 30 by default"),
    Setting("Issuer", "insecure_allow_http", "true or false", "allow plain http beyond loopback"),
    Setting("KeyPolicy", "refresh", "seconds", "the longest time between two fetches of the keys"),
    Setting("KeyPolicy", "max_age", "seconds", "how long keys are used that cannot be refreshed"),
    Setting("KeyPolicy", "cooldown", "seconds", "the pause between fetches for unknown keys"),
    Setting("ClaimMapping", "scopes", "list", "the claims that hold the scopes"),
    Setting("ClaimMapping", "roles", "list", "the claims that hold the roles"),
    Setting("ClaimMapping", "client", "list", "the claims that hold the client's id"),
    Setting("ClaimMapping", "audience", "text", "the claim that holds the audience"),
    Setting("ClaimMapping", "required", "list", "the claims that a token must have besides"),
    Setting("Introspection", "client_id", "text", "this API's client id at the issuer"),
    Setting("Introspection", "client_secret", "text", "its client secret"),
    Setting("Introspection", "private_key", "text", "its private key for private_key_jwt, PEM"),
    Setting("Introspection", "private_key_id", "text", "the `kid` of that key"),
    Setting("Introspection", "token", "text", "an access token instead of client credentials"),
    Setting("Introspection", "endpoint", "text", "the introspection endpoint; else discovered"),
    Setting("Introspection", "auth_method", "text", "client_secret_basic or client_secret_post"),
    Setting("Introspection", "signed_responses", "true or false", "require signed responses"),
    Setting(
        "Introspection", "cache_ttl", "seconds", "how long a response is cached; 60 by default"
    ),
    Setting("Introspection", "negative_ttl", "seconds", "how long a refusal is cached"),
    Setting("Introspection", "stale_ttl", "seconds", "for how much longer during an outage"),
    Setting(
        "Introspection", "allow_missing_audience", "true or false", "accept responses without `aud`"
    ),
    Setting("Guard", "realm", "text", "the realm in challenges; `api` by default"),
    Setting("Guard", "max_token_bytes", "bytes", "the longest token accepted; 16384 by default"),
    Setting(
        "Guard",
        "request_id_headers",
        "list",
        "the header fields with a request's id for log lines; `X-Request-ID,traceparent` by"
        " default",
    ),
    Setting(
        "Guard",
        "transport",
        "headers",
        "sent with each request to an issuer: one `Name: value` a line, or a dict",
    ),
)
"""All settings of the guard, in the order of the documentation."""

NAMES = frozenset(setting.name for setting in SETTINGS)
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def read(values: Mapping[str, Any]) -> tuple[Issuer, dict[str, Any]]:
    """Return the issuer and the options of the guard that the settings describe.

    Raises `ConfigurationError` naming the setting that is missing, misspelt or malformed.
    """
    ours = {name: values[name] for name in values if str(name).startswith(PREFIX)}
    check_names(ours, NAMES, prefix=PREFIX, others=OTHER_PREFIXES)
    given: dict[Owner, dict[str, Any]] = {owner: {} for owner in _PART}
    names = given_in(ours)
    for setting in SETTINGS:
        if setting.name in names:
            value = _READERS[setting.kind](setting.name, ours[setting.name])
            given[setting.owner][setting.option] = value
    issuer, guard = given["Issuer"], given["Guard"]
    for required in (_ISSUER, _AUDIENCE):
        if not issuer.get(required.option):
            raise ConfigurationError(f"{required.name} is not set: give {required.meaning}")
    if "realm" in guard:
        _made("Guard", check_realm, guard["realm"])
    if "max_token_bytes" in guard:
        _made("Guard", check_max_token_bytes, guard["max_token_bytes"])
    if "request_id_headers" in guard:
        _made("Guard", checked_request_id_headers, guard["request_id_headers"])
    issuer["key_policy"] = _made("KeyPolicy", KeyPolicy, **given["KeyPolicy"])
    issuer["claims"] = _made("ClaimMapping", ClaimMapping, **given["ClaimMapping"])
    if given["Introspection"]:
        issuer["introspection"] = _made("Introspection", Introspection, **given["Introspection"])
    return _made("Issuer", Issuer, issuer.pop("url"), **issuer), guard


def given_in(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the settings that have a value: an empty text is none."""
    return frozenset(name for name in NAMES if values.get(name) is not None and values[name] != "")


def _made(owner: Owner, make: Callable[P, T], *values: P.args, **options: P.kwargs) -> T:
    """Call `make`; its `ConfigurationError` then names the setting instead of the option."""
    try:
        return make(*values, **options)
    except ConfigurationError as error:
        message = str(error).replace("Issuer(url):", "url=:", 1)  # it is no keyword there
        option, mark, remedy = message.partition("=:")
        named = [each.name for each in SETTINGS if (each.owner, each.option) == (owner, option)]
        if not mark or not named:
            raise
        raise ConfigurationError(f"{named[0]}:{remedy}") from None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: give text, not {type(value).__name__}")
    return value


def _list(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(filter(None, (part.strip() for part in value.split(","))))
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"{name}: give names separated by commas, or a list")
    return tuple(value)


def _seconds(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name}: give a number of seconds") from None


def _bytes(name: str, value: Any) -> int:
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name}: give a number of bytes") from None


def _flag(name: str, value: object) -> bool:
    text = str(value).strip().lower()
    if text not in _TRUE | _FALSE:
        raise ConfigurationError(f"{name}: give true or false")
    return text in _TRUE


_READERS: Mapping[Kind, Callable[[str, Any], Any]] = {
    "text": _text,
    "list": _list,
    "true or false": _flag,
    "seconds": _seconds,
    "bytes": _bytes,
    "headers": lambda name, value: default_transport(value, setting=name),
}
