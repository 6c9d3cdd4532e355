"""A login at an OpenID provider: discovery, the code flow, the ID token, UserInfo.

ID tokens and logout tokens are validated by an `AssertionVerifier`, a guard that trusts this issuer
alone (see `hosting.assertions`): it finds and caches the keys.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit

from bearerguard.errors import (
    BAD_LOGOUT_TOKEN,
    IssuerUnavailable,
    TokenError,
    TokenRefused,
    TokenUnavailable,
    quoted,
)
from bearerguard.principal import Claims
from bearerguard.protocol import client_authentication, metadata, names, pkce, scope, token_endpoint
from bearerguard.protocol.events import logout_token
from bearerguard.protocol.events.logout_token import Logout
from bearerguard.protocol.http import document
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Fetch
from bearerguard.server.clients.trusted_issuers import AssertionVerifier
from bearerguard.server.store.connection import is_storable
from bearerguard.server.upstream import id_token
from bearerguard.server.upstream.options import Admission, UpstreamIdentity, UpstreamLogin
from bearerguard.server.upstream.provider import (
    RETRY_SECONDS,
    Asked,
    Authenticated,
    Outcome,
    UpstreamError,
    checked_subject,
    fetched,
    read_json,
    text,
)

# Seconds for which metadata is used: so long that logins do not wait for it, so short that a new
# endpoint is found on the day of its change.
_METADATA_SECONDS = 3600.0
# Seconds by which a clock may be off uncorrected: else a login would have another time at each use.
_NEGLIGIBLE = 5
_MAX_METHODS, _MAX_METHOD = 20, 100
_MAX_SESSION = 255
_SESSION = f"text of 1 to {_MAX_SESSION} characters without NUL"
_ID_TOKEN = frozenset({"jwt"})


class OpenIdProvider:
    """A `Provider`.

    Args:
        options: the operator's.
        transport: sends the requests.
        verifier: validates signatures of this issuer alone.
        clock: returns Unix seconds.
        elapsed: counts seconds.
    """

    def __init__(
        self,
        options: UpstreamLogin,
        *,
        transport: Transport,
        verifier: AssertionVerifier,
        clock: Callable[[], float],
        elapsed: Callable[[], float],
    ) -> None:
        self._options = options
        self._transport = transport
        self._verifier = verifier
        self._clock = clock
        self._elapsed = elapsed
        self._lock = threading.Lock()
        self._published: tuple[float, Mapping[str, Any]] | None = None
        self._failed: tuple[float, UpstreamError] | None = None
        self.key: str = options.key
        self.name: str = options.name
        self.issuer: str = options.issuer
        contexts = options.contexts or {}
        self.acr_values: tuple[str, ...] = tuple(dict.fromkeys(contexts.values()))

    @property
    def is_ready(self) -> bool:
        """Whether the metadata is known and recent."""
        known = self._published
        return known is not None and self._elapsed() - known[0] < _METADATA_SECONDS

    def authorization_url(self, asked: Asked, state: str) -> str:
        """Return the URL of the authentication request (OIDC Core §3.1.2.1)."""
        options, published = self._options, self._metadata()
        # With max_age, the ID token must say when the login was (§2).
        max_age = 0 if "login" in asked.prompt.split() else asked.max_age
        fields = {
            "response_type": "code",
            "client_id": options.client_id,
            "redirect_uri": asked.redirect_uri,
            "scope": scope.build(options.scopes),
            "state": state,
            "nonce": asked.nonce,
            "code_challenge": pkce.challenge(asked.verifier),
            "code_challenge_method": pkce.METHOD,
            "prompt": asked.prompt,
            "max_age": "" if max_age is None else str(max_age),
            "acr_values": " ".join(self._upstream_contexts(asked.acr_values)),
        }
        url = self._endpoint(published, "authorization_endpoint")
        joint = "&" if urlsplit(url).query else "?"
        return f"{url}{joint}{urlencode({name: each for name, each in fields.items() if each})}"

    def authenticate(self, code: str, issuer: str | None, asked: Asked) -> Authenticated:
        """Redeem a code, and validate the ID token that comes for it (OIDC Core §3.1.3)."""
        published = self._metadata()
        self._check_issuer(issuer, published)
        tokens = self._redeemed(code, asked, published)
        came_at = self._clock()  # what is fetched after it can take long
        token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(token, str):
            raise UpstreamError("invalid", "no_id_token", "the token response has no ID token")
        access_token = access_token if isinstance(access_token, str) else None
        claims = self._claims(token, access_token, asked)
        subject, session = checked_subject(claims.get("sub")), claims.get("sid")
        if session is not None and not _is_session(session):
            # A logout token could not name it.
            raise UpstreamError("invalid", "unusable_session", f"its sid is no {_SESSION}")
        return Authenticated(
            self._identity(subject, self._completed(claims, access_token, published)),
            acr=self._context(claims.get("acr")),
            amr=_methods(claims.get("amr")),
            auth_time=_dated(claims, self._options.leeway, asked.begun_at, came_at),
            session=session,
            issued_at=float(claims["iat"]),
        )

    def admission(self, identity: UpstreamIdentity) -> Admission | None:
        """Return whether a user may sign in."""
        return self._options.admission(identity)

    def logout(self, token: str) -> Logout:
        """Validate a logout token (OpenID Connect Back-Channel Logout 1.0 §2.6)."""
        signed = self._verifier.verify(token, logout_token.check_type)
        options = self._options
        logout = logout_token.parse(
            signed.claims, {options.client_id}, options.leeway, self._clock()
        )
        if logout.session is not None and not _is_session(logout.session):
            raise TokenError(BAD_LOGOUT_TOKEN, f"its sid is no {_SESSION}")
        return logout

    def close(self) -> None:
        """Close the connections of the verifier."""
        self._verifier.close()

    def _metadata(self) -> Mapping[str, Any]:
        """Return the provider's metadata, fetched once by however many logins wait for it."""
        known = self._published
        if known is not None and self._elapsed() - known[0] < _METADATA_SECONDS:
            return known[1]
        with self._lock:
            known = self._published
            if known is not None and self._elapsed() - known[0] < _METADATA_SECONDS:
                return known[1]
            failed = self._failed
            if failed is not None and self._elapsed() - failed[0] < RETRY_SECONDS:
                raise failed[1]
            try:
                published = self._discovered()
            except UpstreamError as error:
                if known is None:
                    # Those who wait for the lock meanwhile do not each wait for a timeout.
                    self._failed = self._elapsed(), error
                    raise
                published = known[1]  # it is asked again in an hour
            self._published = self._elapsed(), published
            return published

    def _discovered(self) -> Mapping[str, Any]:
        problems: list[UpstreamError] = []
        for url in _places(self.issuer):
            response = fetched(self._transport, Fetch("GET", url, (("accept", names.JSON),)))
            fault = document.unserved(url, response)
            if fault is not None:
                cause = str(fault)
                problems.append(UpstreamError("unavailable", fault.kind or "status", cause))
                continue
            try:
                published = metadata.parse(response.body, self.issuer)
                for name in ("authorization_endpoint", "token_endpoint"):
                    self._endpoint(published, name)
            except ValueError as error:
                problems.append(UpstreamError("unavailable", "metadata", f"{url}: {error}"))
                continue
            return published
        raise problems[0]

    def _endpoint(self, published: Mapping[str, Any], name: str) -> str:
        url = published.get(name)
        usable = isinstance(url, str) and (
            metadata.is_https(url)
            or metadata.is_loopback_http(url)
            or (self._options.insecure_allow_http and metadata.is_http(url))
        )
        if not usable or metadata.leads_here(str(url), self.issuer):
            raise UpstreamError(
                "unavailable", "metadata", f"its {name} is {quoted(url)}, no https URL"
            )
        return str(url)

    def _check_issuer(self, issuer: str | None, published: Mapping[str, Any]) -> None:
        """Raise `UpstreamError` if the response is another issuer's (RFC 9207 §2.4)."""
        if issuer is None:
            if published.get("authorization_response_iss_parameter_supported") is True:
                raise UpstreamError("invalid", "missing_iss", "the response has no iss")
        elif issuer != self.issuer:
            raise UpstreamError("invalid", "wrong_iss", f"the response's iss is {quoted(issuer)}")

    def _redeemed(self, code: str, asked: Asked, published: Mapping[str, Any]) -> dict[str, Any]:
        request = token_endpoint.request(
            self._endpoint(published, "token_endpoint"),
            [
                ("grant_type", names.AUTHORIZATION_CODE),
                ("code", code),
                ("redirect_uri", asked.redirect_uri),
                ("code_verifier", asked.verifier),
            ],
            self._proof(published),
        )
        return redeemed(self._transport, request)

    def _proof(self, published: Mapping[str, Any]) -> client_authentication.Proof:
        options, method = self._options, self._options.client_auth
        if method is None:
            # Without the list, it is Basic (OIDC Discovery §3).
            offered = published.get("token_endpoint_auth_methods_supported")
            offered = offered if isinstance(offered, list) else [client_authentication.BASIC]
            basic = client_authentication.BASIC
            method = basic if basic in offered else client_authentication.POST
        if method == client_authentication.BASIC:
            return client_authentication.client_secret_basic(
                options.client_id, options.client_secret
            )
        return client_authentication.client_secret_post(options.client_id, options.client_secret)

    def _claims(self, token: str, access_token: str | None, asked: Asked) -> Mapping[str, Any]:
        try:
            signed = self._verifier.verify(token, lambda typ: jwt.check_type(typ, _ID_TOKEN))
            header = jwt.parse_header(jwt.parse(token.encode("ascii", "replace")).header)
            id_token.check(
                signed.claims,
                client_id=self._options.client_id,
                nonce=asked.nonce,
                access_token=access_token,
                algorithm=header.algorithm,
                leeway=self._options.leeway,
                now=self._clock(),
            )
        except TokenError as error:
            raise UpstreamError("invalid", error.reason.code, error.remedy) from error
        except IssuerUnavailable as error:
            raise UpstreamError("unavailable", error.reason.code, str(error)) from error
        return signed.claims

    def _completed(
        self, claims: Mapping[str, Any], access_token: str | None, published: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """Return claims with those of UserInfo that the ID token lacks (OIDC Core §5.3)."""
        options = self._options
        wanted = {"profile": "name", "email": "email"}
        needed = {claim for name, claim in wanted.items() if name in options.scopes}
        needed |= {options.groups_claim} if options.groups else set()
        if (
            not options.userinfo
            or access_token is None
            or needed <= claims.keys()
            or "userinfo_endpoint" not in published
        ):
            return claims
        url = self._endpoint(published, "userinfo_endpoint")
        more = read_json(
            self._transport, url, (("authorization", f"{names.BEARER} {access_token}"),)
        )
        if not isinstance(more, dict) or more.get("sub") != claims["sub"]:
            # §5.3.2: it may be about somebody else.
            raise UpstreamError("invalid", "userinfo_subject", "UserInfo names another subject")
        if "email" in claims:
            more.pop("email_verified", None)  # it would be said of another address
        return {**more, **claims}

    def _identity(self, subject: str, claims: Mapping[str, Any]) -> UpstreamIdentity:
        groups = claims.get(self._options.groups_claim)
        listed = groups if isinstance(groups, list | tuple) else [groups]
        return UpstreamIdentity(
            self.issuer,
            subject,
            name=text(claims.get("name")) or text(claims.get("preferred_username")),
            email=text(claims.get("email")),
            # The text "true" is no boolean: some issuers copy what a user has typed.
            email_verified=claims.get("email_verified") is True,
            groups=frozenset(each for each in listed if isinstance(each, str)),
            claims=Claims(claims),
        )

    def _context(self, acr: object) -> str | None:
        if not isinstance(acr, str) or not scope.is_scope_token(acr):
            return None
        contexts = self._options.contexts
        return acr if contexts is None else contexts.get(acr)

    def _upstream_contexts(self, wanted: tuple[str, ...]) -> list[str]:
        contexts = self._options.contexts
        if contexts is None:
            return list(wanted)
        return [there for name in wanted for there, here in contexts.items() if here == name]


def redeemed(transport: Transport, request: Fetch) -> dict[str, Any]:
    """Return the token response to a request; raises `UpstreamError`."""
    response = fetched(transport, request)
    try:
        return token_endpoint.members(response)
    except TokenUnavailable as error:
        raise UpstreamError("unavailable", "token_endpoint_unavailable", str(error)) from error
    except TokenRefused as error:
        # An invalid code is this login's; anything else is a matter between the two servers.
        outcome: Outcome = "invalid" if error.error == names.INVALID_GRANT else "unavailable"
        raise UpstreamError(outcome, error.error, str(error)) from error


def _places(issuer: str) -> tuple[str, ...]:
    """Return where an OpenID provider's metadata is, OpenID's own place first."""
    places = metadata.metadata_urls(issuer)
    openid = issuer.rstrip("/") + metadata.OPENID_PATH
    return tuple(dict.fromkeys((openid, *places)))


def _is_session(sid: object) -> bool:
    return isinstance(sid, str) and 0 < len(sid) <= _MAX_SESSION and is_storable(sid)


def _dated(
    claims: Mapping[str, Any], leeway: float, begun_at: float, came_at: float
) -> float | None:
    """Return when the user was authenticated, by the clock here; None if unknown.

    An ID token is made after the login was begun and before it comes, with its code or for it: an
    `iat` outside of that shows by how much, at least, the clock there is off. That it is behind
    makes a login recent, by no more than the leeway.
    """
    at = claims.get("auth_time")
    if not jwt.is_date(at):
        return None
    # In whole seconds, as providers count.
    made_at = math.floor(claims["iat"])
    behind = min(max(made_at, math.floor(begun_at)), math.floor(came_at)) - made_at
    return float(at if abs(behind) <= _NEGLIGIBLE else at + min(behind, leeway))


def _methods(amr: object) -> tuple[str, ...]:
    if not isinstance(amr, list | tuple) or len(amr) > _MAX_METHODS:
        return ()
    named = tuple(each for each in amr if isinstance(each, str) and 0 < len(each) <= _MAX_METHOD)
    return named if len(named) == len(amr) else ()
