"""The login endpoint and the logout endpoint: the pages at `/oauth/login` and `/oauth/logout`.

Owns the order of the checks: first the form's CSRF token, then the throttle, then the password.
The form contains the pending authorization request, sealed. It continues after the login.
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
from bearerguard.server.login.known_browsers import KnownBrowsers
from bearerguard.server.login.session import Sessions, SignedIn
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.pages import Pages

LOGIN = "/oauth/login"
LOGOUT = "/oauth/logout"

_AUTHORIZE = "/oauth/authorize"
_PURPOSE = "sign in"
_LIFETIME = 3600  # leaves time to look up a password
BUSY_SECONDS = 5
_MAX_SHOWN = 200  # characters of the username that was typed: no account has a longer one


@dataclass(frozen=True, slots=True)
class PendingRequest:
    """The authorization request that waits for the login; all fields are empty if there is none.

    `again`: whether it demands a login of those who are signed in, too. `path` is where the login
    leads: that of authorization requests, or of a page of this server.
    """

    ticket: str = ""
    query: str = ""
    client_name: str = ""
    redirect_uri: str = ""
    again: bool = False
    path: str = _AUTHORIZE


class LoginEndpoint:
    """Handles requests to the login and logout paths.

    Args:
        base: the path of the issuer's URL, before `/oauth`.
        pages: renders the pages.
        csrf: protects the forms.
        tickets: seals the pending authorization request.
        accounts: checks passwords.
        sessions: begins, finds and ends sessions.
        throttle: limits login attempts.
        known_browsers: the browsers that users have signed in with before.
        audit: receives the events.
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
        known_browsers: KnownBrowsers,
        audit: Audit,
    ) -> None:
        self._base = base
        self._pages = pages
        self._csrf = csrf
        self._tickets = tickets
        self._accounts = accounts
        self._sessions = sessions
        self._throttle = throttle
        self._known_browsers = known_browsers
        self._audit = audit

    def location(
        self,
        query: str,
        *,
        client_name: str,
        redirect_uri: str,
        again: bool = False,
        path: str = _AUTHORIZE,
    ) -> str:
        """Return the URL of the login page that continues the authorization request `query`.

        `again`: whether the request demands a login of those who are signed in, too. With `path`,
        the login leads to another page, whose query is `query`.
        """
        content = {"query": query, "client": client_name, "redirect": redirect_uri, "again": again}
        if path != _AUTHORIZE:
            content["path"] = path
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME)
        return f"{self._base}{LOGIN}?{urlencode({'request': ticket})}"

    def login(self, request: Request) -> Response:
        """Return the response to a GET or POST of the login page."""
        if request.method == "POST":
            return self._posted(request)
        tickets = parse_qs(urlsplit(request.url).query).get("request", [""])
        pending = self._pending(tickets[0]) if len(tickets) == 1 else None
        if pending is None:
            return self._no_pending()
        signed_in = self._sessions.signed_in(request)
        if signed_in is not None and not pending.ticket:
            return self._signed_in_page(request, signed_in.user_id, signed_in.name)
        return self._form(request, pending)

    def logout(self, request: Request, then: Callable[[Request, SignedIn], str]) -> Response:
        """Return the response to a GET or POST of the logout page.

        `then` returns the URL to redirect to after the logout; "" for the logout page.
        """
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
        pending = self._pending(fields.get("request", ""))
        if pending is None:
            return self._no_pending()
        username, password = fields.get("username", ""), fields.get("password", "")
        if not self._csrf.holds(request, fields):
            return self._form(request, pending, 400, "login.stale", username)
        if not username.strip() or not password:
            return self._form(request, pending, 400, "login.missing", username, invalid=True)
        return self._attempt(request, pending, username, password)

    def _attempt(
        self, request: Request, pending: PendingRequest, username: str, password: str
    ) -> Response:
        login, address = normalized(username), request.peer
        browser = self._known_browsers.identify(request, login)
        attempt = self._throttle.charge(login, address, browser)
        if wait := attempt.wait:
            self._report("login_throttled", login, address)
            return self._form(
                request,
                pending,
                429,
                "login.throttled",
                username,
                values={"wait": self._pages.texts.wait(wait)},
                retry_after=wait,
            )
        try:
            checked = self._accounts.checked(login, password)
        except PasswordsBusy:
            # Otherwise an attacker who keeps the server busy would use up the limits of others.
            self._throttle.take_back(attempt)
            return self._form(
                request, pending, 503, "login.busy", username, retry_after=BUSY_SECONDS
            )
        session = (
            None
            if checked is None
            else self._sessions.begin(request, checked[0].user_id, checked[1])
        )
        if checked is None or session is None:
            self._report("login_failed", login, address)
            return self._form(request, pending, 403, "login.wrong", username, invalid=True)
        account, _ = checked
        self._throttle.forgive(attempt)
        cookies = (session, self._known_browsers.remember(login, browser))
        self._audit.emit("login_succeeded", user_id=account.user_id, address=address or None)
        query = f"?{pending.query}" if pending.query else ""
        after = f"{pending.path}{query}" if pending.ticket else LOGIN
        return see_other(self._base + after, *cookies)

    def _report(self, event: str, login: str, address: str) -> None:
        # A name without an account is not logged: users type passwords there by mistake.
        user_id = self._accounts.user_id(login)
        self._audit.emit(event, user_id=user_id, address=address or None)

    def _pending(self, ticket: str) -> PendingRequest | None:
        """Return the request in a ticket; None if the ticket is not valid or has expired."""
        if not ticket:
            return PendingRequest()
        try:
            content = self._tickets.open(_PURPOSE, ticket)
        except TicketError:
            return None
        return PendingRequest(
            ticket,
            content["query"],
            content["client"],
            content["redirect"],
            content.get("again", False),  # an earlier version's ticket does not say
            content.get("path", _AUTHORIZE),
        )

    def _form(
        self,
        request: Request,
        pending: PendingRequest,
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
            leads_to=pending.redirect_uri,
            headers=(*proof.headers, *waiting),
            action=self._base + LOGIN,
            csrf=proof.value,
            request=pending.ticket,
            client_name=pending.client_name,
            again=pending.again and self._sessions.signed_in(request) is not None,
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

    def _no_pending(self) -> Response:
        return self._pages.error(400, "login_link")


def see_other(location: str, *headers: tuple[str, str]) -> Response:
    """Return a redirect that is followed with GET (RFC 9110 §15.4.4) and never cached."""
    fields = (("Location", location), ("Cache-Control", "no-store"), *headers)
    return Response(303, (*fields, ("Referrer-Policy", "no-referrer")))
