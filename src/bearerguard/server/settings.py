"""The options of a server as values that check themselves. No state, no I/O; times are seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import metadata, scope
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose import jwk, ml_dsa
from bearerguard.server.mutual_tls import MutualTls

DAY = 86_400.0
# What happens to scopes that the server or the client does not have (RFC 6749 §3.3).
UnknownScopes: TypeAlias = Literal["ignore", "refuse"]
IGNORE: UnknownScopes = "ignore"
SigningAlgorithm: TypeAlias = Literal[
    "RS256", "ES256", "EdDSA", "Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"
]
# Whether a client may, must or cannot bind its access tokens to a key (RFC 9449).
Dpop: TypeAlias = Literal["off", "allowed", "required"]
OFF: Dpop = "off"
ALLOWED: Dpop = "allowed"
REQUIRED: Dpop = "required"
PREFIX = "BEARERGUARD_SERVER_"
# What is read from the environment: the secret by every server, the others by the commands.
VARIABLES = frozenset(
    PREFIX + name
    for name in (
        *("SECRET", "STORE", "ISSUER", "SCOPES", "RESOURCES", "ALGORITHM", "KEY_LIFETIME"),
        *("ACCESS_TOKEN_LIFETIME", "REFRESH_TOKEN_LIFETIME", "REFRESH_TOKEN_MAX_LIFETIME"),
        *("REFRESH_GRACE", "CODE_LIFETIME", "SECRET_OVERLAP", "UNKNOWN_SCOPES"),
        *("PUSHED_REQUEST_LIFETIME", "REQUIRE_PAR", "DEVICE_CODE_LIFETIME"),
        *("ACCEPT_ENDPOINT_AUDIENCES", "TRUSTED_PROXIES", "TRUSTED_ISSUERS", "DPOP", "DPOP_NONCES"),
        *("CLIENT_METADATA", "CLIENT_METADATA_HOSTS", "REGISTRATION", "REGISTRATION_TOKEN"),
        *("PERSONAL_TOKENS",),
        *("REVOCATIONS_STORE", "REVOCATIONS_SECRET", "THROTTLE_STORE", "HEALTH_PATH"),
        *("MUTUAL_TLS", "MUTUAL_TLS_AUTHORITIES", "MUTUAL_TLS_URL"),
        *("POWERFUL_SCOPES", "SITE_NAME", "LOGO", "COLOR", "COLOR_DARK"),
        *("UPSTREAM", "UPSTREAM_CLIENT_ID", "UPSTREAM_SECRET", "UPSTREAM_NAME", "UPSTREAM_DOMAINS"),
        "PASSWORD_LOGIN",
        *("LOG_FORMAT", "SECRET_FILE", "CONFIG", "WORKERS", "SHUTDOWN_DELAY", "METRICS_PATH"),
    )
)
# RFC 6749 §4.1.2 recommends ten minutes at most.
_MAX_CODE_LIFETIME = 600.0
# RFC 9126 §2.2 suggests 5 to 600 seconds.
_MAX_PUSHED_LIFETIME = 600.0
# The longer user codes live, the more of them there are to guess (RFC 8628 §5.1).
_MAX_DEVICE_CODE_LIFETIME = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lifetimes:
    """The lifetimes of tokens, codes and old client secrets, in seconds.

    Args:
        access_token: of an access token, unless its resource or client has a lifetime of its own.
        refresh_token: until an unused refresh token expires.
        refresh_token_max: from the user's consent to the last refresh.
        refresh_grace: in which a client whose response got lost may repeat a refresh; 0 for none.
        code: of an authorization code; 600 at most (RFC 6749 §4.1.2).
        client_secret_overlap: for which a client's old secret stays valid beside a new one.
        pushed_request: in which a user must arrive with a pushed authorization request; 600 at most
            (RFC 9126 §2.2).
        device_code: in which somebody must allow what a device asks for, and the device must get
            its tokens; 3600 at most (RFC 8628 §3.2).

    Raises:
        ConfigurationError: one is no number of seconds, or does not fit another.
    """

    access_token: float = 3600
    refresh_token: float = 30 * DAY
    refresh_token_max: float = 180 * DAY
    refresh_grace: float = 10
    code: float = 60
    client_secret_overlap: float = DAY
    pushed_request: float = 60
    device_code: float = 600

    def __post_init__(self) -> None:
        for name in (
            *("access_token", "refresh_token", "refresh_token_max", "code"),
            *("pushed_request", "device_code"),
        ):
            check_lifetime(f"Lifetimes({name}=)", getattr(self, name))
        for name in ("refresh_grace", "client_secret_overlap"):
            check_duration(f"Lifetimes({name}=)", getattr(self, name))
        if self.code > _MAX_CODE_LIFETIME:
            raise ConfigurationError(
                f"Lifetimes(code=): {_MAX_CODE_LIFETIME:.0f} seconds at most (RFC 6749 §4.1.2)"
            )
        if self.pushed_request > _MAX_PUSHED_LIFETIME:
            raise ConfigurationError(
                f"Lifetimes(pushed_request=): {_MAX_PUSHED_LIFETIME:.0f} seconds at most"
                " (RFC 9126 §2.2)"
            )
        if self.device_code > _MAX_DEVICE_CODE_LIFETIME:
            raise ConfigurationError(
                f"Lifetimes(device_code=): {_MAX_DEVICE_CODE_LIFETIME:.0f} seconds at most: user"
                " codes are short, and must not be guessed (RFC 8628 §5.1)"
            )
        if self.refresh_token_max < self.refresh_token:
            raise ConfigurationError(
                "Lifetimes(refresh_token_max=): must not be shorter than refresh_token="
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKeys:
    """How a server's signing keys are made.

    Args:
        algorithm: of new keys: "RS256", "ES256" (RFC 7518 §3.1), "EdDSA" (RFC 8037 §3.1), the same
            by its newer name "Ed25519" (RFC 9864 §2.2), or "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"
            (RFC 9964).
        lifetime: seconds after which a new key replaces it.

    Raises:
        ConfigurationError: the algorithm is none of these, or cryptography does not have it, or
            the lifetime is no number of seconds.
    """

    algorithm: SigningAlgorithm = "RS256"
    lifetime: float = 90 * DAY

    def __post_init__(self) -> None:
        check_lifetime("SigningKeys(lifetime=)", self.lifetime)
        if self.algorithm not in get_args(SigningAlgorithm):
            raise ConfigurationError(
                f"SigningKeys(algorithm=): {quoted(self.algorithm)} is none of"
                f" {', '.join(get_args(SigningAlgorithm))}"
            )
        if self.algorithm not in jwk.ASYMMETRIC:
            raise ConfigurationError(f"SigningKeys(algorithm=): {ml_dsa.MISSING}")


@dataclass(frozen=True, slots=True)
class Resource:
    """An API that tokens are for (RFC 8707).

    Args:
        identifier: its URI, the `aud` of its tokens.
        tokens: "jwt" (RFC 9068), which the API validates itself, or "opaque", which it must
            introspect (RFC 7662).
        access_token_lifetime: seconds, instead of the server's lifetime.

    Raises:
        ConfigurationError: the identifier is no absolute URI, or another argument is wrong.
    """

    identifier: str
    tokens: Literal["jwt", "opaque"] = "jwt"
    access_token_lifetime: float | None = None
    # For comparison with other spellings; tokens contain the identifier as it is given.
    normalized: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not is_resource_identifier(self.identifier):
            raise ConfigurationError(
                f"resources=: {quoted(self.identifier)} is no absolute URI without a fragment"
                " (RFC 8707 §2)"
            )
        object.__setattr__(self, "normalized", uri.normalized(self.identifier))
        if self.tokens not in {"jwt", "opaque"}:
            raise ConfigurationError('Resource(tokens=): choose "jwt" or "opaque"')
        if self.access_token_lifetime is not None:
            check_lifetime("Resource(access_token_lifetime=)", self.access_token_lifetime)


@dataclass(frozen=True, slots=True)
class Scope:
    """A scope as the consent page shows it.

    Args:
        description: what a client can do with it, for people: "See your recordings".
        powerful: whether the page marks it, because it allows much or cannot be undone.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    description: str
    powerful: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.description, str) or not self.description.strip():
            raise ConfigurationError(
                'Scope(description=): say what it allows: Scope("Delete your recordings")'
            )
        if not isinstance(self.powerful, bool):
            raise ConfigurationError("Scope(powerful=): pass True or False")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The options of a server; see `AuthorizationServer`.

    Without `resources`, the issuer's own URL is the API.
    """

    issuer: str
    resources: tuple[Resource, ...]
    scopes: Mapping[str, str | Scope] | None
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    signing: SigningKeys = field(default_factory=SigningKeys)
    accept_endpoint_audiences: bool = False
    unknown_scopes: UnknownScopes = IGNORE
    insecure_allow_http: bool = False
    dpop: Dpop = ALLOWED
    dpop_nonces: bool = False
    mutual_tls: MutualTls | None = None
    require_par: bool = False
    # `PersonalTokens(api_scope=)`: whoever has it makes tokens that live for a year.
    api_scope: str | None = None
    # True if the resources and grants are known to other processes only: a command has no options.
    any_resource: bool = False

    def __post_init__(self) -> None:
        self._check_issuer()
        if not self.resources:
            object.__setattr__(self, "resources", (Resource(self.issuer),))
        self._check_scopes()
        given: object
        for option, given, kind in (
            ("lifetimes", self.lifetimes, Lifetimes),
            ("signing", self.signing, SigningKeys),
        ):
            if not isinstance(given, kind):
                raise ConfigurationError(f"{option}=: pass {kind.__name__}(...)")
        if self.unknown_scopes not in {"ignore", "refuse"}:
            raise ConfigurationError('unknown_scopes=: choose "ignore" or "refuse"')
        if self.dpop not in get_args(Dpop):
            raise ConfigurationError(
                'dpop=: choose "allowed", "required" or "off" (RFC 9449): whether clients may,'
                " must or cannot bind their tokens to a key"
            )
        if not isinstance(self.dpop_nonces, bool):
            raise ConfigurationError("dpop_nonces=: pass True or False")
        if not isinstance(self.require_par, bool):
            raise ConfigurationError("require_par=: pass True or False")
        if self.mutual_tls is not None and not isinstance(self.mutual_tls, MutualTls):
            raise ConfigurationError('mutual_tls=: pass MutualTls(...), such as MutualTls("nginx")')
        if self.dpop_nonces and self.dpop == OFF:
            raise ConfigurationError(
                'dpop_nonces=: with dpop="off" no proof is read: pass dpop="allowed", or leave'
                " dpop_nonces= out"
            )

    def url(self, path: str) -> str:
        """Return the URL of one of this server's paths."""
        return self.issuer.rstrip("/") + path

    @property
    def base_path(self) -> str:
        """The path of the issuer's URL, without a slash at its end; endpoints are below it."""
        return urlsplit(self.issuer).path.rstrip("/")

    @property
    def longest_access_lifetime(self) -> float:
        """The longest lifetime of an access token, unless its client has a lifetime of its own."""
        chosen = (each.access_token_lifetime or 0.0 for each in self.resources)
        return max(self.lifetimes.access_token, *chosen)

    def resource(self, name: str) -> Resource | None:
        """Return the resource of a URI in any spelling (RFC 3986 §6.2), or None."""
        # Nearly always as it is spelled here; normalising takes much longer.
        exact = next((each for each in self.resources if each.identifier == name), None)
        if exact is not None:
            return exact
        wanted = uri.normalized(name)
        return next((each for each in self.resources if each.normalized == wanted), None)

    def scopes_of_strangers(self, option: str, chosen: Sequence[str] | None) -> tuple[str, ...]:
        """Return the scopes that clients may have that no operator registered.

        `chosen` are those of the option. The scope of the API of personal tokens is none of them.
        Raises `ConfigurationError` if there are none.
        """
        known = self.scopes
        if known is None and chosen is None:
            raise ConfigurationError(
                f"{option}: name the scopes that clients may have which nobody registered:"
                " AuthorizationServer(scopes=), or its own scopes="
            )
        names = tuple(known or ()) if chosen is None else tuple(dict.fromkeys(chosen))
        unknown = [name for name in names if known is not None and name not in known]
        if unknown:
            raise ConfigurationError(
                f"{option}: the server has no scope {quoted(unknown[0])}: add it to"
                f" AuthorizationServer(scopes=), or choose from {list(known or ())}"
            )
        if chosen is not None and self.api_scope in names:
            raise ConfigurationError(
                f"{option}: leave out {quoted(self.api_scope)}, which is"
                " PersonalTokens(api_scope=): register the clients that make personal tokens"
            )
        return tuple(name for name in names if name != self.api_scope)

    def describe(self, name: str) -> str:
        """Return the description of a scope, or its name."""
        found = (self.scopes or {}).get(name)
        return (found.description if isinstance(found, Scope) else found) or name

    def is_powerful(self, name: str) -> bool:
        """Whether the consent page marks a scope."""
        found = (self.scopes or {}).get(name)
        return name == self.api_scope or (isinstance(found, Scope) and found.powerful)

    def _check_issuer(self) -> None:
        url: object = self.issuer
        mistake = metadata.issuer_mistake(url) if isinstance(url, str) else ""
        if mistake:
            raise ConfigurationError(f"AuthorizationServer(issuer): {quoted(url)} {mistake}")
        usable = isinstance(url, str) and (
            metadata.is_https(url)
            or metadata.is_loopback_http(url)
            or (self.insecure_allow_http and metadata.is_http(url))
        )
        if not usable or "?" in self.issuer:
            raise ConfigurationError(
                f"AuthorizationServer(issuer): {quoted(url)} is no https URL without query and"
                " fragment (RFC 8414 §2); http is for loopback addresses, or pass"
                " insecure_allow_http=True on a network you trust"
            )

    def _check_scopes(self) -> None:
        given: object = self.scopes
        if given is None:
            return
        if not isinstance(given, Mapping) or not all(
            isinstance(name, str) and isinstance(text, str | Scope) and scope.is_scope_token(name)
            for name, text in given.items()
        ):
            raise ConfigurationError(
                'scopes=: pass each scope with its description: {"read": "Read your recordings"}'
            )


def checked_resources(given: Sequence[str | Resource] | None) -> tuple[Resource, ...]:
    """Return `resources=` as values; raises `ConfigurationError`."""
    if given is None:
        return ()
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigurationError("resources=: pass a list of URIs or Resource(...)")
    resources = tuple(Resource(each) if isinstance(each, str) else each for each in given)
    if not resources or not all(isinstance(each, Resource) for each in resources):
        raise ConfigurationError("resources=: pass at least one URI or Resource(...)")
    known: dict[str, str] = {}
    for each in resources:
        if each.normalized in known:
            raise ConfigurationError(
                f"resources=: one of them is given twice: {quoted(known[each.normalized])} and"
                f" {quoted(each.identifier)} are one URI (RFC 3986 §6.2); keep the one that the API"
                " has as its audience"
            )
        known[each.normalized] = each.identifier
    return resources


def is_resource_identifier(text: object) -> bool:
    """Whether it is an absolute URI without a fragment (RFC 8707 §2, RFC 3986 §4.3)."""
    if not isinstance(text, str) or not text.isascii() or "#" in text:
        return False
    if any(character <= " " or character in '<>"\\^`{|}\x7f' for character in text):
        return False
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) and bool(parts.netloc or parts.path)


def checked_scopes(option: str, given: object) -> None:
    """Raise `ConfigurationError` unless it is None or a list of scopes."""
    if given is not None and (
        isinstance(given, str)
        or not isinstance(given, Sequence)
        or not all(isinstance(each, str) and scope.is_scope_token(each) for each in given)
    ):
        raise ConfigurationError(f'{option}: pass a list of scopes, such as ["read"]')


def check_lifetime(option: str, seconds: object) -> None:
    """Raise `ConfigurationError` unless it is a positive number of seconds."""
    if not _is_number(seconds) or not 0 < seconds < 10**10:  # type: ignore[operator]
        raise ConfigurationError(f"{option}: pass a positive number of seconds")


def check_duration(option: str, seconds: object) -> None:
    """Raise `ConfigurationError` unless it is a number of seconds, 0 included."""
    if not _is_number(seconds) or not 0 <= seconds < 10**10:  # type: ignore[operator]
        raise ConfigurationError(f"{option}: pass seconds, 0 for none")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
