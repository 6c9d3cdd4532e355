"""An issuer that the guard trusts, as configuration that is checked when it is made.

Knows which configuration is safe; holds no state and does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.claim_check import ClaimCheck, check_claim_checks
from bearerguard.guard.config.claim_mapping import ClaimMapping
from bearerguard.guard.config.key_policy import KeyPolicy
from bearerguard.guard.config.names import Names, names
from bearerguard.guard.config.static_keys import SharedSecret, StaticKeys, keys_from, secrets_from
from bearerguard.guard.driving import LocalTransport
from bearerguard.protocol import metadata, status_list
from bearerguard.protocol.jose import jwk, jwt, ml_dsa
from bearerguard.protocol.jwt_claims import REQUIRED, REQUIRED_STRICT, Expected

if TYPE_CHECKING:
    from bearerguard.guard.config.introspection import Introspection

# The placeholder for the tenant in the url of a multi-tenant issuer.
TENANT = "{tenant}"
# One path segment or one host label: a tenant's name never changes which server is called.
TENANT_NAME = r"[A-Za-z0-9_-]{1,128}"

AllowedTenants: TypeAlias = Collection[str] | Callable[[str], bool]
TokenHandling: TypeAlias = Literal["auto", "jwt", "opaque"]

_MAX_LEEWAY = 300
# The syntax of a type (RFC 6838 §4.2), and the types of tokens that are not access tokens: an API
# that accepted one would accept what was issued for another purpose.
_TYPE_NAME = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
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
_NOT_FETCHED = (
    "; if nothing is fetched from it, as from AD FS's, pass jwks_uri= or discovery_url= with https"
)
_TOKENS = ("auto", "jwt", "opaque")
_AUDIENCE_REMEDY = (
    "pass this API's identifier as the issuer puts it into `aud`, or a list of them; without it,"
    " this API would accept tokens issued for any other API"
)


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authorization server whose tokens the guard accepts.

    Values are compared and hashed by their options, lists as tuples.

    Args:
        url: the issuer identifier, compared with the token's `iss` character by character, a
            trailing slash included. With `jwks_uri`, `discovery_url` or keys nothing is fetched
            from it, and it may be an http URL.
        audience: this API's identifier, or several; the token's `aud` must have one of them.
        keys: static keys instead of fetched ones: a JWKS or JWK (dict), PEM, or a list.
        jwks_uri: where the JWKS is; without it, it is discovered (RFC 8414, OpenID).
        discovery_url: where the metadata is, if not at a well-known place. It may name `url`
            as its `issuer`, or as its `access_token_issuer` as AD FS does.
        shared_secret: for HS256, HS384 and HS512 only: at least 32, 48 or 64 bytes. Text, bytes or
            a JWK whose `kty` is `oct`, or a list of at most eight, the newest first; the `kid` of a
            token selects JWKs.
        algorithms: the signature algorithms accepted; all that fit the keys by default.
        token_types: the `typ` values accepted: "at+jwt" (RFC 9068), "JWT" (which also accepts
            tokens without `typ`), or another name of this issuer's access tokens, such as "JOSE".
        accept_id_tokens: accept ID tokens as well; implies "JWT".
        strict: require every claim that RFC 9068 §2.2 requires.
        introspection: how to introspect tokens that are not JWTs (RFC 7662).
        tokens: "auto" validates JWTs here and introspects all others, "jwt" never introspects,
            "opaque" introspects JWTs too.
        aliases: other spellings of `url` in the `iss` of tokens; `Principal.issuer` is always
            `url`.
        tenants: the tenants that `{tenant}` in `url` may stand for: a list, or a callable that
            takes one and returns True.
        max_tenants: for how many tenants keys are cached.
        claims: which claims hold scopes, roles, client and audience, and which are required.
        checks: further checks of the claims, each a `ClaimCheck`; run whenever a token is
            validated, not on each request.
        key_policy: how often keys are fetched, and how long they are used.
        hints: further remedies for log lines: a dict from a refusal's reason code to a text.
        status_lists: the URLs of the issuer's status lists, each exactly or with a `*` at the end
            of its path, such as "https://id.example.com/statuslists/*". A token that names its
            place in one of them (draft-ietf-oauth-status-list) is accepted while the list says
            that it is valid; one that names another URL is refused.
        require_status: refuse JWTs that name no status list.
        leeway: seconds of clock skew accepted, 300 at most.
        insecure_allow_http: allow plain http beyond loopback.
        local: handles requests to this issuer in this process, without HTTP; an
            `AuthorizationServer` sets it.

    Raises:
        ConfigurationError: an option is missing, unknown or unsafe.
    """

    url: str
    _: KW_ONLY
    audience: Names = ()  # required: `__post_init__` says what to pass
    keys: StaticKeys | None = field(default=None, repr=False, hash=False)
    jwks_uri: str | None = None
    discovery_url: str | None = None
    shared_secret: SharedSecret | Sequence[SharedSecret] | None = field(
        default=None, repr=False, hash=False
    )
    algorithms: Sequence[str] | None = None
    token_types: Sequence[str] = ("at+jwt",)
    accept_id_tokens: bool = False
    strict: bool = False
    introspection: Introspection | None = None
    tokens: TokenHandling = "auto"
    aliases: Sequence[str] = ()
    tenants: AllowedTenants | None = None
    max_tenants: int = 1000
    claims: ClaimMapping = ClaimMapping()  # noqa: RUF009 - it is immutable
    checks: Sequence[ClaimCheck] = ()
    key_policy: KeyPolicy = KeyPolicy()  # noqa: RUF009 - it is immutable
    hints: Mapping[str, str] = field(default_factory=dict, repr=False, hash=False)
    status_lists: Sequence[str] = ()
    require_status: bool = False
    leeway: float = 30
    insecure_allow_http: bool = False
    local: LocalTransport | None = field(default=None, repr=False, compare=False)
    # What the guard works with, derived once from the options above.
    expected: Expected = field(init=False, repr=False, compare=False)
    accepted_algorithms: tuple[str, ...] = field(init=False, repr=False, compare=False)
    accepted_types: frozenset[str] = field(init=False, repr=False, compare=False)
    static_keys: jwk.KeySet | None = field(init=False, repr=False, compare=False)
    standard_claims: Callable[[dict[str, Any]], dict[str, Any]] | None = field(
        init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        store = partial(object.__setattr__, self)
        self._check_kinds()
        audience = names("audience", self.audience, _AUDIENCE_REMEDY)
        self._check_sources()
        self._check_introspection()
        self._check_url()
        self._check_aliases()
        self._check_tenants()
        self._check_status_lists()
        types = self._checked_types()
        if not _is_number(self.leeway) or not 0 <= self.leeway <= _MAX_LEEWAY:
            raise ConfigurationError(f"leeway=: choose from 0 to {_MAX_LEEWAY} seconds")
        static_keys = self._static_keys()
        algorithms = self._checked_algorithms(static_keys)
        # The caller's lists become immutable, comparable and hashable.
        for option, given in (
            ("audience", audience),
            ("algorithms", self.algorithms),
            ("token_types", self.token_types),
            ("aliases", self.aliases),
            ("checks", self.checks),
            ("status_lists", self.status_lists),
        ):
            store(option, None if given is None else tuple(given))
        if isinstance(self.shared_secret, list):
            store("shared_secret", tuple(self.shared_secret))
        if self.tenants is not None and not callable(self.tenants):
            store("tenants", frozenset(self.tenants))
        store("accepted_types", types)
        store("static_keys", static_keys)
        store("accepted_algorithms", algorithms)
        _prepare_claims(self)

    def with_claims(self, claims: ClaimMapping, *, strict: bool = False) -> Issuer:
        """Return this issuer with another mapping and without `checks=`, to explain a refusal."""
        # Not `replace`, which would read the keys again, and report those that it passes over.
        other = copy(self)
        for name, value in (("claims", claims), ("strict", strict), ("checks", ())):
            object.__setattr__(other, name, value)
        _prepare_claims(other)
        return other

    @property
    def needs_keys(self) -> bool:
        """Whether any signature is verified with its keys."""
        introspection = self.introspection
        signed = introspection is not None and introspection.signed_responses
        return self.tokens != "opaque" or signed

    def may_fetch(self, url: str) -> bool:
        """Whether `url` may be fetched: https, or http where that is allowed."""
        if metadata.is_https(url):
            return True
        if self.insecure_allow_http:
            return metadata.is_http(url)
        # Only an issuer on this machine may use loopback: a remote issuer must not make the guard
        # fetch from this machine.
        endpoint = None if self.introspection is None else self.introspection.endpoint
        configured = (self.url, self.jwks_uri, self.discovery_url, endpoint)
        return metadata.is_loopback_http(url) and any(
            place is not None and metadata.is_loopback_http(place) for place in configured
        )

    def _check_kinds(self) -> None:
        for name in ("accept_id_tokens", "strict", "require_status", "insecure_allow_http"):
            if not isinstance(getattr(self, name), bool):  # the string "false" is truthy
                raise ConfigurationError(f"{name}=: pass True or False")
        if not isinstance(self.hints, Mapping):
            raise ConfigurationError("hints=: pass a dict from reason code to text")
        if not isinstance(self.claims, ClaimMapping):
            raise ConfigurationError('claims=: pass ClaimMapping(roles="groups", ...)')
        if not isinstance(self.key_policy, KeyPolicy):
            raise ConfigurationError("key_policy=: pass KeyPolicy(refresh=300, ...)")
        check_claim_checks(self.checks)

    def _check_sources(self) -> None:
        given = [
            name
            for name in ("keys", "jwks_uri", "shared_secret", "discovery_url")
            if getattr(self, name) is not None
        ]
        if self.key_policy.token is not None and self.jwks_uri is None:
            raise ConfigurationError(
                "KeyPolicy(token=): pass jwks_uri= to the Issuer: the token is sent to that URL"
                " alone"
            )
        if len(given) > 1:
            raise ConfigurationError(
                f"{given[0]}= and {given[1]}= exclude each other: keys come from one place"
            )

    def _check_introspection(self) -> None:
        if self.introspection is not None:
            _check_kind_of_introspection(self.introspection)
        if self.tokens not in _TOKENS:
            raise ConfigurationError(f"tokens=: choose from {', '.join(_TOKENS)}")
        if self.tokens == "opaque" and self.introspection is None:
            raise ConfigurationError('tokens="opaque": pass introspection= to introspect them')
        if self.tokens == "jwt" and self.introspection is not None:
            raise ConfigurationError(
                'introspection=: nothing is introspected with tokens="jwt": leave one of them out'
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
        if discovered:  # else it is only compared with iss, such as AD FS's http identifier
            places["Issuer(url)"] = self.url
            mistake = metadata.issuer_mistake(self.url)
            if mistake:
                raise ConfigurationError(f"Issuer(url): {quoted(self.url)} {mistake}")
        for name, place in places.items():
            if place is not None and "@" in place.partition("://")[2].partition("/")[0]:
                raise ConfigurationError(  # without quoting the password
                    f"{name}: remove the user and the password from this URL: neither is sent"
                )
            if place is not None and not self.may_fetch(place):
                raise ConfigurationError(
                    f"{name}: {quoted(place)} is no https URL: use https (http is for loopback"
                    " addresses), or pass insecure_allow_http=True on a network you trust"
                    + (_NOT_FETCHED if name == "Issuer(url)" else "")
                )
        if discovered and urlsplit(self.url).query:
            raise ConfigurationError(
                "Issuer(url): an issuer identifier has no query (RFC 8414 §2): remove it"
            )

    def _check_aliases(self) -> None:
        if not isinstance(self.aliases, list | tuple) or not all(
            isinstance(alias, str) and alias for alias in self.aliases
        ):
            raise ConfigurationError("aliases=: pass a list of other spellings of the issuer's url")

    def _check_tenants(self) -> None:
        count, allowed = self.url.count(TENANT), self.tenants
        if count == 0:
            if allowed is not None:
                raise ConfigurationError(f"tenants=: the issuer's url has no {TENANT}")
            return
        if count > 1:
            raise ConfigurationError(f"Issuer(url): pass {TENANT} once")
        is_list = (
            isinstance(allowed, list | tuple | set | frozenset)
            and len(allowed) > 0
            and all(isinstance(each, str) and re.fullmatch(TENANT_NAME, each) for each in allowed)
        )
        if not callable(allowed) and not is_list:
            raise ConfigurationError(
                f"tenants=: pass the list of tenants that {TENANT} may stand for, or a callable"
                " that takes one and returns True; without it every customer of the provider would"
                " pass"
            )
        if not isinstance(self.max_tenants, int) or self.max_tenants < 1:
            raise ConfigurationError("max_tenants=: keep the keys of at least one tenant")
        if self.introspection is not None:
            raise ConfigurationError(
                "tenants=: not together with introspection=: an opaque token does not name its"
                " issuer, and introspecting it at several would show one tenant's token to"
                " another; give each tenant that introspects an Issuer of its own, and the guard"
                " route_opaque="
            )
        if self.aliases:
            raise ConfigurationError(
                "tenants=: not together with aliases=: pass another Issuer with the other spelling"
            )

    def _check_status_lists(self) -> None:
        lists = self.status_lists
        if not isinstance(lists, list | tuple) or not all(isinstance(each, str) for each in lists):
            raise ConfigurationError(
                'status_lists=: pass a list of URLs such as "https://id.example.com/statuslists/*"'
            )
        for each in lists:
            mistake = status_list.pattern_mistake(each)
            if mistake is None and not self.may_fetch(each):
                mistake = "is no https URL (http is for loopback addresses)"
            if mistake is not None:
                raise ConfigurationError(f"status_lists=: {quoted(each)} {mistake}")
        if self.require_status and not lists:
            raise ConfigurationError("require_status=True: pass status_lists= too")
        if lists and self.shared_secret is not None:
            raise ConfigurationError(
                "status_lists=: not together with shared_secret=: a status list is signed with an"
                " asymmetric key (draft-ietf-oauth-status-list, section 5.1)"
            )

    def _checked_algorithms(self, static_keys: jwk.KeySet | None) -> tuple[str, ...]:
        possible = jwk.ASYMMETRIC if self.shared_secret is None else jwk.SYMMETRIC
        strong = possible
        if self.shared_secret is not None and static_keys is not None:
            fitting = {name for key in static_keys.keys for name in key.algorithms}
            strong = tuple(name for name in possible if name in fitting)
        if self.algorithms is None:
            return strong
        if isinstance(self.algorithms, str) or not self.algorithms:
            raise ConfigurationError("algorithms=: pass a list of algorithm names")
        for name in self.algorithms:
            if name not in possible:
                remedy = "choose from these"
                if name in jwk.SYMMETRIC:
                    remedy = "HS algorithms need shared_secret="
                elif self.shared_secret is None and name in ml_dsa.NAMES:
                    remedy = ml_dsa.MISSING
                raise ConfigurationError(
                    f"algorithms=: {quoted(name)} cannot be used here:"
                    f" {remedy} ({', '.join(possible)})"
                )
            if name not in strong:
                raise ConfigurationError(
                    f"shared_secret=: {name} needs at least {jwk.SECRET_BYTES[name]} bytes"
                    " (RFC 7518 §3.2): make a longer one, or leave it out of algorithms="
                )
        if self.shared_secret is not None and static_keys is not None:
            self._check_no_idle_secret(static_keys)
        return tuple(self.algorithms)

    def _check_no_idle_secret(self, secrets: jwk.KeySet) -> None:
        """Refuse a secret that can verify nothing: nobody would notice that it is too short."""
        chosen = frozenset(self.algorithms or ())
        for place, key in enumerate(secrets.keys, 1):
            if chosen.isdisjoint(key.algorithms):
                raise ConfigurationError(
                    f"shared_secret=: secret {place} of the list fits none of algorithms=: it is"
                    f" too short for {', '.join(sorted(chosen))} (RFC 7518 §3.2), or its alg is"
                    " another"
                )

    def _checked_types(self) -> frozenset[str]:
        if isinstance(self.token_types, str) or not self.token_types:
            raise ConfigurationError('token_types=: pass a list such as ("at+jwt", "JWT")')
        if not all(isinstance(name, str) for name in self.token_types):
            raise ConfigurationError('token_types=: pass a list such as ("at+jwt", "JWT")')
        types = frozenset(jwt.media_type(name) for name in self.token_types)
        foreign = [
            name for name in types if name in _OTHER_KINDS or not re.fullmatch(_TYPE_NAME, name)
        ]
        if foreign:
            raise ConfigurationError(
                f"token_types=: {quoted(sorted(foreign))} are not access tokens:"
                ' choose "at+jwt" and "JWT", or what this issuer calls its access tokens'
            )
        return types | {"jwt"} if self.accept_id_tokens else types

    def _static_keys(self) -> jwk.KeySet | None:
        if self.shared_secret is not None:
            return secrets_from(self.shared_secret)
        if self.keys is not None:
            return keys_from(self.keys)
        return None


def _prepare_claims(issuer: Issuer) -> None:
    """Derive what the checks of the claims work with."""
    required = REQUIRED_STRICT if issuer.strict else REQUIRED
    expected = Expected(frozenset(issuer.audience), required, issuer.leeway)
    object.__setattr__(issuer, "expected", expected)
    alias = issuer.url if issuer.aliases else None
    is_mapped = alias is not None or issuer.claims != ClaimMapping()
    mapping = partial(issuer.claims.standard_claims, issuer=alias) if is_mapped else None
    object.__setattr__(issuer, "standard_claims", mapping)


def _check_kind_of_introspection(value: object) -> None:
    from bearerguard.guard.config.introspection import (  # noqa: PLC0415 - few issuers introspect
        Introspection,
    )

    if not isinstance(value, Introspection):
        raise ConfigurationError(
            "introspection=: pass Introspection(client_id=..., client_secret=...)"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


class IssuerOptions(TypedDict, total=False):
    """The options of `Issuer` that every provider's preset takes besides its own."""

    keys: StaticKeys | None
    jwks_uri: str | None
    discovery_url: str | None
    shared_secret: SharedSecret | Sequence[SharedSecret] | None
    algorithms: Sequence[str] | None
    token_types: Sequence[str]
    accept_id_tokens: bool
    strict: bool
    introspection: Introspection | None
    tokens: TokenHandling
    aliases: Sequence[str]
    tenants: AllowedTenants | None
    max_tenants: int
    claims: ClaimMapping
    checks: Sequence[ClaimCheck]
    key_policy: KeyPolicy
    hints: Mapping[str, str]
    status_lists: Sequence[str]
    require_status: bool
    leeway: float
    insecure_allow_http: bool
    local: LocalTransport | None
