"""Devices: browsers with which the user of an account signed in before.

Whoever tries an account's password from elsewhere can use up what everybody has of attempts, not
what such a device has. The cookie is sealed and names nobody; it signs nobody in.
"""

from __future__ import annotations

import secrets

from bearerguard.messages import Request
from bearerguard.server.cookies import Cookies
from bearerguard.server.ticket import TicketError, Tickets

_COOKIE = "bearerguard_device"
_PURPOSE = "device"
_LIFETIME = 180 * 86_400


class Devices:
    """The devices of one server's users."""

    def __init__(self, cookies: Cookies, tickets: Tickets) -> None:
        self._cookies = cookies
        self._tickets = tickets

    def known(self, request: Request, login: str) -> str:
        """Return what the device of a request is called; "" unless this user signed in with it."""
        ticket = self._cookies.read(request, _COOKIE)
        try:
            content = self._tickets.open(_PURPOSE, ticket or "", holder=login)
        except TicketError:
            return ""
        device: str = content["device"]
        return device

    def remember(self, login: str, device: str) -> tuple[str, str]:
        """Return the header line that makes a browser this user's; `device` as `known` said."""
        content = {"device": device or secrets.token_urlsafe(16)}
        ticket = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=login)
        return self._cookies.write(_COOKIE, ticket, max_age=_LIFETIME)
