"""Logins elsewhere: their start, the callback, and back-channel logout.

Owns the order of the checks. The state of a login is sealed in the parameter `state`, for one
browser, one upstream and one use; each upstream has a redirect URI of its own (RFC 9700 §4.4). Then
the throttle is asked. Only then is the code redeemed, the user admitted, and a session begun.
Whatever fails has a page with a way back, and an event with the cause.
"""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, IssuerUnavailable, TokenError, quoted
from bearerguard.protocol import names
from bearerguard.protocol.events.logout_token import Logout
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit, new_reference
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters, from_form, parse
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.identities import Identities
from bearerguard.server.login.session import Method, ProofLapsed
from bearerguard.server.login.steps import (
    LOGIN,
    Demands,
    Logins,
    Offer,
    PendingRequest,
    Proof,
    see_other,
)
from bearerguard.server.login.throttle import Attempt, Throttle
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Pages
from bearerguard.server.pages.error_pages import ErrorPages
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store import clients as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.upstream.options import CALLBACK, Admission
from bearerguard.server.upstream.provider import (
    RETRY_SECONDS,
    STATUS,
    Asked,
    Authenticated,
    Outcome,
    Provider,
    UpstreamError,
)

START = "/oauth/login/upstream/"
LOGOUT_TOKENS = "/oauth/backchannel_logout/"

_log = logging.getLogger("bearerguard.server")
_PURPOSE = "sign in elsewhere"
# Seconds: time to look up a password and a second factor there.
_LIFETIME = 1800
# Seconds for which a used state or logout token is remembered beyond its end: clocks differ.
_SLACK = 600
# Seconds for which a logout is remembered: as long as a login that was begun before may take.
_REMEMBERED = _LIFETIME + _SLACK
# Why a login lapses whose session there has ended.
_LOGGED_OUT = "logged_out"
_MAX_QUERY = 16_384
_MAX_SHOWN = 100
# What the errors of an upstream mean (OIDC Core §3.1.2.6); any other is invalid.
_OUTCOMES: Mapping[str, Outcome] = {
    names.ACCESS_DENIED: "cancelled",
    "interaction_required": "cancelled",
    "consent_required": "cancelled",
    names.LOGIN_REQUIRED: "unmet",
    "unmet_authentication_requirements": "unmet",
    names.TEMPORARILY_UNAVAILABLE: "unavailable",
    names.SERVER_ERROR: "unavailable",
}
# The texts of outcomes that a login here has, too.
_TEXTS: Mapping[Outcome, str] = {"busy": "login.busy", "throttled": "login.throttled"}


class EndLogins(Protocol):
    """Ends the sessions, codes and grants of logins elsewhere; see `Revocations.login`."""

    def __call__(
        self,
        issuer: str,
        *,
        user_id: str | None,
        sid: str | None,
        reason: str,
        first: Callable[[Connection], bool] | None = None,
        personal: bool = False,
    ) -> bool:
        """End them; False if `first` was False."""
        ...


@dataclass(frozen=True, slots=True)
class _LogoutKeys:
    """The keys by which a logout is remembered: of a subject at an issuer, or of a session there.

    A logout token with both ends that session, and the subject's logins that name none.
    """

    issuer: str
    subject: str | None = field(repr=False)
    session: str | None = field(repr=False)

    @property
    def by_logout_token(self) -> Sequence[str]:
        """What a logout token ends."""
        if self.session is None:
            return [self._all]
        return [self.one] if self.subject is None else [self.one, self._unnamed]

    @property
    def by_id_token(self) -> Sequence[str]:
        """By what the login of an ID token may have been ended."""
        return [self._all, self._unnamed if self.session is None else self.one]

    @property
    def one(self) -> str:
        """The session itself, which ends for good."""
        return f"session {self.issuer} {self.session}"

    @property
    def _all(self) -> str:
        return f"logins {self.issuer} {self.subject}"

    @property
    def _unnamed(self) -> str:
        return f"unnamed session {self.issuer} {self.subject}"


class UpstreamEndpoint:
    """The login method "elsewhere": handles the paths of logins there, and of logout tokens.

    Args:
        issuer: the server's URL.
        providers: where users can sign in.
        pages: renders the pages.
        errors: shows and reports errors.
        csrf: protects the forms, and names the browsers.
        tickets: seals the state of logins.
        throttle: limits login attempts.
        logins: goes on after a login.
        identities: finds and makes the accounts.
        database: records what was used.
        secret: keys the digests of what was used.
        audit: receives the events.
        places: how many requests may wait for each upstream at once, and how many logout tokens
            of each.
        end_logins: ends what began by a login elsewhere.
    """

    name = "upstream"

    def __init__(
        self,
        issuer: str,
        providers: Sequence[Provider],
        *,
        pages: Pages,
        errors: ErrorPages,
        csrf: Csrf,
        tickets: Tickets,
        throttle: Throttle,
        logins: Logins,
        identities: Identities,
        database: Database,
        secret: ServerSecret,
        audit: Audit,
        clock: Callable[[], float],
        places: int,
        end_logins: EndLogins,
    ) -> None:
        self._issuer = issuer.rstrip("/")
        self._base = urlsplit(issuer).path.rstrip("/")
        self.providers: dict[str, Provider] = {each.key: each for each in providers}
        self._pages = pages
        self._errors = errors
        self._csrf = csrf
        self._tickets = tickets
        self._throttle = throttle
        self._logins = logins
        self._identities = identities
        self._database = database
        self._secret = secret
        self._audit = audit
        self._clock = clock
        # One that is slow must not stop the logins at the others.
        self._places = {
            name: threading.BoundedSemaphore(places) for name in self.waiting_paths.values()
        }
        self._end_logins = end_logins

    @property
    def paths(self) -> frozenset[str]:
        """The paths for people, relative to the issuer's path."""
        return frozenset(place + key for key in self.providers for place in (START, CALLBACK))

    @property
    def logout_paths(self) -> frozenset[str]:
        """The paths for logout tokens, relative to the issuer's path."""
        return frozenset(LOGOUT_TOKENS + key for key in self.providers)

    @property
    def waiting_paths(self) -> dict[str, str]:
        """All of these paths, each with the name of the places that its requests wait in."""
        logins = {place + key: key for key in self.providers for place in (START, CALLBACK)}
        return logins | {path: path for path in self.logout_paths}

    @property
    def offers(self) -> Sequence[Offer]:
        """What the login page offers: a button for each upstream."""
        return [
            Offer(self._base + START + each.key, each.name, partial(self._start, each))
            for each in self.providers.values()
        ]

    @property
    def acr_values(self) -> Sequence[str]:
        """The authentication contexts that a login elsewhere can have."""
        return [value for each in self.providers.values() for value in each.acr_values]

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        path = urlsplit(request.url).path.removeprefix(self._base)
        is_callback = path.startswith(CALLBACK)
        provider = self.providers[path.removeprefix(CALLBACK if is_callback else START)]
        if is_callback:
            if request.method != "GET":  # HEAD would use up the login
                return self._errors.show(
                    OAuthError(
                        names.INVALID_REQUEST,
                        "The method is not allowed here",
                        reason="wrong_method",
                        status=405,
                        headers=(("Allow", "GET"),),
                        method=request.method,
                    ),
                    path,
                    "method",
                )
            return self._returned(request, provider)
        if request.method != "POST":
            return see_other(self._base + LOGIN)
        return self._chosen(request, provider)

    def log_out(self, request: Request) -> Response:
        """Return the response to a logout token (OpenID Connect Back-Channel Logout 1.0 §2.5)."""
        responses.check_method(request, "POST")
        provider = self.providers[urlsplit(request.url).path.rpartition("/")[2]]
        token = from_form(request).required("logout_token")
        try:
            with self._place(LOGOUT_TOKENS + provider.key):
                logout = provider.logout(token)
            is_new = self._end_logins(
                provider.issuer,
                user_id=self._user_of(provider, logout),
                sid=logout.session,
                reason="upstream_logout",
                first=lambda connection: self._note_logout(connection, provider.issuer, logout),
            )
            if not is_new:
                raise OAuthError(
                    names.INVALID_REQUEST,
                    "The logout token was used before",
                    reason="used_logout_token",
                    event="upstream_logout_failed",
                    upstream=provider.key,
                )
        except TokenError as error:
            raise OAuthError(
                names.INVALID_REQUEST,
                "The logout token is not valid",
                reason=error.reason.code,
                event="upstream_logout_failed",
                upstream=provider.key,
                cause=error.remedy,
            ) from error
        except (IssuerUnavailable, UpstreamError) as error:
            raise OAuthError(
                names.TEMPORARILY_UNAVAILABLE,
                "The logout cannot be done at the moment",
                status=503,
                headers=((names.RETRY_AFTER, str(RETRY_SECONDS)),),
                event="upstream_logout_failed",
                upstream=provider.key,
                cause=str(error),
            ) from error
        self._audit.emit("upstream_logout", upstream=provider.key)
        return responses.empty(200)

    def check(self, connection: Connection, proof: Proof) -> None:
        """Raise `ProofLapsed` if a login was ended before its session begins here.

        A logout token ends its session, and the user's logins whose ID tokens were issued before it
        or in the same second, by the provider's clock. It ends what is stored; this login was not,
        when it came.
        """
        issuer, subject, session, issued_at = proof.evidence
        if not self._identities.is_linked(connection, issuer, subject, proof.user_id):
            raise ProofLapsed("identity_unlinked")
        if issued_at is None:
            return
        keys = _LogoutKeys(issuer, subject, session)
        for name in keys.by_id_token:
            until = rows.remembered_until(connection, self._digests(name))
            if until and (name == keys.one or issued_at <= until - _REMEMBERED):
                raise ProofLapsed(_LOGGED_OUT)

    def close(self) -> None:
        """Close the connections of the upstreams."""
        for each in self.providers.values():
            each.close()

    def _user_of(self, provider: Provider, logout: Logout) -> str | None:
        """Return the user whom a logout token names, None if it names a session alone."""
        if logout.subject is None:
            return None
        # Nobody's id is empty: a subject without an account here ends nothing.
        return self._identities.user_id(provider.issuer, logout.subject) or ""

    def _note_logout(self, connection: Connection, issuer: str, logout: Logout) -> bool:
        """Use up a logout token, and remember whom it names; False if it was used before."""
        end = logout.expires_at + _SLACK
        if not self._use(connection, f"logout {issuer} {logout.token_id}", end):
            return False
        keys = _LogoutKeys(issuer, logout.subject, logout.session)
        for name in keys.by_logout_token:
            newest = self._digests(name)[0]
            rows.remember_until(connection, newest, logout.issued_at + _REMEMBERED)
        return True

    def _chosen(self, request: Request, provider: Provider) -> Response:
        """Return the response to the form of an upstream's button."""
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._errors.show(error, START + provider.key, "request")
        pending = self._logins.pending(fields.get("request", ""))
        if pending is None:
            unusable = invalid_request("The link is invalid or has expired", "unusable_login_link")
            return self._errors.show(unusable, START + provider.key, "login_link")
        if not self._csrf.holds(request, fields):
            stale = UpstreamError("stale", "unusable_form", "the form is another browser's or old")
            return self._failed(provider, pending, stale)
        return self._start(provider, request, pending)

    def _start(self, provider: Provider, request: Request, pending: PendingRequest) -> Response:
        """Return the redirect to an upstream."""
        browser, cookies = self._csrf.browser(request)
        nonce, verifier = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
        asked = self._asked(provider, pending.demands, nonce, verifier, self._clock())
        content = {
            "id": secrets.token_urlsafe(16),
            "key": provider.key,
            "nonce": nonce,
            "verifier": verifier,
            "at": asked.begun_at,
            "request": pending.stored,
        }
        state = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=browser)
        try:
            # A place only for what waits: a storm of logins must not turn users away here.
            with nullcontext() if provider.is_ready else self._place(provider.key):
                url = provider.authorization_url(asked, state)
        except UpstreamError as error:
            return self._failed(provider, pending, error)
        return see_other(url, *cookies)

    def _returned(self, request: Request, provider: Provider) -> Response:
        """Return the response to an upstream's response."""
        pending, attempt = PendingRequest(), None
        try:
            parameters = _parameters(request)
            name, pending, asked = self._begun(request, provider, parameters)
            if _offers_no_choice(parameters, asked):
                login = replace(pending.demands, prompt="login")
                return self._start(provider, request, replace(pending, demands=login))
            try:
                code = _code(parameters)
            except UpstreamError:
                # No login was tried. It is counted because what is used up leaves a row.
                self._charged(request, "error elsewhere")
                self._use_up(name)
                raise
            # Before it is used up: a login that finds no place, or comes too often, can be tried
            # again by reloading the page.
            with self._place(provider.key):
                attempt = self._charged(request, "login elsewhere")
                self._use_up(name)
                found = provider.authenticate(code, parameters.get("iss"), asked)
            response = self._admitted(request, provider, pending, found)
        except UpstreamError as error:
            response = self._failed(provider, pending, error)
            if error.outcome == "invalid" or error.reason == names.INVALID_REQUEST:
                return response  # as for a made-up code, which may be malformed
        if attempt is not None:
            self._throttle.take_back(attempt)
        return response

    def _charged(self, request: Request, purpose: str) -> Attempt:
        """Charge a login to the limit of its address; raises `UpstreamError` at the limit."""
        attempt = self._throttle.charge_address(purpose, request.peer)
        if attempt.wait:
            raise _Throttled(attempt.wait, request.peer)
        return attempt

    def _begun(
        self, request: Request, provider: Provider, parameters: Parameters
    ) -> tuple[str, PendingRequest, Asked]:
        """Return the login that a response belongs to, its name first; raises `UpstreamError`."""
        browser = self._csrf.known_browser(request)
        try:
            content = self._tickets.open(
                _PURPOSE, parameters.get("state") or "", holder=browser or ""
            )
        except TicketError as error:
            raise UpstreamError("stale", "unusable_state", str(error)) from None
        if browser is None or content["key"] != provider.key:
            # Another upstream sent its user here (RFC 9700 §4.4).
            raise UpstreamError(
                "stale", "state_of_another_upstream", f"it was begun at {quoted(content['key'])}"
            )
        pending = PendingRequest.read(content["request"])
        nonce, verifier = content["nonce"], content["verifier"]
        asked = self._asked(provider, pending.demands, nonce, verifier, content["at"])
        return content["id"], pending, asked

    def _use_up(self, name: str) -> None:
        """Use up a login; raises `UpstreamError` if it was used before."""
        with self._database.write(concurrent=True) as connection:
            end = self._clock() + _LIFETIME + _SLACK
            if not self._use(connection, f"state {name}", end):
                raise UpstreamError("stale", "used_state", "the response came before")

    def _admitted(
        self,
        request: Request,
        provider: Provider,
        pending: PendingRequest,
        found: Authenticated,
    ) -> Response:
        """Return the response to whoever has logged in elsewhere; raises `UpstreamError`."""
        identity = found.identity
        admission = self._admission(provider, found)
        if admission is None:
            user_id = self._identities.user_id(identity.issuer, identity.subject)
            if user_id is not None:
                # Who has left the group keeps nothing.
                self._end_logins(
                    identity.issuer,
                    user_id=user_id,
                    sid=None,
                    reason="upstream_refused",
                    personal=True,
                )
            raise _Refused("not_admitted", user_id)
        user_id = self._identities.signed_in(identity, admission)
        if user_id is None:
            user_id = self._identities.user_id(identity.issuer, identity.subject)
            raise _Refused("user_disabled", user_id)
        # A login of unknown age is never taken for a recent one.
        method = Method(found.acr, found.amr, identity.issuer, found.session, found.auth_time)
        evidence = (identity.issuer, identity.subject, found.session, found.issued_at)
        proof = Proof(user_id, self.name, method, evidence, provider.key)
        try:
            return self._logins.proved(request, pending, proof)
        except ProofLapsed as lapsed:
            if lapsed.reason == _LOGGED_OUT:
                cause = "a logout token came before it"
                raise UpstreamError("cancelled", _LOGGED_OUT, cause) from None
            raise _Refused(lapsed.reason, user_id) from None

    def _admission(self, provider: Provider, found: Authenticated) -> Admission | None:
        try:
            return provider.admission(found.identity)
        except ConfigurationError:
            raise
        except Exception as error:
            # The operator's function has failed: neither may the user in, nor is it the user's
            # fault. The traceback is for the operator.
            _log.exception("admit= of the upstream %s raised", provider.key)
            raise UpstreamError("unavailable", "admit_raised", type(error).__name__) from error

    def _asked(
        self, provider: Provider, demands: Demands, nonce: str, verifier: str, begun_at: float
    ) -> Asked:
        return Asked(
            f"{self._issuer}{CALLBACK}{provider.key}",
            nonce,
            verifier,
            begun_at,
            demands.prompt,
            demands.max_age,
            demands.acr_values,
        )

    def _use(self, connection: Connection, name: str, until: float) -> bool:
        return rows.use_once(connection, self._digests(name), until)

    def _digests(self, name: str) -> tuple[str, ...]:
        return self._secret.digests("upstream login", name)

    @contextmanager
    def _place(self, name: str) -> Generator[None]:
        """Take one of an upstream's places; raises `UpstreamError` if all of them are taken.

        `name` is the upstream's key or, for its logout tokens, `LOGOUT_TOKENS` and the key.
        """
        places = self._places[name]
        if not places.acquire(blocking=False):
            raise UpstreamError("busy", "no_place", "too many requests wait for the upstream")
        try:
            yield
        finally:
            places.release()

    def _failed(
        self, provider: Provider, pending: PendingRequest, error: UpstreamError
    ) -> Response:
        """Report why a login failed, and return its page: both have the same reference."""
        reference = new_reference()
        if isinstance(error, _Throttled):
            self._audit.emit(
                "login_throttled",
                address=error.address or None,
                upstream=provider.key,
                reference=reference,
            )
        elif isinstance(error, _Refused):
            self._audit.emit(
                "upstream_login_refused",
                upstream=provider.key,
                user_id=error.user_id,
                reason=error.reason,
                reference=reference,
            )
        else:
            self._audit.emit(
                "upstream_login_failed",
                upstream=provider.key,
                reason=error.reason,
                cause=error.cause or None,
                reference=reference,
            )
        status = STATUS[error.outcome]
        wait = error.wait if isinstance(error, _Throttled) else RETRY_SECONDS
        waiting = (("Retry-After", str(wait)),) if status in {429, 503} else ()
        return self._pages.page(
            "upstream",
            status=status,
            headers=waiting,
            text=self._pages.texts(
                _TEXTS.get(error.outcome, f"upstream.{error.outcome}"),
                upstream=provider.name,
                wait=self._pages.texts.wait(wait),
            ),
            client_name=pending.client_name,
            reference=reference,
            again=self._base + LOGIN if pending.is_empty else self._logins.location(pending),
        )


class _Refused(UpstreamError):
    """A user may not sign in here."""

    def __init__(self, reason: str, user_id: str | None) -> None:
        super().__init__("refused", reason)
        self.user_id = user_id


class _Throttled(UpstreamError):
    """The limit of login attempts from an address, "" if unknown, is used up."""

    def __init__(self, wait: int, address: str) -> None:
        super().__init__("throttled", "login_throttled")
        self.wait = wait
        self.address = address


def _parameters(request: Request) -> Parameters:
    query = urlsplit(request.url).query
    try:
        if len(query) > _MAX_QUERY:
            raise UpstreamError("stale", "too_large", "the response is too long")
        parameters = parse(query.encode("ascii", "replace"))
        parameters.check()
    except OAuthError as error:
        raise UpstreamError("stale", error.reason, error.description) from error
    return parameters


def _offers_no_choice(parameters: Parameters, asked: Asked) -> bool:
    """Whether a provider refuses to let the user choose an account: it may support that or not."""
    return parameters.get("error") == names.INVALID_REQUEST and "select_account" in asked.prompt


def _code(parameters: Parameters) -> str:
    """Return the code of a response; raises `UpstreamError` for an error response."""
    error = parameters.get("error")
    if error is not None:
        outcome = _OUTCOMES.get(error, "invalid")
        raise UpstreamError(outcome, "upstream_error", f"its error is {quoted(error[:_MAX_SHOWN])}")
    code = parameters.get("code")
    if code is None:
        raise UpstreamError("invalid", "no_code", "the response has no code")
    return code
