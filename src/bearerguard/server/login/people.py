"""People: who is signed in, what they are asked, and what they answered.

The façade over accounts, sessions, pages and consent; the endpoints need nothing else. With
`current_user=` an app's own login takes the place of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from urllib.parse import urlencode, urlsplit

import argon2

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.http import responses
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.login.accounts import Accounts
from bearerguard.server.login.consent import Consent, ConsentAnswer, ConsentRequest
from bearerguard.server.login.csrf import Csrf
from bearerguard.server.login.known_browsers import KnownBrowsers
from bearerguard.server.login.login_endpoint import (
    BUSY_SECONDS,
    LOGIN,
    LOGOUT,
    LoginEndpoint,
    see_other,
)
from bearerguard.server.login.passwords import PLACES, Passwords
from bearerguard.server.login.prompt import Prompts
from bearerguard.server.login.session import LIFETIME, Sessions, SignedIn
from bearerguard.server.login.throttle import PER_ACCOUNT, PER_ADDRESS, RateLimit, Throttle
from bearerguard.server.login.ticket import Tickets
from bearerguard.server.pages import Pages
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.database import Database


@dataclass(frozen=True, slots=True)
class User:
    """A user of an app that has its own login.

    Attributes:
        id: what identifies the user for ever; it becomes the `sub` of tokens.
        name: what pages call the user.
        auth_time: when the user proved who they are, in Unix seconds; None if unknown, which
            meets no request for a recent sign-in (`max_age`, `prompt=login`).
    """

    id: str
    name: str
    auth_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeopleOptions:
    """What an operator may choose about people and pages.

    Attributes:
        site_name: what pages call this server; the issuer's host by default.
        templates: a directory whose templates, and `style.css`, win over the built-in ones.
        texts: replacements for sentences, by their names in `bearerguard.server.pages.texts`.
        current_user: returns who is signed in to the app that `login_url` belongs to, or None.
        login_url: where that app signs users in; it gets the address to return to as `next`, and
            `prompt=login` where a user who is signed in must prove who they are again, and come
            back with a new `auth_time`, or `prompt=select_account` where they may change.
        session_lifetime: seconds until a user must sign in again.
        per_account: the limit of login attempts for one login name from one address, and for
            each browser that its user has signed in with before. From all addresses together,
            the limit is three times as high.
        per_address: the limit of login attempts from one address. Requests without a known
            address (loopback, a Unix socket) share a limit that is five times as high.
        password_parameters: argon2id's; RFC 9106's second recommendation by default.
    """

    site_name: str | None = None
    templates: str | PathLike[str] | None = None
    texts: Mapping[str, str] | None = None
    current_user: Callable[[Request], User | None] | None = None
    login_url: str | None = None
    session_lifetime: int = LIFETIME
    per_account: RateLimit = PER_ACCOUNT
    per_address: RateLimit = PER_ADDRESS
    password_parameters: argon2.Parameters | None = None


class People:
    """The people of one authorization server.

    Args:
        database: where accounts, sessions, consents and attempts are kept.
        issuer: the server's URL.
        secret: what tickets and digests are made with.
        clock: the time, in seconds.
        audit: is told of every security event.
        on_disabled: ends all that the user of an id allowed.
        options: what the operator chose.
        password_places: how many requests may be waiting for a password's check at once.

    Raises:
        ConfigurationError: an option cannot be used.
    """

    def __init__(
        self,
        database: Database,
        *,
        issuer: str,
        secret: ServerSecret,
        clock: Callable[[], float],
        audit: Audit,
        on_disabled: Callable[[str], object],
        options: PeopleOptions | None = None,
        password_places: int = PLACES,
    ) -> None:
        options = options or PeopleOptions()
        if (options.current_user is None) != (options.login_url is None):
            raise ConfigurationError(
                "current_user=: it goes with login_url=, where that app signs its users in"
            )
        parts = urlsplit(issuer)
        self._issuer = issuer
        self._base = parts.path.rstrip("/")
        self._current_user = options.current_user
        self._login_url = options.login_url
        cookies = Cookies(issuer)
        tickets = Tickets(secret.sealer("tickets of the pages"), clock)
        csrf = Csrf(cookies, tickets)
        self._pages = Pages(
            options.site_name or parts.netloc, templates=options.templates, texts=options.texts
        )
        self._sessions = Sessions(
            database, cookies, secret, clock, lifetime=options.session_lifetime
        )
        passwords = Passwords(options.password_parameters, places=password_places)
        self.accounts = Accounts(database, passwords, clock, on_disabled=on_disabled)
        self._consent = Consent(
            self._base, database, pages=self._pages, csrf=csrf, tickets=tickets, clock=clock
        )
        self.prompts = Prompts(tickets, clock)
        self._login_endpoint = LoginEndpoint(
            self._base,
            pages=self._pages,
            csrf=csrf,
            tickets=tickets,
            accounts=self.accounts,
            sessions=self._sessions,
            throttle=Throttle(
                database,
                secret,
                clock,
                per_account=options.per_account,
                per_address=options.per_address,
            ),
            known_browsers=KnownBrowsers(cookies, tickets, self.accounts.password_mark),
            audit=audit,
        )

    @property
    def paths(self) -> frozenset[str]:
        """The paths that `handle` answers, below the issuer's own."""
        return frozenset() if self._current_user else frozenset({LOGIN, LOGOUT})

    def signed_in(self, request: Request) -> SignedIn | None:
        """Return who is signed in, if anybody is."""
        if self._current_user is None:
            return self._sessions.signed_in(request)
        user = self._current_user(request)
        if user is None:
            return None
        if not isinstance(user, User) or not user.id:
            raise ConfigurationError("current_user=: return a User with an id, or None")
        return SignedIn(user.id, user.name, user.auth_time)

    def ask_to_sign_in(
        self, request: Request, *, client_name: str, redirect_uri: str = "", prompt: str = ""
    ) -> Response:
        """Send the browser to sign in and to come back with the same authorization request.

        `redirect_uri` is where that request leads in the end: Chromium holds the redirects
        after a form's POST to the form's page's policy. `prompt` is "login" where the sign-in must
        be a new one, and "select_account" where the user is to choose.
        """
        query = urlsplit(request.url).query
        if prompt:
            query = self.prompts.marked(query)
        if self._login_url is None:
            return see_other(
                self._login_endpoint.location(
                    query, client_name=client_name, redirect_uri=redirect_uri
                )
            )
        here = f"{self._issuer.rstrip('/')}/oauth/authorize?{query}"
        joint = "&" if "?" in self._login_url else "?"
        asked = {"next": here, "prompt": prompt} if prompt else {"next": here}
        return see_other(f"{self._login_url}{joint}{urlencode(asked)}")

    def handle(self, request: Request) -> Response:
        """Answer a request to one of `paths`."""
        path = urlsplit(request.url).path.removeprefix(self._base)
        if path not in self.paths:
            return self._pages.error(404, "not_found")
        if request.method not in {"GET", "HEAD", "POST"}:
            return self.wrong_method("GET", "HEAD", "POST")
        if path == LOGIN:
            return self._login_endpoint.login(request)
        return self._login_endpoint.logout(request, self._on_to_another_account)

    def ask_consent(
        self, request: Request, signed_in: SignedIn, consent: ConsentRequest
    ) -> Response:
        """Return the page that asks the user; its form is posted to `/oauth/consent`."""
        switch = "" if self._current_user else self._base + LOGOUT
        return self._consent.ask(request, signed_in, consent, switch_action=switch)

    def consent_answer(self, request: Request, signed_in: SignedIn) -> ConsentAnswer | Response:
        """Return the user's answer, or the response to a form that is not good (any more)."""
        return self._consent.answer(request, signed_in)

    def remembered(
        self, user_id: str, client_id: str, resources: Collection[str]
    ) -> frozenset[str]:
        """Return the scopes that a user allowed a client for good, at every one of `resources`."""
        return self._consent.remembered(user_id, client_id, resources)

    def remember(
        self, user_id: str, client_id: str, scopes: frozenset[str], resources: Collection[str]
    ) -> None:
        """Remember what a user allowed a client for good at `resources`, besides earlier scopes."""
        self._consent.remember(user_id, client_id, scopes, resources)

    def forget(self, user_id: str, client_id: str | None = None) -> None:
        """Ask the user again, about one client or about all."""
        self._consent.forget(user_id, client_id)

    def error_page(self, status: int, name: str, text: str = "text") -> Response:
        """Return a page that says what went wrong, and leads nowhere (AZ-02)."""
        return self._pages.error(status, name, text)

    def wrong_method(self, *allowed: str) -> Response:
        """Return the page for a method that a path does not have."""
        return self._pages.error(405, "method", Allow=", ".join(allowed))

    def unavailable(self) -> Response:
        """Return the page that says that the server has trouble."""
        return self._pages.error(503, "unavailable", Retry_After=responses.RETRY_SECONDS)

    def busy(self) -> Response:
        """Return the page that says that too many people are signing in."""
        return self._pages.error(503, "busy", Retry_After=str(BUSY_SECONDS))

    def too_large(self) -> Response:
        """Return the page for a form that is too long to be read."""
        return self._pages.error(413, "request")

    def _on_to_another_account(self, request: Request, signed_in: SignedIn) -> str:
        """Return where to sign in as somebody else, when a consent page asks for that."""
        posted = self._consent.posted(request, signed_in)
        if posted is None:
            return ""
        return self._login_endpoint.location(
            posted["query"], client_name=posted["client"], redirect_uri=posted["redirect"]
        )
