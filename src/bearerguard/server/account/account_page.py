"""The account page: what the signed-in user has allowed which app, and where the user is signed in.

Each button is a POST, which ends something and redirects to the page. That says what was done, by a
sealed text in its URL: a reload repeats nothing. Whatever a request names, it ends only what is its
user's. With an app's own login, the page shows the apps alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.account.access import Access, GrantedAccess
from bearerguard.server.account.applications import Application, applications, place_of
from bearerguard.server.account.password_page import PASSWORD, PasswordPage
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form
from bearerguard.server.login.consent import scope_line
from bearerguard.server.login.login_endpoint import ACCOUNT, LOGOUT
from bearerguard.server.login.people import People
from bearerguard.server.login.session import Session, SignedIn
from bearerguard.server.login.steps import see_other
from bearerguard.server.login.ticket import TicketError
from bearerguard.server.settings import Settings
from bearerguard.server.store.connection import is_storable

_PURPOSE = "account"
# Seconds for which a page that is loaded again says what was done.
_LIFETIME = 300
# Apps on one page, and single grants of one app; the buttons for all end the others, too.
_APPS = 20
_SIGN_INS = 20


class AccountPage:
    """The page of the user who is signed in, and the paths below it.

    Args:
        people: knows who is signed in.
        access: lists and ends what users have allowed.
        registry: the registered clients.
        settings: the descriptions of scopes.
        clock: returns Unix seconds.
        tokens: the path of the page of personal access tokens, "" for none.
    """

    def __init__(
        self,
        people: People,
        access: Access,
        *,
        registry: ClientRegistry,
        settings: Settings,
        clock: Callable[[], float],
        tokens: str = "",
    ) -> None:
        self._tokens = tokens
        self._people = people
        self._parts = people.parts
        self._access = access
        self._registry = registry
        self._settings = settings
        self._clock = clock
        self._here = self._parts.base + ACCOUNT
        self._password = PasswordPage(
            self._parts,
            self._here,
            then=lambda user_id: self._done(user_id, self._but_tokens("password")),
        )
        self._actions: Mapping[str, Callable[[Request, str, str], tuple[str, str]]] = {
            "end": self._end,
            "end_one": self._end_one,
            "end_all": self._end_all,
        }
        if people.has_accounts:
            self._actions |= {
                "sign_out": self._sign_out,
                "sign_out_others": self._sign_out_others,
            }

    @property
    def paths(self) -> frozenset[str]:
        """The paths that `handle` serves, relative to the issuer's path."""
        return frozenset({ACCOUNT, PASSWORD} if self._people.has_accounts else {ACCOUNT})

    def handle(self, request: Request) -> Response:
        """Return the response to a request to one of `paths`."""
        if request.method not in {"GET", "HEAD", "POST"}:
            return self._people.wrong_method(request, ACCOUNT, "GET", "HEAD", "POST")
        signed_in = self._people.signed_in(request)
        if signed_in is None:
            return self._people.sign_in_for(ACCOUNT)
        if urlsplit(request.url).path == self._parts.base + PASSWORD:
            return self._password.handle(request, signed_in)
        if request.method == "POST":
            return self._posted(request, signed_in)
        return self._page(request, signed_in)

    def _posted(self, request: Request, signed_in: SignedIn) -> Response:
        try:
            fields = from_form(request).values
        except OAuthError as error:
            return self._parts.errors.show(error, ACCOUNT, "request")
        if not self._parts.csrf.holds(request, fields, signed_in.user_id):
            problem = self._parts.pages.texts("login.stale")
            return self._page(request, signed_in, status=400, problem=problem)
        for name, act in self._actions.items():
            if (chosen := fields.get(name)) is not None:
                done, client = act(request, signed_in.user_id, chosen)
                return see_other(self._done(signed_in.user_id, done, client))
        return see_other(self._here)

    # What the buttons do; each returns what was done, and the name of the app that it was done to.

    def _end(self, _: Request, user_id: str, client_id: str) -> tuple[str, str]:
        self._access.end(user_id, client_id=client_id)
        client = self._registry.find(client_id) if is_storable(client_id) else None
        return ("access", "") if client is None else ("app", client.name)

    def _end_one(self, _: Request, user_id: str, grant_id: str) -> tuple[str, str]:
        self._access.end_one(user_id, grant_id)
        return "access", ""

    def _end_all(self, _: Request, user_id: str, __: str) -> tuple[str, str]:
        self._access.end_all(user_id)
        return self._but_tokens("all"), ""

    def _sign_out(self, _: Request, user_id: str, session_id: str) -> tuple[str, str]:
        self._report(user_id, self._parts.sessions.end_one(user_id, session_id))
        return "session", ""

    def _sign_out_others(self, request: Request, user_id: str, __: str) -> tuple[str, str]:
        self._report(user_id, self._parts.sessions.end_others(request, user_id))
        return "sessions", ""

    def _report(self, user_id: str, ended: int) -> None:
        if ended:
            self._parts.audit.emit(
                "sessions_ended", user_id=user_id, sessions=ended, reason="asked"
            )

    # What the page says and shows

    def _but_tokens(self, done: str) -> str:
        """Return the text about what ends no personal access tokens, where there are some."""
        return f"{done}_but_tokens" if self._tokens else done

    def _done(self, user_id: str, done: str, client: str = "") -> str:
        """Return the URL of the page that says what was done."""
        content = {"done": done, "client": client}
        ticket = self._parts.tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=user_id)
        return f"{self._here}?{urlencode({'done': ticket})}"

    def _said(self, query: Mapping[str, list[str]], user_id: str) -> str:
        try:
            ticket = query.get("done", [""])[0]
            content = self._parts.tickets.open(_PURPOSE, ticket, holder=user_id)
        except TicketError:
            return ""
        return self._parts.pages.texts(f"account.done.{content['done']}", client=content["client"])

    def _page(
        self, request: Request, signed_in: SignedIn, *, status: int = 200, problem: str = ""
    ) -> Response:
        user_id, has_accounts = signed_in.user_id, self._people.has_accounts
        query = parse_qs(urlsplit(request.url).query)
        found, more = applications(self._access, user_id)
        pages = max(1, -(-len(found) // _APPS))
        page = _number(query.get("page", ["1"])[0], pages)
        sessions = self._parts.sessions.of_user(request, user_id) if has_accounts else []
        proof = self._parts.csrf.proof(request, user_id)
        return self._parts.pages.page(
            "account",
            status=status,
            leads_on=self._parts.leads_on,
            headers=proof.headers,
            action=self._here,
            csrf=proof.value,
            name=signed_in.name,
            done=self._said(query, user_id),
            problem=problem,
            apps=list(map(self._app, found[(page - 1) * _APPS : page * _APPS])),
            more=more,
            page=page,
            pages=pages,
            previous=f"{self._here}?page={page - 1}" if page > 1 else "",
            next=f"{self._here}?page={page + 1}" if page < pages else "",
            sessions=list(map(self._session, sessions)),
            logout=self._parts.base + LOGOUT,
            password=self._parts.base + PASSWORD if self._has_password(user_id) else "",
            tokens_url=self._tokens,
        )

    def _has_password(self, user_id: str) -> bool:
        account = self._parts.accounts.of_user(user_id) if self._people.has_accounts else None
        return account is not None and account.has_password

    def _app(self, app: Application) -> dict[str, Any]:
        client = self._registry.find(app.client_id)
        place, host = ("", "") if client is None else place_of(client)
        texts = self._parts.pages.texts
        several = len(self._settings.resources) > 1
        return {
            "client_id": app.client_id,
            "name": app.name,
            "is_unknown": client is not None and client.registered_by == clients.BY_REQUEST,
            "place": place,
            "host": host,
            "scopes": [scope_line(each, self._settings, texts) for each in app.scopes],
            "resources": app.resources if several else [],
            "when": self._when(app.since, app.last_used_at) if app.grants else "",
            "remembered": app.is_remembered,
            "sign_ins": list(map(self._sign_in, app.grants[:_SIGN_INS])),
            "count": len(app.grants),
        }

    def _sign_in(self, grant: GrantedAccess) -> dict[str, str]:
        when = self._when(grant.created_at, grant.last_used_at)
        return {"grant_id": grant.grant_id, "when": when}

    def _session(self, session: Session) -> dict[str, Any]:
        browser, texts = session.browser, self._parts.pages.texts
        values = {"browser": browser.name, "system": browser.system}
        since = self._ago(session.signed_in_at)
        # Next to text, and not a part of it: an address is shown as it is.
        said = "from" if session.address else "since"
        return {
            "session_id": session.session_id,
            "device": texts(
                f"account.session.{_KNOWN[bool(browser.name), bool(browser.system)]}", **values
            ),
            "when": texts(f"account.session.{said}", since=since, address=session.address),
            "is_this": session.is_this,
        }

    def _when(self, since: float, last_used_at: float | None) -> str:
        texts = self._parts.pages.texts
        if last_used_at is None:
            return texts("account.since", since=self._ago(since))
        return texts("account.used", since=self._ago(since), used=self._ago(last_used_at))

    def _ago(self, at: float) -> str:
        return self._parts.pages.texts.ago(at, self._clock())


# The text for a device, by whether its browser and its system are known.
_KNOWN = {
    (True, True): "device",
    (True, False): "browser",
    (False, True): "system",
    (False, False): "unknown",
}


def _number(text: str, most: int) -> int:
    """Return the number of a page, the nearest there is; 1 for what is no number."""
    if not (text.isascii() and text.isdecimal() and len(text) < 10):  # noqa: PLR2004 - digits
        return 1
    return min(max(int(text), 1), most)
