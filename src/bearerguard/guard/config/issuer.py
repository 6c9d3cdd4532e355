"""An issuer that the guard trusts, as configuration: checked whole when it is made.

Knows what is safe to configure; holds no state and opens nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.claim_mapping import ClaimMapping, RequiredClaims, mapping_of
from bearerguard.guard.config.given_names import checked_names
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer_names import (
    Allowed,
    check_aliases,
    check_pattern_is_alone,
    check_tenants,
)
from bearerguard.guard.config.static_keys import StaticKeys, keys_from, secret_from
from bearerguard.guard.driving import LocalTransport
from bearerguard.protocol import claims, metadata
from bearerguard.protocol.jose import jwk, jwt

_MAX_LEEWAY = 300
# What a type of tokens may be called (RFC 6838 §4.2), and those that name another kind of token
# than one that opens an API: whoever listed one would open it to what was made for others.
_TYPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}")
_OTHER_KINDS = frozenset(
    {
        "logout+jwt",
        "secevent+jwt",
        "dpop+jwt",
        "token-introspection+jwt",
        "statuslist+jwt",
        "id+jwt",
        "id_token",
        "refresh+jwt",
        "rt+jwt",
        "refresh_token",
        "oauth-authz-req+jwt",
        "oauth-id-jag+jwt",
        "authorization-grant+jwt",
        "client-authentication+jwt",
        "jwk-set+jwt",
        "entity-statement+jwt",
        "resolve-response+jwt",
        "trust-mark+jwt",
        "openid4vci-proof+jwt",
        "kb+jwt",
        "sd-jwt",
        "vc+sd-jwt",
        "dc+sd-jwt",
        "vc+jwt",
        "vp+jwt",
        "wit+jwt",
        "wpt+jwt",
        "txntoken+jwt",
    }
)
_NAME_ALONE = (
    "; where it is a name alone, such as AD FS's, pass jwks_uri= or discovery_url= with https"
)
_TOKENS = ("auto", "jwt", "opaque")


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authorization server whose tokens the guard accepts.

    Args:
        url: the issuer identifier, compared with the token's `iss` letter by letter, a final
            slash included. With `jwks_uri`, `discovery_url` or keys it is a name alone, that
            nothing is fetched from, and may be an http URL.
        audience: this API's identifier, or several; the token's `aud` must have one.
        keys: static keys instead of fetched ones: a JWKS or JWK (dict), PEM, or a list.
        jwks_uri: where the JWKS is; without it, it is discovered (RFC 8414, OpenID).
        discovery_url: where the metadata is, if not at a well-known place; it may name `url`
            as its `issuer`, or as its `access_token_issuer` as AD FS does.
        shared_secret: at least 32 bytes for HS256, 48 for HS384 and 64 for HS512, and for
            nothing else.
        algorithms: the signature algorithms accepted; all that fit the keys by default.
        token_types: the `typ` values accepted: "at+jwt" (RFC 9068), "JWT" (which also
            accepts an absent one), or another name that this issuer gives to access tokens,
            such as "JOSE".
        accept_id_tokens: accept what looks like an ID token as well; implies "JWT".
        strict: demand every claim that RFC 9068 §2.2 demands.
        introspection: how to ask the issuer about tokens that are no JWTs.
        tokens: "auto" validates JWTs here and asks the issuer about all else, "jwt" never
            asks, "opaque" asks about JWTs too.
        aliases: other spellings of `url` that tokens have in `iss`.
        tenants: where `url` has `{tenant}` in it, which tenants it may stand for: a list, or
            a callable that takes one and returns True.
        max_tenants: how many tenants' keys are held.
        scope_claims: where scopes stand, as paths; `scope`, else `scp`, by default.
        role_claims: where roles stand, as paths such as "realm_access.roles"; `roles` by
            default.
        client_claims: where the client stands, as paths; `client_id`, else `azp`, by default.
        audience_claim: where the audience stands.
        required_claims: what else must be there: names, or a dict of names and values.
        keys_token: a bearer token for fetching `jwks_uri`, or a callable that returns one.
        hints: what to tell the operator besides, by the code of a refusal's reason.
        leeway: seconds of clock skew forgiven, 300 at most.
        keys_refresh: the longest time in seconds between two fetches of the keys.
        keys_max_age: seconds after which keys that could not be refreshed are dead.
        keys_cooldown: seconds in which one unknown `kid` is granted a fetch (with a
            reserve of three), and the longest pause after failures.
        insecure_allow_http: allow plain http beyond loopback.
        local: what answers for this issuer in this process, without HTTP; an
            `AuthorizationServer` sets it.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    url: str
    _: KW_ONLY
    audience: str | Sequence[str] = ()  # a missing one is refused with its remedy
    keys: StaticKeys | None = field(default=None, repr=False)
    jwks_uri: str | None = None
    discovery_url: str | None = None
    shared_secret: str | bytes | None = field(default=None, repr=False)
    algorithms: Sequence[str] | None = None
    token_types: Sequence[str] = ("at+jwt",)
    accept_id_tokens: bool = False
    strict: bool = False
    introspection: Introspection | None = None
    tokens: str = "auto"
    aliases: Sequence[str] = ()
    tenants: Allowed | None = None
    max_tenants: int = 1000
    scope_claims: Sequence[str] = ()
    role_claims: Sequence[str] = ()
    client_claims: Sequence[str] = ()
    audience_claim: str = "aud"
    required_claims: RequiredClaims = field(default=(), hash=False)
    keys_token: str | Callable[[], str] | None = field(default=None, repr=False)
    hints: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    leeway: float = 30
    keys_refresh: float = 300
    keys_max_age: float = 86_400
    keys_cooldown: float = 30
    insecure_allow_http: bool = False
    local: LocalTransport | None = field(default=None, repr=False, compare=False)
    # What the guard works with, derived once from the options above.
    expected: claims.Expected = field(init=False, repr=False, compare=False)
    accepted_algorithms: tuple[str, ...] = field(init=False, repr=False, compare=False)
    accepted_types: frozenset[str] = field(init=False, repr=False, compare=False)
    static_keys: jwk.KeySet | None = field(init=False, repr=False, compare=False)
    mapping: ClaimMapping | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        derive = partial(object.__setattr__, self)
        self._check_kinds()
        self._check_sources()
        self._check_introspection()
        self._check_url()
        check_aliases(self.aliases)
        check_tenants(self.url, self.tenants, self.max_tenants)
        if self.tenants is not None:
            check_pattern_is_alone(self.introspection, self.aliases)
        derive("accepted_types", self._checked_types())
        self._check_times()
        required = claims.REQUIRED_STRICT if self.strict else claims.REQUIRED
        derive("expected", claims.Expected(self._checked_audience(), required, self.leeway))
        static_keys = self._static_keys()
        derive("static_keys", static_keys)
        derive("accepted_algorithms", self._checked_algorithms(static_keys))
        derive("mapping", self._mapping())

    @property
    def needs_keys(self) -> bool:
        """Whether its keys verify anything."""
        introspection = self.introspection
        signed = introspection is not None and introspection.signed_answers
        return self.tokens != "opaque" or signed

    def may_fetch(self, url: str) -> bool:
        """Whether `url` may be asked: https, or http where that is allowed."""
        if metadata.is_https(url):
            return True
        if self.insecure_allow_http:
            return metadata.is_http(url)
        # Loopback is for an issuer on this machine; a remote one must not point us at it.
        endpoint = None if self.introspection is None else self.introspection.endpoint
        configured = (self.url, self.jwks_uri, self.discovery_url, endpoint)
        return metadata.is_loopback_http(url) and any(
            place is not None and metadata.is_loopback_http(place) for place in configured
        )

    def _check_kinds(self) -> None:
        for name in ("accept_id_tokens", "strict", "insecure_allow_http"):
            if not isinstance(getattr(self, name), bool):  # "false" is true to Python
                raise ConfigurationError(f"{name}=: pass True or False")
        if not isinstance(self.hints, Mapping):
            raise ConfigurationError("hints=: pass a dict of reasons' codes and texts")
        if not isinstance(self.keys_token, str | None) and not callable(self.keys_token):
            raise ConfigurationError("keys_token=: pass a token, or a callable that returns one")

    def _check_sources(self) -> None:
        given = [
            name
            for name in ("keys", "jwks_uri", "shared_secret", "discovery_url")
            if getattr(self, name) is not None
        ]
        if self.keys_token is not None and self.jwks_uri is None:
            raise ConfigurationError(
                "keys_token=: pass jwks_uri= too: the token is sent to that place alone"
            )
        if len(given) > 1:
            raise ConfigurationError(
                f"{given[0]}= and {given[1]}= exclude each other: keys come from one place"
            )

    def _check_introspection(self) -> None:
        if self.introspection is not None and not isinstance(self.introspection, Introspection):
            raise ConfigurationError(
                "introspection=: pass Introspection(client_id=..., client_secret=...)"
            )
        if self.tokens not in _TOKENS:
            raise ConfigurationError(f"tokens=: choose from {', '.join(_TOKENS)}")
        if self.tokens == "opaque" and self.introspection is None:
            raise ConfigurationError('tokens="opaque": pass introspection= to ask about them')
        if self.tokens == "jwt" and self.introspection is not None:
            raise ConfigurationError(
                'introspection=: nothing is asked with tokens="jwt": leave one of them out'
            )

    def _check_url(self) -> None:
        if not isinstance(self.url, str) or not self.url:
            raise ConfigurationError("Issuer(url): pass the issuer identifier, a non-empty string")
        endpoint = None if self.introspection is None else self.introspection.endpoint
        discovered = self.discovery_url is None and (
            (self.keys is None and self.shared_secret is None and self.jwks_uri is None)
            or (self.introspection is not None and endpoint is None)
        )
        places = {
            "jwks_uri=": self.jwks_uri,
            "discovery_url=": self.discovery_url,
            "endpoint=": endpoint,
        }
        if discovered:  # else it is a name that is only compared, such as AD FS's http one
            places["Issuer(url)"] = self.url
        for name, place in places.items():
            if place is not None and "@" in place.partition("://")[2].partition("/")[0]:
                raise ConfigurationError(  # which quotes no password
                    f"{name}: remove the user and the password from this URL: it is asked without"
                )
            if place is not None and not self.may_fetch(place):
                raise ConfigurationError(
                    f"{name}: {quoted(place)} is no https URL: use https (http is for loopback"
                    " addresses), or pass insecure_allow_http=True on a network you trust"
                    + (_NAME_ALONE if name == "Issuer(url)" else "")
                )
        if discovered and urlsplit(self.url).query:
            raise ConfigurationError(
                "Issuer(url): an issuer identifier has no query (RFC 8414 §2): remove it"
            )

    def _checked_audience(self) -> frozenset[str]:
        return checked_names(
            self.audience,
            "audience=: pass this API's identifier as the issuer puts it into `aud`,"
            " or a list of them; without it any API's token would open this one",
        )

    def _checked_algorithms(self, static_keys: jwk.KeySet | None) -> tuple[str, ...]:
        possible = jwk.ASYMMETRIC if self.shared_secret is None else jwk.SYMMETRIC
        strong = possible
        if self.shared_secret is not None and static_keys is not None:
            strong = static_keys.keys[0].algorithms
        if self.algorithms is None:
            return strong
        if isinstance(self.algorithms, str) or not self.algorithms:
            raise ConfigurationError("algorithms=: pass a list of algorithm names")
        for name in self.algorithms:
            if name not in possible:
                symmetric = name in jwk.SYMMETRIC
                remedy = "HS algorithms need shared_secret=" if symmetric else "choose from these"
                raise ConfigurationError(
                    f"algorithms=: {quoted(name)} cannot be used here:"
                    f" {remedy} ({', '.join(possible)})"
                )
            if name not in strong:
                raise ConfigurationError(
                    f"shared_secret=: {name} needs at least {jwk.SECRET_BYTES[name]} bytes"
                    " (RFC 7518 §3.2): make a longer one, or leave it out of algorithms="
                )
        return tuple(self.algorithms)

    def _checked_types(self) -> frozenset[str]:
        if isinstance(self.token_types, str) or not self.token_types:
            raise ConfigurationError('token_types=: pass a list such as ("at+jwt", "JWT")')
        if not all(isinstance(name, str) for name in self.token_types):
            raise ConfigurationError('token_types=: pass a list such as ("at+jwt", "JWT")')
        types = frozenset(jwt.media_type(name) for name in self.token_types)
        foreign = [name for name in types if name in _OTHER_KINDS or not _TYPE_NAME.fullmatch(name)]
        if foreign:
            raise ConfigurationError(
                f"token_types=: {quoted(sorted(foreign))} are no access tokens:"
                ' choose "at+jwt" and "JWT", or what this issuer calls its access tokens'
            )
        return types | {"jwt"} if self.accept_id_tokens else types

    def _check_times(self) -> None:
        if not _is_number(self.leeway) or not 0 <= self.leeway <= _MAX_LEEWAY:
            raise ConfigurationError(f"leeway=: choose from 0 to {_MAX_LEEWAY} seconds")
        for name in ("keys_refresh", "keys_max_age", "keys_cooldown"):
            if not _is_number(getattr(self, name)) or not getattr(self, name) > 0:
                raise ConfigurationError(f"{name}=: pass a positive number of seconds")
        if self.keys_max_age < self.keys_refresh:
            raise ConfigurationError("keys_max_age=: must not be shorter than keys_refresh=")

    def _mapping(self) -> ClaimMapping | None:
        return mapping_of(
            issuer=self.url if self.aliases else None,
            scope_claims=self.scope_claims,
            role_claims=self.role_claims,
            client_claims=self.client_claims,
            audience_claim=self.audience_claim,
            required_claims=self.required_claims,
        )

    def _static_keys(self) -> jwk.KeySet | None:
        if self.shared_secret is not None:
            return secret_from(self.shared_secret)
        if self.keys is not None:
            return keys_from(self.keys)
        return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
