"""The page on which signed-in users change their password.

The current password is needed, and guesses of it are throttled like those at the login, together
with them. A new password ends all sessions and begins another one for this browser, so that nobody
who has copied a cookie stays signed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bearerguard.errors import PasswordRejected, PasswordsBusy
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.accounts import Account, fingerprint_of
from bearerguard.server.login.login_endpoint import ACCOUNT, BUSY_SECONDS, LoginParts
from bearerguard.server.login.passwords import MAX_LENGTH, MIN_LENGTH, check_new
from bearerguard.server.login.session import ProofLapsed, SignedIn
from bearerguard.server.login.steps import LOGIN, see_other

PASSWORD = f"{ACCOUNT}/password"


class PasswordPage:
    """The page below the account page.

    Args:
        parts: those of the login.
        account: the URL of the account page.
        then: called with the user's id after a change; returns where the user gets.
    """

    def __init__(self, parts: LoginParts, account: str, then: Callable[[str], str]) -> None:
        self._parts = parts
        self._account = account
        self._then = then

    def handle(self, request: Request, signed_in: SignedIn) -> Response:
        """Return the response to a GET, HEAD or POST of the user who is signed in."""
        account = self._parts.accounts.of_user(signed_in.user_id)
        if account is None or not account.has_password:  # removed meanwhile, or signs in elsewhere
            return see_other(self._parts.base + LOGIN)
        return (
            self._posted(request, account)
            if request.method == "POST"
            else self._form(request, account)
        )

    def _posted(self, request: Request, account: Account) -> Response:
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._parts.errors.show(error, PASSWORD, "request")
        if not self._parts.csrf.holds(request, fields, account.user_id):
            return self._form(request, account, 400, "login.stale")
        current, new = fields.get("current", ""), fields.get("new", "")
        if not current or not new or "repeated" not in fields:
            return self._form(request, account, 400, "password.missing", wrong=not current)
        if problem := _problem(current, new, fields["repeated"], account):
            return self._form(request, account, 400, problem, unfit=True)
        return self._change(request, account, current, new)

    def _change(self, request: Request, account: Account, current: str, new: str) -> Response:
        parts, login = self._parts, account.login
        browser = parts.known_browsers.identify(request, login)
        attempt = parts.throttle.charge(login, request.peer, browser)
        if wait := attempt.wait:
            self._report("login_throttled", request, account)
            return self._form(request, account, 429, "login.throttled", retry_after=wait)
        session = None
        try:
            checked = parts.accounts.checked(login, current)
            if checked is not None:
                stored = parts.accounts.replace_password(*checked, new)
                if stored is not None:
                    session = self._begun(request, account.user_id, stored)
        except PasswordsBusy:
            parts.throttle.take_back(attempt)
            return self._form(request, account, 503, "login.busy", retry_after=BUSY_SECONDS)
        if checked is None:
            self._report("login_failed", request, account)
            return self._form(request, account, 403, "password.wrong", wrong=True)
        if session is None:
            return see_other(parts.base + LOGIN)
        parts.throttle.forgive(attempt)
        cookies = (session, parts.known_browsers.remember(login, browser))
        return see_other(self._then(account.user_id), *cookies)

    def _begun(self, request: Request, user_id: str, stored: str) -> tuple[str, str] | None:
        """Begin a session; None if an operator has changed the account in the meantime."""
        accounts, fingerprint = self._parts.accounts, fingerprint_of(stored)
        try:
            return self._parts.sessions.begin(
                request,
                user_id,
                check=lambda connection: accounts.check_unchanged(connection, user_id, fingerprint),
            )
        except ProofLapsed:
            return None

    def _report(self, event: str, request: Request, account: Account) -> None:
        self._parts.audit.emit(event, user_id=account.user_id, address=request.peer or None)

    def _form(
        self,
        request: Request,
        account: Account,
        status: int = 200,
        problem: str = "",
        *,
        wrong: bool = False,
        unfit: bool = False,
        retry_after: int = 0,
    ) -> Response:
        pages = self._parts.pages
        proof = self._parts.csrf.proof(request, account.user_id)
        waiting = (("Retry-After", str(retry_after)),) if retry_after else ()
        values: dict[str, Any] = {"least": MIN_LENGTH, "most": MAX_LENGTH}
        if problem == "login.throttled":
            values = {"wait": pages.texts.wait(retry_after)}
        return pages.page(
            "account_password",
            status=status,
            leads_on=self._parts.leads_on,
            headers=(*proof.headers, *waiting),
            action=f"{self._account}/password",
            account=self._account,
            csrf=proof.value,
            username=account.login,
            problem=pages.texts(problem, **values) if problem else "",
            wrong=wrong,
            unfit=unfit,
            least=MIN_LENGTH,
        )


def _problem(current: str, new: str, repeated: str, account: Account) -> str:
    """Return the text about what is wrong with a new password, "" if nothing is."""
    if new != repeated:
        return "password.differ"
    if new == current:
        return "password.same"
    try:
        check_new(new, account.login)
    except PasswordRejected:
        if MIN_LENGTH <= len(new) <= MAX_LENGTH:
            return "password.easy"
        return "password.short" if len(new) < MIN_LENGTH else "password.long"
    return ""
