"""Devices: browsers with which the user of an account signed in before.

Whoever tries an account's password from elsewhere can use up what everybody has of attempts, not
what such a device has. The cookie is sealed and names nobody; it signs nobody in. A changed
password ends it: whoever knew the old one is a stranger from then on.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.login.ticket import TicketError, Tickets

_COOKIE = "bearerguard_device"
_PURPOSE = "device"
_LIFETIME = 180 * 86_400


class Devices:
    """The devices of one server's users.

    `mark` returns, by login name, what changes with the password; None for a name that is nobody's.
    """

    def __init__(
        self, cookies: Cookies, tickets: Tickets, mark: Callable[[str], str | None]
    ) -> None:
        self._cookies = cookies
        self._tickets = tickets
        self._mark = mark

    def known(self, request: Request, login: str) -> str:
        """Return what the device of a request is called; "" unless this user signed in with it."""
        ticket = self._cookies.read(request, _COOKIE)
        holder = self._holder(login) if ticket else None
        if not ticket or holder is None:
            return ""
        try:
            content = self._tickets.open(_PURPOSE, ticket, holder=holder)
        except TicketError:
            return ""
        device: str = content["device"]
        return device

    def remember(self, login: str, device: str) -> tuple[str, str]:
        """Return the header line that makes a browser this user's; `device` as `known` said."""
        content = {"device": device or secrets.token_urlsafe(16)}
        holder = self._holder(login) or ""  # nobody's, if the account is gone at this moment
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=holder)
        return self._cookies.write(_COOKIE, ticket, max_age=_LIFETIME)

    def _holder(self, login: str) -> str | None:
        mark = self._mark(login)
        return None if mark is None else f"{login}\n{mark}"  # no login name has a line break
