"""Proof that a form comes from a page that this server showed to this browser.

A cookie names the browser; each form holds a ticket for that cookie and that user. A page of
another site can make a browser send the cookie, but knows no such ticket.
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
_LIFETIME = 7200  # somebody may fetch their phone, or their lunch
_NAME = re.compile(r"[\w-]{43}", re.ASCII)


class FormProof(NamedTuple):
    """The hidden field's value, and the header lines the page must carry."""

    value: str
    headers: tuple[tuple[str, str], ...]


class Csrf:
    """Issues and checks the hidden fields that protect forms."""

    def __init__(self, cookies: Cookies, tickets: Tickets) -> None:
        self._cookies = cookies
        self._tickets = tickets

    def proof(self, request: Request, user_id: str = "") -> FormProof:
        """Return what a form shown in answer to `request` needs."""
        browser = self._browser(request)
        headers: tuple[tuple[str, str], ...] = ()
        if browser is None:
            browser = secrets.token_urlsafe(32)
            headers = (self._cookies.write(_COOKIE, browser),)
        # The salt makes every page's value another: compression then tells nothing about it.
        content = {"salt": secrets.token_urlsafe(8)}
        holder = _holder(browser, user_id)
        value = self._tickets.issue(_PURPOSE, content, lifetime=_LIFETIME, holder=holder)
        return FormProof(value, headers)

    def holds(self, request: Request, fields: Mapping[str, str], user_id: str = "") -> bool:
        """Whether a posted form comes from a page that this browser and user were shown."""
        sites = request.values(b"sec-fetch-site")
        if sites and sites not in ([b"same-origin"], [b"none"]):
            return False
        browser = self._browser(request)
        if browser is None:
            return False
        try:
            self._tickets.open(_PURPOSE, fields.get(FIELD, ""), holder=_holder(browser, user_id))
        except TicketError:
            return False
        return True

    def _browser(self, request: Request) -> str | None:
        value = self._cookies.read(request, _COOKIE)
        return value if value is not None and _NAME.fullmatch(value) else None


def _holder(browser: str, user_id: str) -> str:
    return f"{browser} {user_id}"
