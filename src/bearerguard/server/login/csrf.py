"""CSRF protection: a form is accepted only from a page that this server showed to this browser.

A cookie identifies the browser. Each form contains a ticket that is bound to this cookie and to the
user. Another site can make the browser send the cookie, but it cannot read the ticket.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import NamedTuple

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.login.ticket import TicketError, Tickets

FIELD = "csrf"

_COOKIE = "bearerguard_form"
_PURPOSE = "form"
_LIFETIME = 7200  # time to fetch a phone, or lunch
_NAME = re.compile(r"[\w-]{43}", re.ASCII)


class FormProof(NamedTuple):
    """The value of the hidden field, and the header fields that set the cookie."""

    value: str
    headers: tuple[tuple[str, str], ...]


class Csrf:
    """Makes and checks the hidden fields of forms."""

    def __init__(self, cookies: Cookies, tickets: Tickets) -> None:
        self._cookies = cookies
        self._tickets = tickets

    def proof(self, request: Request, user_id: str = "") -> FormProof:
        """Return the hidden field for a form in the response to `request`."""
        browser, headers = self.browser(request)
        # The salt makes the value differ on every page, so that the sizes of compressed responses
        # do not reveal it (BREACH).
        content = {"salt": secrets.token_urlsafe(8)}
        holder = _holder(browser, user_id)
        value = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=holder)
        return FormProof(value, headers)

    def holds(self, request: Request, fields: Mapping[str, str], user_id: str = "") -> bool:
        """Whether a posted form comes from a page that was rendered for this browser and user."""
        sites = request.values(b"sec-fetch-site")
        if sites and sites not in ([b"same-origin"], [b"none"]):
            return False
        browser = self.known_browser(request)
        if browser is None:
            return False
        try:
            self._tickets.open(_PURPOSE, fields.get(FIELD, ""), holder=_holder(browser, user_id))
        except TicketError:
            return False
        return True

    def browser(self, request: Request) -> tuple[str, tuple[tuple[str, str], ...]]:
        """Return the random name of a browser, and the header fields that set it if it is new."""
        known = self.known_browser(request)
        if known is not None:
            return known, ()
        name = secrets.token_urlsafe(32)
        return name, (self._cookies.write(_COOKIE, name),)

    def known_browser(self, request: Request) -> str | None:
        """Return the random name of a browser, None for one that was not shown a page yet."""
        value = self._cookies.read(request, _COOKIE)
        return value if value is not None and _NAME.fullmatch(value) else None


def _holder(browser: str, user_id: str) -> str:
    return f"{browser} {user_id}"
