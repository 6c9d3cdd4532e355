"""The login endpoint and the logout endpoint: the pages at `/oauth/login` and `/oauth/logout`.

The login page has what the login methods offer. Each of its forms contains the pending
authorization request, sealed. It continues after the login. The first method is here, too: the
password, which owns the order of its checks: the form's CSRF token, the throttle, the password.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from bearerguard.errors import PasswordsBusy
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.accounts import Accounts, fingerprint_of, normalized
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.known_browsers import KnownBrowsers
from bearerguard.server.login.session import ProofLapsed, Sessions, SignedIn
from bearerguard.server.login.steps import LOGIN, Logins, Offer, PendingRequest, Proof, see_other
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.login.ticket import Tickets
from bearerguard.server.pages import Link, Pages
from bearerguard.server.pages.error_pages import ErrorPages
from bearerguard.server.store.connection import Connection

LOGOUT = "/oauth/logout"
# Where a login leads that no app has asked for.
ACCOUNT = "/oauth/account"

BUSY_SECONDS = 5
_MAX_SHOWN = 200  # characters of the username that was typed: no account has a longer one


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginParts:
    """The parts of a login, for its page and its methods, and for the pages of an account above."""

    base: str  # the path of the issuer's URL, before `/oauth`
    pages: Pages
    errors: ErrorPages
    csrf: Csrf
    tickets: Tickets
    logins: Logins
    accounts: Accounts
    sessions: Sessions
    throttle: Throttle
    known_browsers: KnownBrowsers
    audit: Audit
    leads_on: bool  # whether the login is on another site, or may be


class LoginEndpoint:
    """Handles requests to the login and logout paths."""

    def __init__(self, parts: LoginParts) -> None:
        self._base = parts.base
        self._pages = parts.pages
        self._errors = parts.errors
        self._csrf = parts.csrf
        self._logins = parts.logins
        self._sessions = parts.sessions
        self._audit = parts.audit

    def login(self, request: Request) -> Response:
        """Return the response to a request to the login page; a POST is for `PasswordLogin`."""
        if request.method == "POST":
            refusal = invalid_request("Users sign in elsewhere", "no_password_login")
            refusal.status = 404
            return self._errors.show(refusal, LOGIN, "not_found")
        tickets = parse_qs(urlsplit(request.url).query).get("request", [""])
        pending = self._logins.pending(tickets[0]) if len(tickets) == 1 else None
        if pending is None:
            return self.no_pending(tickets[0])
        signed_in = self._sessions.signed_in(request)
        if signed_in is not None and not pending.ticket:
            return see_other(self._base + ACCOUNT)
        offers = self._logins.offers
        # Without a choice, there is nothing to ask.
        begin = offers[0].begin if len(offers) == 1 else None
        if begin is not None and request.method == "GET":
            return begin(request, pending)
        return self.form(request, pending)

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
            return self._errors.show(error, LOGOUT, "request")
        if signed_in is None or not self._csrf.holds(request, fields, signed_in.user_id):
            return see_other(self._base + LOGOUT)
        location = then(request, signed_in) or self._base + LOGOUT
        cookie = self._sessions.end(request)
        self._audit.emit("signed_out", user_id=signed_in.user_id)
        return see_other(location, cookie)

    def form(
        self,
        request: Request,
        pending: PendingRequest,
        status: int = 200,
        problem: str = "",
        username: str = "",
        *,
        invalid: bool = False,
        retry_after: int = 0,
    ) -> Response:
        """Return the login page; `problem` names the text of what is wrong."""
        offers = self._logins.offers
        buttons = [each for each in offers if each.name]
        proof = self._csrf.proof(request)
        waiting = self._pages.texts.wait(retry_after)
        retry = (("Retry-After", str(retry_after)),) if retry_after else ()
        return self._pages.page(
            "login",
            status=status,
            leads_on=bool(pending.redirect_uri) or any(each.begin for each in offers),
            headers=(*proof.headers, *retry),
            action=self._base + LOGIN,
            csrf=proof.value,
            request=pending.ticket,
            client_name=pending.client_name,
            again=pending.again and self._sessions.signed_in(request) is not None,
            username=username[:_MAX_SHOWN],
            problem=self._pages.texts(problem, wait=waiting) if problem else "",
            invalid=invalid,
            # Only who has tried too often is told for how long.
            wait=retry_after if problem == "login.throttled" else 0,
            wait_text=waiting,
            passwords=len(buttons) < len(offers),
            upstreams=buttons,
        )

    def _signed_in_page(self, request: Request, user_id: str, name: str) -> Response:
        proof = self._csrf.proof(request, user_id)
        return self._pages.page(
            "signed_in",
            headers=proof.headers,
            action=self._base + LOGOUT,
            csrf=proof.value,
            name=name,
            account=self._base + ACCOUNT,
        )

    def no_pending(self, ticket: str) -> Response:
        """Return the page for a link that is not valid. From one of ours, users can begin again."""
        error = invalid_request("The link is invalid or has expired", "unusable_login_link")
        expired = self._logins.expired(ticket)
        if expired is None:
            return self._errors.show(error, LOGIN, "login_link")
        again = Link(self._logins.after(expired), self._pages.texts("error.back.again"))
        return self._errors.show(
            error, LOGIN, "login_link", client_name=expired.client_name, back=again
        )


class PasswordLogin:
    """The login method "password", whose form is on the login page.

    Args:
        page: the login page.
        parts: the parts of the login.
        acr_values: the authentication contexts of a password.
    """

    name = "password"
    paths: frozenset[str] = frozenset({LOGIN})

    def __init__(
        self, page: LoginEndpoint, parts: LoginParts, *, acr_values: Sequence[str]
    ) -> None:
        self._page = page
        self._errors = parts.errors
        self._csrf = parts.csrf
        self._logins = parts.logins
        self._accounts = parts.accounts
        self._sessions = parts.sessions
        self._throttle = parts.throttle
        self._known_browsers = parts.known_browsers
        self._audit = parts.audit
        self.offers: Sequence[Offer] = (Offer(parts.base + LOGIN),)
        self.acr_values: Sequence[str] = acr_values

    def check(self, connection: Connection, proof: Proof) -> None:
        """Raise `ProofLapsed` if the user has another password by now."""
        [fingerprint] = proof.evidence
        self._accounts.check_unchanged(connection, proof.user_id, fingerprint)

    def handle(self, request: Request) -> Response:
        """Return the response to the form of the login page."""
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._errors.show(error, LOGIN, "request")
        pending = self._logins.pending(fields.get("request", ""))
        if pending is None:
            return self._page.no_pending(fields.get("request", ""))
        username, password = fields.get("username", ""), fields.get("password", "")
        if not self._csrf.holds(request, fields):
            return self._page.form(request, pending, 400, "login.stale", username)
        if not username.strip() or not password:
            return self._page.form(request, pending, 400, "login.missing", username, invalid=True)
        return self._attempt(request, pending, username, password)

    def _attempt(
        self, request: Request, pending: PendingRequest, username: str, password: str
    ) -> Response:
        login, address = normalized(username), request.peer
        browser = self._known_browsers.identify(request, login)
        attempt = self._throttle.charge(login, address, browser)
        if wait := attempt.wait:
            self._report("login_throttled", login, address)
            return self._page.form(
                request,
                pending,
                429,
                "login.throttled",
                username,
                retry_after=wait,
            )
        try:
            checked = self._accounts.checked(login, password)
        except PasswordsBusy:
            # Otherwise an attacker who keeps the server busy would use up the limits of others.
            self._throttle.take_back(attempt)
            return self._page.form(
                request, pending, 503, "login.busy", username, retry_after=BUSY_SECONDS
            )
        response = None
        if checked is not None:
            account, stored = checked
            evidence = (fingerprint_of(stored),)
            proof = Proof(account.user_id, self.name, self._sessions.by_password, evidence)
            known = self._known_browsers.remember(login, browser)
            with suppress(ProofLapsed):  # an operator has changed the account in the meantime
                response = self._logins.proved(request, pending, proof, known)
        if response is None:
            self._report("login_failed", login, address)
            return self._page.form(request, pending, 403, "login.wrong", username, invalid=True)
        self._throttle.forgive(attempt)
        return response

    def _report(self, event: str, login: str, address: str) -> None:
        # A name without an account is not logged: users type passwords there by mistake.
        user_id = self._accounts.user_id(login)
        self._audit.emit(event, user_id=user_id, address=address or None)
