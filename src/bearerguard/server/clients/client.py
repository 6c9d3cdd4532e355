"""A registered client: what it is, what it may do, and each of its options, declared once.

An option is one field of `Client` and its type in `ClientOptions`. The field says how the option
is checked, which flag of `bearerguard client add` sets it, and whether commands show it.
Registration, the store's row and the commands are derived from the fields. Knows no requests.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Any, Protocol, Self, TypeAlias, TypedDict, Unpack

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import client_authentication, names, scope
from bearerguard.protocol.jose import jwk
from bearerguard.server.clients import client_certificates, redirect_uri
from bearerguard.server.settings import OFF, Settings, check_lifetime, is_resource_identifier
from bearerguard.server.store.clients import ClientRow

AUTHORIZATION_CODE = names.AUTHORIZATION_CODE
CLIENT_CREDENTIALS = names.CLIENT_CREDENTIALS
REFRESH_TOKEN = names.REFRESH_TOKEN
# The URNs of extension grants may be given by their last part.
_SHORT = {
    urn.rpartition(":")[2]: urn
    for urn in (names.DEVICE_CODE, names.JWT_BEARER, names.TOKEN_EXCHANGE)
}

# How a client authenticates. The first takes either form of the same secret.
SECRET = "client_secret"  # noqa: S105 - the method's name
BASIC = client_authentication.BASIC
POST = client_authentication.POST
NONE = client_authentication.NONE
PRIVATE_KEY_JWT = client_authentication.PRIVATE_KEY_JWT
WORKLOAD_IDENTITY = "workload_identity"
TLS_CLIENT_AUTH = client_authentication.TLS_CLIENT_AUTH
SELF_SIGNED_TLS_CLIENT_AUTH = client_authentication.SELF_SIGNED_TLS_CLIENT_AUTH
WITH_SECRET = frozenset({SECRET, BASIC, POST})

# Who registered a client that no operator did: itself (RFC 7591), or its metadata document.
BY_REQUEST, BY_DOCUMENT = "request", "document"

MAX_ID = 200
_MAX_NAME = 100
# More accents above each other than any script has.
_MAX_MARKS = 4
_ORIGIN = re.compile(r"(https?)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([1-9][0-9]{0,4}))?")
_MAX_PORT = 65_535
# The pages of an app or of a browser's extension come from a scheme of its own.
_APP_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://[a-z0-9._-]+")
# How the ids of our own users begin (see `accounts`).
_USERS = "user-"
# Letters that are drawn as nothing, though they are printable.
_BLANK = re.compile("[\u115f\u1160\u2800\u3164\uffa0]")


class Names(Iterable[str], Protocol):
    """What is registered with a server under a name: its grants, or its authentication methods."""

    def is_allowed(self, name: str) -> bool:
        """Whether a client may be registered for a name."""
        ...


@dataclass(frozen=True, slots=True)
class Rules:
    """What a new client is checked against."""

    settings: Settings
    grants: Names
    methods: Names


class Kind(Enum):
    """The types that an option may have."""

    TEXT = "text"
    NAMES = "a list of text"
    FLAG = "True or False"
    SECONDS = "a number of seconds"
    JSON = "a JSON object"


_CLASSES: Mapping[Kind, Any] = {
    Kind.TEXT: str,
    Kind.NAMES: tuple,
    Kind.FLAG: bool,
    Kind.SECONDS: int | float,
    Kind.JSON: Mapping,
}


@dataclass(frozen=True, slots=True)
class Option:
    """How one option of a client is given, checked and shown.

    Attributes:
        default: its value where none is given.
        kind: its type.
        flag: what sets it in `bearerguard client add`.
        help: the flag's help text.
        check: raises `ConfigurationError` unless a client, with all of its options, may have it.
        normalize: returns the names that are stored for those that were given.
        shown: whether commands show it.
    """

    default: Any
    kind: Kind
    flag: str
    help: str
    check: Callable[[Client, Rules], None] | None = None
    normalize: Callable[[tuple[str, ...], Settings], tuple[str, ...]] | None = None
    shown: bool = True


class OptionRules(TypedDict, total=False):
    """What an `Option` may have besides."""

    check: Callable[[Client, Rules], None]
    normalize: Callable[[tuple[str, ...], Settings], tuple[str, ...]]
    shown: bool


def option(default: Any, kind: Kind, flag: str, text: str, **more: Unpack[OptionRules]) -> Any:
    """Declare an option: a field of `Client` with what `Option` says."""
    return field(
        default=default,
        hash=None if kind is not Kind.JSON else False,
        metadata={"option": Option(default, kind, flag, text, **more)},
    )


# What gives a server the methods that it does not have by default.
_SWITCHED_ON_BY = {
    TLS_CLIENT_AUTH: "pass mutual_tls=MutualTls(..., authorities=) to AuthorizationServer, or ",
    SELF_SIGNED_TLS_CLIENT_AUTH: "pass mutual_tls=MutualTls(...) to AuthorizationServer, or ",
}


def _check_auth_method(client: Client, rules: Rules) -> None:
    if not rules.methods.is_allowed(client.auth_method):
        remedy = _SWITCHED_ON_BY.get(client.auth_method, "")
        raise ConfigurationError(
            f"auth_method=: {quoted(client.auth_method)} is no method of this server: {remedy}"
            f"choose from {', '.join(rules.methods)}"
        )


def _check_grant_types(client: Client, rules: Rules) -> None:
    unknown = [name for name in client.grant_types if not rules.grants.is_allowed(name)]
    if unknown:
        raise ConfigurationError(
            f"grant_types=: {quoted(unknown[0])} is none of {', '.join(rules.grants)}"
        )
    if not client.is_confidential and CLIENT_CREDENTIALS in client.grant_types:
        raise ConfigurationError(
            "grant_types=: a public client has no credentials for client_credentials"
        )
    if not client.is_confidential and names.TOKEN_EXCHANGE in client.grant_types:
        raise ConfigurationError(
            "grant_types=: a public client must not exchange tokens: anybody can pose as it"
        )


def _check_redirect_uris(client: Client, _rules: Rules) -> None:
    for uri in client.redirect_uris:
        redirect_uri.check(uri)
    if AUTHORIZATION_CODE in client.grant_types and not client.redirect_uris:
        raise ConfigurationError("redirect_uris=: authorization_code needs at least one")
    if not client.grant_types and not client.is_confidential:
        raise ConfigurationError(
            "redirect_uris=: a public client without one can get no token: pass the URIs to which"
            " users are sent back, or the grant type device_code for a device that has none"
        )


def _check_scopes(client: Client, rules: Rules) -> None:
    known = rules.settings.scopes
    for name in client.scopes:
        if not scope.is_scope_token(name):
            raise ConfigurationError(f"scopes=: {quoted(name)} is no scope (RFC 6749 §3.3)")
        if known is not None and name not in known:
            raise ConfigurationError(
                f"scopes=: the server has no scope {quoted(name)}:"
                f" add it to AuthorizationServer(scopes=), or choose from {list(known)}"
            )


def _long_names(given: tuple[str, ...], _settings: Settings) -> tuple[str, ...]:
    """Return grant types as requests name them."""
    return tuple(_SHORT.get(each, each) for each in given)


def _registered_spelling(given: tuple[str, ...], settings: Settings) -> tuple[str, ...]:
    """Return resources as the server spells them; what it does not know stays as it is."""
    if settings.any_resource:
        return given
    found = [(each, settings.resource(each)) for each in given]
    return tuple(each if known is None else known.identifier for each, known in found)


def _check_introspects(client: Client, rules: Rules) -> None:
    _check_resources("introspects", client.introspects, rules.settings)


def _check_exchanges_for(client: Client, rules: Rules) -> None:
    _check_resources("exchanges_for", client.exchanges_for, rules.settings)
    if client.exchanges_for and names.TOKEN_EXCHANGE not in client.grant_types:
        raise ConfigurationError(
            "exchanges_for=: the client does not exchange tokens: add token-exchange to"
            " grant_types="
        )


def _check_resources(option: str, given: Iterable[str], settings: Settings) -> None:
    for resource in given:
        if not is_resource_identifier(resource):
            raise ConfigurationError(
                f"{option}=: {quoted(resource)} is no absolute URI without a fragment (RFC 8707 §2)"
            )
        if settings.resource(resource) is None and not settings.any_resource:
            known = [each.identifier for each in settings.resources]
            raise ConfigurationError(
                f"{option}=: the server has no resource {quoted(resource)}:"
                f" add it to AuthorizationServer(resources=), or choose from {known}"
            )


def _check_workload(client: Client, _rules: Rules) -> None:
    given = client.workload_issuer is not None or bool(client.workload_claims)
    if client.auth_method != WORKLOAD_IDENTITY:
        if given:
            raise ConfigurationError(
                f"workload_issuer=: a client with auth_method={client.auth_method!r} is no"
                f" workload: choose {WORKLOAD_IDENTITY!r}"
            )
        return
    if not client.workload_issuer:
        raise ConfigurationError(
            "workload_issuer=: a client with workload_identity needs it: pass the URL of the"
            " TrustedIssuer that issues its tokens"
        )
    pairs = [each.partition("=") for each in client.workload_claims]
    if not pairs or not all(name and value for name, _, value in pairs):
        raise ConfigurationError(
            "workload_claims=: pass what the claims of the workload's token are, each as"
            ' "name=value", such as "sub=system:serviceaccount:shop:agent"'
        )


def _check_origins(client: Client, _rules: Rules) -> None:
    for origin in client.origins:
        if not _is_origin(origin):
            raise ConfigurationError(
                f"origins=: {quoted(origin)} is no origin such as https://app.example.com,"
                " in small letters and without a default port"
            )


def _check_require_pkce(client: Client, _rules: Rules) -> None:
    if not client.is_confidential and not client.require_pkce:
        raise ConfigurationError("require_pkce=: a public client must use PKCE (RFC 9700 §2.1.1)")


def _check_require_consent(client: Client, _rules: Rules) -> None:
    if not client.require_consent and not client.is_identified:
        raise ConfigurationError(
            "require_consent=: anybody can pose as a public client without an https redirect URI:"
            " let users be asked (RFC 8252 §8.6)"
        )


def _check_dpop_bound(client: Client, rules: Rules) -> None:
    if client.dpop_bound_access_tokens and rules.settings.dpop == OFF:
        raise ConfigurationError(
            'dpop_bound_access_tokens=: the server reads no DPoP proofs: pass dpop="allowed" to'
            " AuthorizationServer"
        )


def _check_require_par(client: Client, _rules: Rules) -> None:
    if (
        client.require_pushed_authorization_requests
        and AUTHORIZATION_CODE not in client.grant_types
    ):
        raise ConfigurationError(
            "require_pushed_authorization_requests=: the client makes no authorization requests:"
            " add authorization_code to grant_types=, or leave it out"
        )


def _check_certificate_name(client: Client, _rules: Rules) -> None:
    needed = client.auth_method == TLS_CLIENT_AUTH
    if needed != (client.certificate_name is not None):
        raise ConfigurationError(
            "certificate_name=: a client with tls_client_auth needs it: pass a name that its"
            ' certificate has, such as "san_dns=client.example.com"'
            if needed
            else f"certificate_name=: a client with auth_method={client.auth_method!r} has none:"
            f" choose {TLS_CLIENT_AUTH!r}"
        )
    if needed:
        client_certificates.check_name(client.certificate_name)


def _check_certificate_bound(client: Client, rules: Rules) -> None:
    settings = rules.settings
    if (
        client.tls_client_certificate_bound_access_tokens
        and settings.mutual_tls is None
        and not settings.any_resource
    ):
        raise ConfigurationError(
            "tls_client_certificate_bound_access_tokens=: the server takes no certificates: pass"
            ' mutual_tls=MutualTls("tls") to AuthorizationServer, or the name of your proxy'
        )


def _check_jwks(client: Client, _rules: Rules) -> None:
    keys = (client.jwks or {}).get("keys")
    for key in keys if isinstance(keys, list) else ():
        # It would be stored as it is, and shown to whoever registers the client.
        if isinstance(key, Mapping) and not jwk.PRIVATE_MEMBERS.isdisjoint(key):
            raise ConfigurationError(
                f"jwks=: a key has the private member {min(jwk.PRIVATE_MEMBERS & set(key))!r}: pass"
                " public keys alone, and replace this one: it is no secret any more"
            )
    if client.auth_method == SELF_SIGNED_TLS_CLIENT_AUTH:
        if not client_certificates.registered_thumbprints(client.jwks):
            raise ConfigurationError(
                "jwks=: a client with self_signed_tls_client_auth needs its certificate: pass"
                " jwks=, a JWK Set whose keys have x5c or x5t#S256 (RFC 8705 §2.2.2)"
            )
        return
    if client.jwks is None:
        if client.auth_method == PRIVATE_KEY_JWT:
            raise ConfigurationError(
                "jwks=: a client with private_key_jwt needs keys: pass jwks=, a JWK"
                " Set of its public keys"
            )
        return
    if client.auth_method in WITH_SECRET or not client.is_confidential:
        raise ConfigurationError(
            f"jwks=: a client with auth_method={client.auth_method!r} has no keys:"
            " choose 'private_key_jwt'"
        )
    try:
        jwk.parse_jwks(client.jwks)
    except ValueError as error:
        raise ConfigurationError(f"jwks=: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered client (RFC 6749 §2).

    `client_id` and `name` are as `ClientRegistry.add` takes them, `created_at` is in Unix
    seconds, and `ClientOptions` describes the options. `registered_by` is None for a client of
    the operator's, "request" for one that registered itself (RFC 7591), and "document" for one
    that its metadata document describes.
    """

    client_id: str
    name: str
    auth_method: str = option(
        SECRET,
        Kind.TEXT,
        "--auth-method",
        "The authentication method; client_secret by default.",
        check=_check_auth_method,
    )
    grant_types: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--grant-type",
        "A grant type that the client may use; repeatable. By default authorization_code,"
        " refresh_token and client_credentials, as far as they fit; device_code, jwt-bearer and"
        " token-exchange only if they are named.",
        check=_check_grant_types,
        normalize=_long_names,
    )
    redirect_uris: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--redirect-uri",
        "A redirect URI of the client; repeatable.",
        check=_check_redirect_uris,
    )
    scopes: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--scope",
        "A scope that the client may request; repeatable.",
        check=_check_scopes,
    )
    introspects: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--introspects",
        "The URI of an API whose tokens the client may introspect; repeatable.",
        check=_check_introspects,
        normalize=_registered_spelling,
    )
    exchanges_for: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--exchanges-for",
        "The URI of an API for which the client may exchange tokens of other APIs; repeatable.",
        check=_check_exchanges_for,
        normalize=_registered_spelling,
    )
    origins: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--origin",
        "An origin of the client's pages, for CORS; repeatable.",
        check=_check_origins,
    )
    require_pkce: bool = option(
        True,  # noqa: FBT003 - the default
        Kind.FLAG,
        "--require-pkce/--unsafe-without-pkce",
        "Whether the client must use PKCE (RFC 7636).",
        check=_check_require_pkce,
    )
    require_consent: bool = option(
        True,  # noqa: FBT003 - the default
        Kind.FLAG,
        "--require-consent/--without-consent",
        "Whether users are asked for consent.",
        check=_check_require_consent,
    )
    dpop_bound_access_tokens: bool = option(
        False,  # noqa: FBT003 - the default
        Kind.FLAG,
        "--dpop-bound/--dpop-unbound",
        "Whether each token request of the client needs a DPoP proof (RFC 9449).",
        check=_check_dpop_bound,
    )
    require_pushed_authorization_requests: bool = option(
        False,  # noqa: FBT003 - the default
        Kind.FLAG,
        "--require-par/--without-par",
        "Whether the client must push its authorization requests (RFC 9126).",
        check=_check_require_par,
    )
    certificate_name: str | None = option(
        None,
        Kind.TEXT,
        "--certificate-name",
        "A name that the client's certificate has, as KIND=NAME, for tls_client_auth.",
        check=_check_certificate_name,
    )
    tls_client_certificate_bound_access_tokens: bool = option(
        False,  # noqa: FBT003 - the default
        Kind.FLAG,
        "--certificate-bound/--certificate-unbound",
        "Whether each access token of the client is bound to its certificate (RFC 8705).",
        check=_check_certificate_bound,
    )
    jwks: Mapping[str, Any] | None = option(
        None,
        Kind.JSON,
        "--jwks",
        "A file with the client's public keys (a JWK Set), for private_key_jwt, or with its"
        " certificates, for self_signed_tls_client_auth.",
        check=_check_jwks,
        shown=False,
    )
    workload_issuer: str | None = option(
        None,
        Kind.TEXT,
        "--workload-issuer",
        "The trusted issuer whose tokens authenticate the client, for workload_identity.",
        check=_check_workload,
    )
    workload_claims: tuple[str, ...] = option(
        (),
        Kind.NAMES,
        "--workload-claim",
        "A claim that the workload's token must have, as NAME=VALUE; repeatable.",
    )
    access_token_lifetime: float | None = option(
        None,
        Kind.SECONDS,
        "--access-token-lifetime",
        "Seconds until an access token expires; the server's value by default.",
    )
    refresh_token_lifetime: float | None = option(
        None,
        Kind.SECONDS,
        "--refresh-token-lifetime",
        "Seconds until an unused refresh token expires; the server's value by default.",
    )
    refresh_token_max_lifetime: float | None = option(
        None,
        Kind.SECONDS,
        "--refresh-token-max-lifetime",
        "Seconds from a user's consent until the last refresh token expires; the server's value"
        " by default.",
    )
    created_at: float = 0.0
    registered_by: str | None = None

    @property
    def is_confidential(self) -> bool:
        """Whether it can authenticate (RFC 6749 §2.1)."""
        return self.auth_method != NONE

    @property
    def is_operators_alone(self) -> bool:
        """Whether nobody but the operator's own client can send its requests.

        Anybody can pose as a public client, and anybody may have registered one.
        """
        return self.is_confidential and self.registered_by is None

    @property
    def counted_as(self) -> str:
        """What its requests are counted as where those of all addresses have a limit: its id.

        All clients that no operator registered are counted as one: anybody can have more of them.
        """
        return self.client_id if self.registered_by is None else ""

    @property
    def is_identified(self) -> bool:
        """Whether nobody else can pose as it to a user: it has credentials, or a host of its own.

        A loopback address or a private scheme is anybody's (RFC 8252 §8.6), and so is the id of a
        public client that has no redirect URI.
        """
        return self.is_confidential or (
            bool(self.redirect_uris) and all(uri.startswith("https:") for uri in self.redirect_uris)
        )

    def is_workload(self, claims: Mapping[str, Any]) -> bool:
        """Whether the claims of a workload's token, which are valid, are those registered."""
        pairs = [each.partition("=") for each in self.workload_claims]
        return (
            self.auth_method == WORKLOAD_IDENTITY
            and claims["iss"] == self.workload_issuer
            and bool(pairs)
            and all(claims.get(name) == value for name, _, value in pairs)
        )

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Return the client of a row of the store; an option that the row lacks has its default."""
        stored: dict[str, Any] = json.loads(row.options)
        known: dict[str, Any] = {
            name: tuple(stored[name]) if each.kind is Kind.NAMES else stored[name]
            for name, each in options(cls).items()
            if name in stored
        }
        return cls(
            client_id=row.client_id,
            name=row.name,
            created_at=row.created_at,
            registered_by=row.registered_by,
            **known,
        )

    def to_row(self) -> ClientRow:
        """Return the client as values for a row of the store.

        All options are in one JSON object. What queries look for is also in columns.
        """
        stored = {name: getattr(self, name) for name in options(type(self))}
        return {
            "client_id": self.client_id,
            "name": self.name,
            "options": json.dumps(stored, default=dict),
            "access_lifetime": self.access_token_lifetime,
            "created_at": self.created_at,
        }

    def shown(self) -> dict[str, Any]:
        """Return the options that commands show."""
        return {
            name: getattr(self, name) for name, each in options(type(self)).items() if each.shown
        }


class ClientOptions(TypedDict, total=False):
    """The options of a client, as `ClientRegistry.add` takes them.

    Attributes:
        auth_method: how it authenticates: "client_secret" (either of the next two),
            "client_secret_basic", "client_secret_post", "private_key_jwt", "tls_client_auth",
            "self_signed_tls_client_auth", "workload_identity", "none", or one that
            `AuthorizationServer.authentication_methods` has besides. By default "none" for a public
            client, "private_key_jwt" with `jwks`, "workload_identity" with `workload_issuer`,
            "tls_client_auth" with `certificate_name`, and else "client_secret".
        grant_types: the grant types that it may use, of those that the server has; by default
            authorization_code, refresh_token and client_credentials as far as they fit.
            "device_code", "jwt-bearer" and "token-exchange" stand for their URNs.
        redirect_uris: where users may be sent back to, compared character by character.
        scopes: the scopes that it may request, and gets when it requests none.
        introspects: the URIs of the APIs whose tokens it may introspect.
        exchanges_for: the URIs of the APIs for which it may exchange tokens of other APIs.
        origins: the origins of its pages, which may call the token endpoint (CORS); also those
            of an app in a web view, such as "capacitor://localhost".
        require_pkce: False lets a confidential client do without PKCE. Then it must send its
            redirect_uri to the token endpoint too.
        require_consent: False for a first-party app, whose users are not asked for consent.
        dpop_bound_access_tokens: True if all its access tokens are bound to its key: each of its
            token requests needs a DPoP proof (RFC 9449 §5.2).
        require_pushed_authorization_requests: True if it must push its authorization requests
            (RFC 9126 §6).
        certificate_name: a name that its certificate has, for tls_client_auth: "subject_dn=" with
            a DN (RFC 4514), or "san_dns=", "san_uri=", "san_ip=" or "san_email=" (RFC 8705 §2.1.2).
        tls_client_certificate_bound_access_tokens: True if all its access tokens are bound to the
            certificate that it presents: each of its token requests needs one (RFC 8705 §3).
        jwks: its public keys, a JWK Set, for private_key_jwt; or its certificates, each in the
            `x5c` or `x5t#S256` of a key, for self_signed_tls_client_auth.
        workload_issuer: the trusted issuer whose tokens authenticate it (workload_identity).
        workload_claims: what the claims of these tokens must be, each as "name=value".
        access_token_lifetime: seconds until an access token expires, instead of the server's.
        refresh_token_lifetime: seconds until an unused refresh token expires.
        refresh_token_max_lifetime: seconds from the user's consent until the last refresh token
            expires.
    """

    auth_method: str | None
    grant_types: Sequence[str] | None
    redirect_uris: Sequence[str]
    scopes: Sequence[str]
    introspects: Sequence[str]
    exchanges_for: Sequence[str]
    origins: Sequence[str]
    require_pkce: bool
    require_consent: bool
    dpop_bound_access_tokens: bool
    require_pushed_authorization_requests: bool
    certificate_name: str | None
    tls_client_certificate_bound_access_tokens: bool
    jwks: Mapping[str, Any] | None
    workload_issuer: str | None
    workload_claims: Sequence[str]
    access_token_lifetime: float | None
    refresh_token_lifetime: float | None
    refresh_token_max_lifetime: float | None


Options: TypeAlias = Mapping[str, Option]


def options(cls: type[Client] = Client) -> Options:
    """Return the options of a client by their names."""
    return {each.name: each.metadata["option"] for each in fields(cls) if each.metadata}


def normalized(name: str, value: object, settings: Settings, cls: type[Client] = Client) -> Any:
    """Return the value of an option as a client has it; raises `ConfigurationError`."""
    each = options(cls)[name]
    if each.kind is Kind.NAMES:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ConfigurationError(f"{name}=: pass {Kind.NAMES.value}, not {quoted(value)}")
        given = tuple(value)
        if not all(isinstance(text, str) for text in given):
            raise ConfigurationError(f"{name}=: pass {Kind.NAMES.value}, not {quoted(value)}")
        stored = given if each.normalize is None else each.normalize(given, settings)
        return tuple(dict.fromkeys(stored))
    if each.kind is Kind.SECONDS and value is not None:
        check_lifetime(f"{name}=", value)
    elif not isinstance(value, _CLASSES[each.kind]) and value is not each.default:
        raise ConfigurationError(f"{name}=: pass {each.kind.value}")
    return value


def check(client: Client, rules: Rules) -> None:
    """Raise `ConfigurationError` unless the client may be registered."""
    _check_names(client)
    for each in options(type(client)).values():
        if each.check is not None:
            each.check(client, rules)


def _check_names(client: Client) -> None:
    usable = all("!" <= letter <= "~" for letter in client.client_id)
    if not usable or not 0 < len(client.client_id) <= MAX_ID:
        raise ConfigurationError(
            f"client_id=: choose 1 to {MAX_ID} printable ASCII characters without spaces"
        )
    if client.client_id.startswith(_USERS):
        raise ConfigurationError(f"client_id=: {_USERS}… are users' ids (RFC 9700 §4.15)")
    if not _is_readable(client.name):
        raise ConfigurationError(
            f"name=: choose a readable name of 1 to {_MAX_NAME} visible characters"
        )


def _is_readable(name: object) -> bool:
    """Whether a page may show it: nothing invisible, nothing that overlaps other text."""
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME or not name.isprintable():
        return False
    marks = "".join("m" if unicodedata.category(each)[0] == "M" else "." for each in name)
    return name == " ".join(name.split()) and "m" * (_MAX_MARKS + 1) not in marks


def readable(name: object, fallback: str) -> str:
    """Return a stranger's name for itself as a page may show it, or `fallback`.

    Without control characters, such as those that change the direction of the text around them.
    """
    text = _BLANK.sub("", name) if isinstance(name, str) else ""
    kept = "".join(each for each in text if each.isprintable() or each.isspace())
    shown = " ".join(kept.split())[:_MAX_NAME].rstrip()
    return shown if _is_readable(shown) else fallback


def _is_origin(text: str) -> bool:
    """Whether it is an origin as browsers write one (RFC 6454 §6.1).

    They write it in small letters and without a default port; they know no wildcard. Any other
    spelling would never match. Web views write an app's own scheme: `capacitor://localhost`.
    """
    if not text.isascii():
        return False
    of_app = _APP_ORIGIN.fullmatch(text)
    private = of_app is not None and redirect_uri.may_be_private(of_app[1])
    return private or is_web_origin(text)


def is_web_origin(text: str) -> bool:
    """Whether it is an origin of http or https, as browsers write it."""
    found = _ORIGIN.fullmatch(text)
    if found is None:
        return False
    scheme, port = found.groups()
    usual = {"http": "80", "https": "443"}[scheme]
    return port is None or (port != usual and int(port) <= _MAX_PORT)
