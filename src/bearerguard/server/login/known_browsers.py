"""Known browsers: those with which the user of an account has signed in before.

A known browser has its own limit of login attempts, which guesses from elsewhere cannot use up.
Its cookie is sealed, names nobody and signs nobody in. A new password invalidates it, because
whoever knew the old password must not stay known.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.login.ticket import TicketError, Tickets

_COOKIE = "bearerguard_device"
_PURPOSE = "known browser"
_LIFETIME = 180 * 86_400


class KnownBrowsers:
    """The known browsers of one server's users.

    Args:
        cookies: reads and writes their cookie.
        tickets: seals the cookie.
        password_mark: returns, for a login name, a value that changes with the password; None for
            a name without an account.
    """

    def __init__(
        self, cookies: Cookies, tickets: Tickets, password_mark: Callable[[str], str | None]
    ) -> None:
        self._cookies = cookies
        self._tickets = tickets
        self._password_mark = password_mark

    def identify(self, request: Request, login: str) -> str:
        """Return the id of a request's browser; "" unless this user has signed in with it."""
        ticket = self._cookies.read(request, _COOKIE)
        holder = self._holder(login) if ticket else None
        if not ticket or holder is None:
            return ""
        try:
            content = self._tickets.open(_PURPOSE, ticket, holder=holder)
        except TicketError:
            return ""
        browser: str = content["browser"]
        return browser

    def remember(self, login: str, browser: str) -> tuple[str, str]:
        """Return the header field that makes a browser known; `browser` is as from `identify`."""
        content = {"browser": browser or secrets.token_urlsafe(16)}
        holder = self._holder(login) or ""  # opens for nobody: the account was removed just now
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=holder)
        return self._cookies.write(_COOKIE, ticket, max_age=_LIFETIME)

    def _holder(self, login: str) -> str | None:
        mark = self._password_mark(login)
        return None if mark is None else f"{login}\n{mark}"  # no login name has a line break
