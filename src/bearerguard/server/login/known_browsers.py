"""Known browsers: browsers with which an account's user has signed in before.

A known browser has its own limit of login attempts, which guesses from elsewhere cannot use up.
Its cookie is sealed, identifies no user and is no session. A new password invalidates the cookie,
because whoever knew the old password may have one.
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
        password_mark: called with a login name; returns a value that changes when the password
            changes, or None if there is no account.
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
        """Return the Set-Cookie field of a known browser; `browser` is the result of `identify`."""
        content = {"browser": browser or secrets.token_urlsafe(16)}
        holder = self._holder(login) or ""  # the account was removed just now: no holder matches
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=holder)
        return self._cookies.write(_COOKIE, ticket, max_age=_LIFETIME)

    def _holder(self, login: str) -> str | None:
        mark = self._password_mark(login)
        return None if mark is None else f"{login}\n{mark}"  # no login name has a line break
