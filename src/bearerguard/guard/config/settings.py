"""Configuration by name: `BEARERGUARD_*` environment variables, or a framework's settings.

Owns the one table of these names, from which they are read, checked and documented. Values are
strings, or, from a framework's configuration, also lists, booleans and numbers. A list in a string
is separated by commas.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.claim_mapping import ClaimMapping
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.key_policy import KeyPolicy
from bearerguard.guard.config.options import (
    check_certificates,
    check_dpop,
    check_dpop_algorithms,
    check_dpop_max_age,
    check_max_token_bytes,
    check_public_url,
    check_realm,
    checked_request_id_headers,
)
from bearerguard.guard.config.protected_resource import ProtectedResource, protected_resource
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.runtime.environment import check_names
from bearerguard.transports.default import default_transport

P = ParamSpec("P")
T = TypeVar("T")

PREFIX = "BEARERGUARD_"
# The prefixes of the server's and the client's settings.
OTHER_PREFIXES = ("BEARERGUARD_SERVER_", "BEARERGUARD_CLIENT_")

Kind: TypeAlias = Literal[
    "text", "secrets", "list", "true or false", "seconds", "bytes", "headers", "object"
]
Owner: TypeAlias = Literal[
    "Guard", "ProtectedResource", "Issuer", "KeyPolicy", "ClaimMapping", "Introspection"
]

# What comes between the prefix and the option's name.
_PART: Mapping[Owner, str] = {
    "Guard": "",
    "ProtectedResource": "RESOURCE_",
    "Issuer": "",
    "KeyPolicy": "KEYS_",
    "ClaimMapping": "CLAIMS_",
    "Introspection": "INTROSPECTION_",
}
_SECRETS = frozenset({"dpop_nonces", "shared_secret", "client_secret", "private_key", "token"})
# Settings whose names differ from the option's.
_CALLED: Mapping[tuple[Owner, str], str] = {
    ("Issuer", "url"): "ISSUER",
    ("ProtectedResource", "url"): "RESOURCE",
    ("Guard", "transport"): "FETCH_HEADERS",
}
# The value of `BEARERGUARD_RESOURCE` that turns the metadata off.
_NO_RESOURCE = "none"


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
        called = _CALLED.get((self.owner, self.option))
        return PREFIX + (called or _PART[self.owner] + self.option.upper())


_ISSUER = Setting("Issuer", "url", "text", "the issuer's URL, as tokens have it in `iss`; required")
_AUDIENCE = Setting(
    "Issuer", "audience", "list", "this API's identifiers, as tokens have them in `aud`; required"
)
_RESOURCE = Setting(
    "ProtectedResource",
    "url",
    "text",
    "this API's URL, for its metadata; by default the audience if that is a URL, `none` for no"
    " metadata",
)

SETTINGS: tuple[Setting, ...] = (
    _ISSUER,
    _AUDIENCE,
    Setting("Issuer", "jwks_uri", "text", "where the keys are; discovered by default"),
    Setting("Issuer", "discovery_url", "text", "where the metadata is, if at no well-known place"),
    Setting(
        "Issuer",
        "shared_secret",
        "secrets",
        "the secret of HS256, HS384 and HS512; several are a JSON array, or a list, the newest"
        " first",
    ),
    Setting("Issuer", "algorithms", "list", "the signature algorithms accepted"),
    Setting("Issuer", "token_types", "list", "the `typ` values accepted; `at+jwt` by default"),
    Setting("Issuer", "accept_id_tokens", "true or false", "accept ID tokens as well"),
    Setting("Issuer", "strict", "true or false", "require every claim that RFC 9068 requires"),
    Setting("Issuer", "tokens", "text", "`auto`, `jwt` or `opaque`: which tokens are introspected"),
    Setting("Issuer", "aliases", "list", "other spellings of the issuer's URL in `iss`"),
    Setting("Issuer", "status_lists", "list", "the URLs of its status lists; may end with `*`"),
    Setting("Issuer", "require_status", "true or false", "refuse JWTs without a status list"),
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
    _RESOURCE,
    Setting("ProtectedResource", "scopes", "list", "the scopes that a client asks for first"),
    Setting("ProtectedResource", "name", "text", "this API's name for people"),
    Setting("ProtectedResource", "documentation", "text", "the URL of its page for developers"),
    Setting(
        "ProtectedResource",
        "authorization_servers",
        "list",
        "the issuers where clients get tokens; by default the issuer",
    ),
    Setting(
        "Guard",
        "implies",
        "object",
        'the scopes that scopes imply: JSON such as `{"admin": ["read", "write"]}`, or a dict',
    ),
    Setting("Guard", "max_token_bytes", "bytes", "the longest token accepted; 16384 by default"),
    Setting("Guard", "dpop", "text", "`off`, `allowed` or `required`: tokens bound to a key"),
    Setting(
        "Guard",
        "dpop_nonces",
        "list",
        "secrets of at least 32 bytes, newest first: proofs must have a recent nonce",
    ),
    Setting("Guard", "dpop_content_digest", "true or false", "proofs must have the body's digest"),
    Setting("Guard", "dpop_algorithms", "list", "the signature algorithms of proofs"),
    Setting("Guard", "dpop_max_age", "seconds", "how far the `iat` of a proof may differ; 300"),
    Setting(
        "Guard",
        "certificates",
        "text",
        "where client certificates come from: `tls`, or the header of a proxy in"
        " `BEARERGUARD_TRUSTED_PROXIES`: `nginx`, `envoy`, `traefik`, `alb` or `rfc9440`",
    ),
    Setting("Guard", "public_url", "text", "the URL by which clients reach this API, for proofs"),
    Setting(
        "Guard",
        "trusted_proxies",
        "list",
        "the proxies whose header fields say that URL instead, or have certificates: addresses or"
        " networks",
    ),
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

_CHECKS: Mapping[str, Callable[[Any], object]] = {
    "realm": check_realm,
    "max_token_bytes": check_max_token_bytes,
    "request_id_headers": checked_request_id_headers,
    "implies": ScopeHierarchy,
    "dpop": check_dpop,
    "dpop_max_age": check_dpop_max_age,
    "dpop_algorithms": check_dpop_algorithms,
    "certificates": check_certificates,
    "public_url": check_public_url,
    "trusted_proxies": Proxies,
}
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
    for option, check in _CHECKS.items():
        if option in guard:
            _made("Guard", check, guard[option])
    issuer["key_policy"] = _made("KeyPolicy", KeyPolicy, **given["KeyPolicy"])
    issuer["claims"] = _made("ClaimMapping", ClaimMapping, **given["ClaimMapping"])
    if given["Introspection"]:
        issuer["introspection"] = _made("Introspection", Introspection, **given["Introspection"])
    trusted = _made("Issuer", Issuer, issuer.pop("url"), **issuer)
    if given["ProtectedResource"]:
        guard["resource"] = _resource(given["ProtectedResource"], trusted)
    return trusted, guard


def _resource(given: dict[str, Any], issuer: Issuer) -> ProtectedResource | Literal[False]:
    if "url" not in given:
        raise ConfigurationError(
            f"{_RESOURCE.name} is not set: give {_RESOURCE.meaning.partition(',')[0]}"
        )
    if given["url"].strip().lower() != _NO_RESOURCE:
        made = _made("ProtectedResource", ProtectedResource, given.pop("url"), **given)
        _made("ProtectedResource", protected_resource, made, [issuer])
        return made
    if len(given) > 1:
        raise ConfigurationError(
            f"{_RESOURCE.name}: {_NO_RESOURCE} means no metadata: remove the variables that begin"
            f" with {_RESOURCE.name}_"
        )
    return False


def given_in(values: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the settings that have a value: an empty text is none."""
    return frozenset(name for name in NAMES if values.get(name) is not None and values[name] != "")


def _made(owner: Owner, make: Callable[P, T], *values: P.args, **options: P.kwargs) -> T:
    """Call `make`; its `ConfigurationError` then names the setting instead of the option."""
    try:
        return make(*values, **options)
    except ConfigurationError as error:
        message = str(error).replace("Issuer(url):", "url=:", 1)  # it is no keyword there
        if owner == "ProtectedResource":
            message = (
                message.replace("resource=:", "url=:", 1)
                .replace(f"{owner}(", "", 1)
                .replace("=):", "=:", 1)
            )
        option, mark, remedy = message.partition("=:")
        named = [each.name for each in SETTINGS if (each.owner, each.option) == (owner, option)]
        if not mark or not named:
            raise
        raise ConfigurationError(f"{named[0]}:{remedy}") from None


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigurationError(f"{name}: give text, not {type(value).__name__}")
    return value


def _secrets(name: str, value: Any) -> Any:
    """Return one secret as it is, and the members of a JSON array or object."""
    if not isinstance(value, str) or value[:1] not in {"[", "{"}:
        return value
    try:
        return json.loads(value)
    except ValueError:
        raise ConfigurationError(
            f"{name}: it begins as JSON does, and is none: give a JSON array of secrets"
        ) from None  # the cause may quote the secret


def _list(name: str, value: object) -> tuple[Any, ...]:
    if isinstance(value, str):
        return tuple(filter(None, (part.strip() for part in value.split(","))))
    if not isinstance(value, list | tuple | set | frozenset):
        raise ConfigurationError(f"{name}: give names separated by commas, or a list")
    return tuple(value)


def _object(name: str, value: object) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ConfigurationError(f"{name}: give a JSON object, or a dict") from None
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name}: give a JSON object, or a dict")
    return value


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
    "secrets": _secrets,
    "list": _list,
    "true or false": _flag,
    "seconds": _seconds,
    "bytes": _bytes,
    "object": _object,
    "headers": lambda name, value: default_transport(value, setting=name),
}
