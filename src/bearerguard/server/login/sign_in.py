"""Signing in and out: the pages at `/oauth/login` and `/oauth/logout`.

Owns their order: the form's proof, then the throttle, then the password. Where a user came from
an app, the app's authorization request travels along in a ticket and is taken up afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard.errors import PasswordsBusy
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.accounts import Accounts, normalized
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.device import Devices
from bearerguard.server.login.session import Sessions, SignedIn
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Pages

LOGIN = "/oauth/login"
LOGOUT = "/oauth/logout"

_AUTHORIZE = "/oauth/authorize"
_PURPOSE = "sign in"
_LIFETIME = 3600  # for who must look up a password first
BUSY_SECONDS = 5
_MAX_SHOWN = 200  # of what was typed as a username: no longer one is somebody's


@dataclass(frozen=True, slots=True)
class Errand:
    """What somebody is signing in for: an app's authorization request, or nothing."""

    ticket: str = ""
    query: str = ""
    client_name: str = ""
    redirect_uri: str = ""


class SignIn:
    """Answers requests to the login and logout paths.

    Args:
        base: the path of the issuer's URL, before `/oauth`.
        pages: how pages look.
        csrf: what proves that a form is ours.
        tickets: what carries an authorization request through the login.
        accounts: whose passwords are right.
        sessions: who is signed in.
        throttle: who has tried too often.
        devices: which browsers somebody signed in with before.
        audit: is told of every security event.
    """

    def __init__(
        self,
        base: str,
        *,
        pages: Pages,
        csrf: Csrf,
        tickets: Tickets,
        accounts: Accounts,
        sessions: Sessions,
        throttle: Throttle,
        devices: Devices,
        audit: Audit,
    ) -> None:
        self._base = base
        self._pages = pages
        self._csrf = csrf
        self._tickets = tickets
        self._accounts = accounts
        self._sessions = sessions
        self._throttle = throttle
        self._devices = devices
        self._audit = audit

    def location(self, query: str, *, client_name: str, redirect_uri: str) -> str:
        """Return where to send a browser so that it comes back, signed in, with `query`."""
        content = {"query": query, "client": client_name, "redirect": redirect_uri}
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME)
        return f"{self._base}{LOGIN}?{urlencode({'request': ticket})}"

    def login(self, request: Request) -> Response:
        """Answer a request to the login page."""
        if request.method == "POST":
            return self._posted(request)
        tickets = parse_qs(urlsplit(request.url).query).get("request", [""])
        errand = self._errand(tickets[0]) if len(tickets) == 1 else None
        if errand is None:
            return self._no_errand()
        signed_in = self._sessions.signed_in(request)
        if signed_in is not None and not errand.ticket:
            return self._signed_in_page(request, signed_in.user_id, signed_in.name)
        return self._form(request, errand)

    def logout(self, request: Request, then: Callable[[Request, SignedIn], str]) -> Response:
        """Answer a request to the logout page; `then` says where to go on to, "" to stay."""
        signed_in = self._sessions.signed_in(request)
        if request.method != "POST":
            if signed_in is None:
                return self._pages.page("signed_out", login=self._base + LOGIN)
            return self._signed_in_page(request, signed_in.user_id, signed_in.name)
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._pages.unreadable(error)
        if signed_in is None or not self._csrf.holds(request, fields, signed_in.user_id):
            return see_other(self._base + LOGOUT)
        location = then(request, signed_in) or self._base + LOGOUT
        cookie = self._sessions.end(request)
        self._audit.emit("signed_out", user_id=signed_in.user_id)
        return see_other(location, cookie)

    def _posted(self, request: Request) -> Response:
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._pages.unreadable(error)
        errand = self._errand(fields.get("request", ""))
        if errand is None:
            return self._no_errand()
        username, password = fields.get("username", ""), fields.get("password", "")
        if not self._csrf.holds(request, fields):
            return self._form(request, errand, 400, "login.stale", username)
        if not username.strip() or not password:
            return self._form(request, errand, 400, "login.missing", username, invalid=True)
        return self._attempt(request, errand, username, password)

    def _attempt(self, request: Request, errand: Errand, username: str, password: str) -> Response:
        login, address = normalized(username), request.peer
        device = self._devices.known(request, login)
        attempt = self._throttle.charge(login, address, device)
        if wait := attempt.wait:
            self._report("login_throttled", login, address)
            return self._form(
                request,
                errand,
                429,
                "login.throttled",
                username,
                values={"wait": self._pages.texts.wait(wait)},
                retry_after=wait,
            )
        try:
            account = self._accounts.check(login, password)
        except PasswordsBusy:
            # Else who keeps the server busy would use up what others have.
            self._throttle.take_back(attempt)
            return self._form(
                request, errand, 503, "login.busy", username, retry_after=BUSY_SECONDS
            )
        if account is None:
            self._report("login_failed", login, address)
            return self._form(request, errand, 403, "login.wrong", username, invalid=True)
        self._throttle.forgive(attempt)
        cookies = (
            self._sessions.begin(request, account.user_id),
            self._devices.remember(login, device),
        )
        self._audit.emit("login_succeeded", user_id=account.user_id, address=address or None)
        after = f"{_AUTHORIZE}?{errand.query}" if errand.ticket else LOGIN
        return see_other(self._base + after, *cookies)

    def _report(self, event: str, login: str, address: str) -> None:
        # A name that is nobody's is left out: people type their passwords there, too.
        user_id = self._accounts.user_id(login)
        self._audit.emit(event, user_id=user_id, address=address or None)

    def _errand(self, ticket: str) -> Errand | None:
        """Return what a ticket says; None if it is no longer good."""
        if not ticket:
            return Errand()
        try:
            content = self._tickets.open(_PURPOSE, ticket)
        except TicketError:
            return None
        return Errand(ticket, content["query"], content["client"], content["redirect"])

    def _form(
        self,
        request: Request,
        errand: Errand,
        status: int = 200,
        problem: str = "",
        username: str = "",
        *,
        values: Mapping[str, Any] | None = None,
        invalid: bool = False,
        retry_after: int = 0,
    ) -> Response:
        proof = self._csrf.proof(request)
        waiting = (("Retry-After", str(retry_after)),) if retry_after else ()
        return self._pages.page(
            "login",
            status=status,
            leads_to=errand.redirect_uri,
            headers=(*proof.headers, *waiting),
            action=self._base + LOGIN,
            csrf=proof.value,
            request=errand.ticket,
            client_name=errand.client_name,
            username=username[:_MAX_SHOWN],
            problem=self._pages.texts(problem, **(values or {})) if problem else "",
            invalid=invalid,
        )

    def _signed_in_page(self, request: Request, user_id: str, name: str) -> Response:
        proof = self._csrf.proof(request, user_id)
        return self._pages.page(
            "signed_in",
            headers=proof.headers,
            action=self._base + LOGOUT,
            csrf=proof.value,
            name=name,
        )

    def _no_errand(self) -> Response:
        return self._pages.error(400, "login_link")


def see_other(location: str, *headers: tuple[str, str]) -> Response:
    """Return a redirect that is followed with GET (RFC 9110 §15.4.4), and never cached."""
    lines = (("Location", location), ("Cache-Control", "no-store"), *headers)
    return Response(303, (*lines, ("Referrer-Policy", "no-referrer")))
