"""Issuers whose assertions the server accepts (RFC 7521): what each may do, and the way to keys.

Signatures are validated by an `AssertionVerifier`, which finds the keys of an issuer. The server's
own is a guard (see `hosting.assertions`); this file does not know it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, NamedTuple, Protocol, TypeAlias

from bearerguard.errors import ConfigurationError, IssuerUnavailable, TokenError, quoted
from bearerguard.principal import Claims
from bearerguard.protocol import jwt_claims, names
from bearerguard.protocol.jose import jwt
from bearerguard.server.clients.assertion import LEEWAY, MAX_LIFETIME, AssertionRules, rejected
from bearerguard.server.clients.authentication_methods import Rejected
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.settings import Settings, check_lifetime
from bearerguard.server.store.connection import is_storable

MapSubject: TypeAlias = Callable[[Mapping[str, Any]], str | None]
"""Returns the id of the local user whom the claims of an assertion name, None for nobody."""

# The longest id of a user that a row can contain.
_MAX_SUBJECT = 255


@dataclass(frozen=True, slots=True)
class TrustedIssuer:
    """An issuer whose assertions the server accepts: an identity provider, a workload platform.

    Args:
        url: its identifier, compared with the `iss` of assertions character by character.
        subject: returns the id of the local user whom the claims of an assertion name, the `sub`
            of the tokens; None refuses the assertion. Without it, its assertions name no users:
            they authenticate workloads alone.
        clients: the ids of the clients that may present its assertions; by default all that are
            registered for the grant.
        scopes: the scopes that its assertions can give; by default those of the client.
        audience: the `aud` of its assertions, or several, instead of the server's own issuer URL.
        max_lifetime: seconds after which an assertion must expire, from its `iat` and from now.
        keys: its static keys, instead of fetched ones: a JWKS or JWK (dict), PEM, or a list.
        jwks_uri: where its JWKS is; without it, it is discovered (RFC 8414, OpenID).
        discovery_url: where its metadata is, if not at a well-known place.
        algorithms: the signature algorithms accepted; all asymmetric ones by default.
        leeway: seconds of clock skew accepted, 300 at most.
        insecure_allow_http: allow plain http beyond loopback.

    Raises:
        ConfigurationError: an option is unsafe, or of another type.
    """

    url: str
    _: KW_ONLY
    subject: MapSubject | None = None
    clients: Collection[str] | None = None
    scopes: Collection[str] | None = None
    audience: str | Sequence[str] = ()
    max_lifetime: float = MAX_LIFETIME
    keys: Any = field(default=None, repr=False, hash=False)
    jwks_uri: str | None = None
    discovery_url: str | None = None
    algorithms: Sequence[str] | None = None
    leeway: float = LEEWAY
    insecure_allow_http: bool = False

    def __post_init__(self) -> None:
        if self.subject is not None and not callable(self.subject):
            raise ConfigurationError(
                "TrustedIssuer(subject=): pass a callable that takes the claims of an assertion and"
                " returns a user's id or None"
            )
        for name in ("clients", "scopes"):
            given = getattr(self, name)
            if given is not None:
                object.__setattr__(self, name, frozenset(_texts(name, given)))
        audience = (self.audience,) if isinstance(self.audience, str) else self.audience
        object.__setattr__(self, "audience", _texts("audience", audience))
        check_lifetime("TrustedIssuer(max_lifetime=)", self.max_lifetime)


class SignedAssertion(NamedTuple):
    """The claims of an assertion whose signature is valid, and the `typ` of its header."""

    claims: Mapping[str, Any]
    typ: str | None


class AssertionVerifier(Protocol):
    """Finds the keys of trusted issuers, and validates signatures."""

    def verify(self, token: str, check_type: Callable[[str | None], None]) -> SignedAssertion:
        """Return an assertion whose signature is valid; its claims are unchecked.

        `check_type` raises `TokenError` unless the `typ` fits.

        Raises:
            TokenError: it is no JWT, or no trusted issuer has signed it.
            IssuerUnavailable: the keys of its issuer cannot be fetched at the moment.
        """
        ...

    def close(self) -> None:
        """Close connections, and stop refreshing keys."""
        ...


class TrustedIssuers:
    """The trusted issuers of one server. A container of their URLs.

    Args:
        issuers: the issuers.
        verifier: validates their signatures.
        settings: the server's.
        token_endpoint: its URL, which is accepted as `aud` where the settings allow it.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        issuers: Sequence[TrustedIssuer],
        verifier: AssertionVerifier | None,
        settings: Settings,
        token_endpoint: str,
        clock: Callable[[], float],
    ) -> None:
        self._issuers = {each.url: each for each in issuers}
        self._verifier = verifier
        self._settings = settings
        self._endpoints = (
            (settings.issuer, token_endpoint) if settings.accept_endpoint_audiences else ()
        )
        self._clock = clock

    def __contains__(self, issuer: object) -> bool:
        """Whether an issuer is trusted."""
        return isinstance(issuer, str) and issuer in self._issuers

    def __bool__(self) -> bool:
        """Whether there is one."""
        return bool(self._issuers)

    @property
    def name_users(self) -> bool:
        """Whether the assertions of one of them name users."""
        return any(each.subject is not None for each in self._issuers.values())

    def signed(self, token: str, *types: str) -> tuple[TrustedIssuer, SignedAssertion] | Rejected:
        """Return an assertion of one of these types and who signed it, or why it is refused.

        A token without `typ` is one of the type "jwt". Raises `OAuthError` while the keys of its
        issuer cannot be fetched.
        """
        if self._verifier is None:
            return Rejected("no_trusted_issuers")
        accepted = frozenset(types)
        try:
            found = self._verifier.verify(token, lambda typ: jwt.check_type(typ, accepted))
            _check_kind(found)
        except TokenError as error:
            return rejected(error)
        except IssuerUnavailable as error:
            raise OAuthError(
                names.TEMPORARILY_UNAVAILABLE,
                "The issuer of the assertion cannot be reached at the moment",
                reason=error.reason.code,
                status=503,
                headers=((names.RETRY_AFTER, str(error.retry_after)),),
                issuer=error.issuer,
            ) from error
        return self._issuers[found.claims["iss"]], found

    def unfit(
        self, issuer: TrustedIssuer, claims: Mapping[str, Any], *required: str
    ) -> Rejected | None:
        """Return why the claims of an assertion are refused; None if they are valid now."""
        return self._rules(issuer, required).unfit(claims, self._clock())

    def used_until(self, issuer: TrustedIssuer, claims: Mapping[str, Any]) -> float:
        """Return until when the use of a valid assertion must be remembered, in Unix seconds."""
        return self._rules(issuer, ()).used_until(claims)

    def unfit_token(self, issuer: TrustedIssuer, claims: Mapping[str, Any]) -> Rejected | None:
        """Return why the claims of a token, which may have several audiences, are refused."""
        audience = frozenset(issuer.audience or (self._settings.issuer,))
        expected = jwt_claims.Expected(audience, (*jwt_claims.REQUIRED, "sub"), issuer.leeway)
        try:
            jwt_claims.check(claims, expected, self._clock())
        except TokenError as error:
            return rejected(error)
        return None

    def local_user(self, issuer: TrustedIssuer, claims: Mapping[str, Any]) -> str | Rejected:
        """Return the id of the local user whom the claims name, or why there is none.

        Raises `ConfigurationError` if the application's own function returns something else.
        """
        if issuer.subject is None:
            return Rejected("issuer_names_no_users")
        # A copy that cannot be changed: what was verified is used afterwards, too.
        user_id: object = issuer.subject(Claims(claims))
        if user_id is None:
            return Rejected("unknown_subject")
        if not isinstance(user_id, str):
            raise ConfigurationError("TrustedIssuer(subject=): it must return a user's id or None")
        if not 0 < len(user_id) <= _MAX_SUBJECT or not is_storable(user_id):
            return Rejected("unusable_subject")
        return user_id

    def _rules(self, issuer: TrustedIssuer, required: tuple[str, ...]) -> AssertionRules:
        return AssertionRules(
            issuer.audience or (self._settings.issuer,),
            () if issuer.audience else self._endpoints,
            required=required,
            leeway=issuer.leeway,
            max_lifetime=issuer.max_lifetime,
        )


def check_trusted_issuers(given: Sequence[TrustedIssuer]) -> tuple[TrustedIssuer, ...]:
    """Return `trusted_issuers=` as a tuple; raises `ConfigurationError`."""
    listed: object = given
    if not isinstance(listed, list | tuple) or not all(
        isinstance(each, TrustedIssuer) for each in listed
    ):
        raise ConfigurationError("trusted_issuers=: pass a list of TrustedIssuer(...)")
    seen: set[str] = set()
    for each in given:
        if each.url in seen:
            raise ConfigurationError(
                f"trusted_issuers=: {quoted(each.url)} is given twice: keep one"
            )
        seen.add(each.url)
    return tuple(given)


def _check_kind(found: SignedAssertion) -> None:
    """Raise `TokenError` for a token of another kind, which its issuer may have signed, too."""
    claims = found.claims
    jwt_claims.check_no_logout_token(claims)
    if jwt.media_type(found.typ) == "jwt":
        jwt_claims.check_not_id_token(claims)
        jwt_claims.check_kind(claims, accept_id_tokens=False)


def _texts(name: str, given: object) -> tuple[str, ...]:
    listed: Any = given
    if not isinstance(given, list | tuple | set | frozenset) or not all(
        isinstance(each, str) and each for each in listed
    ):
        raise ConfigurationError(f"TrustedIssuer({name}=): pass a list of texts")
    return tuple(listed)
