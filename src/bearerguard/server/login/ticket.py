"""Tickets: sealed values that the server gives to a browser and gets back within a limited time.

A ticket is bound to one purpose and, if it names a holder, to that holder. Knows no request and no
page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.errors import BearerGuardError
from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Sealer, SealError

# Longer than the ticket of the longest authorization request, shorter than a URL may be.
_MAX_LENGTH = 32_768


class TicketError(BearerGuardError, ValueError):
    """The ticket is altered, has expired, or is for another purpose or holder.

    Internal: each caller of `Tickets.open` handles it.
    """


class Tickets:
    """Issues and opens tickets.

    Args:
        sealer: seals tickets; its key must seal nothing else.
        clock: returns Unix seconds.
    """

    def __init__(self, sealer: Sealer, clock: Callable[[], float]) -> None:
        self._sealer = sealer
        self._clock = clock

    def issue(
        self, purpose: str, content: Mapping[str, Any], *, lifetime: int, holder: str = ""
    ) -> str:
        """Return a ticket that is valid for `lifetime` seconds."""
        expires = int(self._clock()) + lifetime
        body = json.dumps([expires, dict(content)], separators=(",", ":")).encode()
        return base64url.encode(self._sealer.seal(body, _bound(purpose, holder))).decode()

    def open(self, purpose: str, ticket: str, *, holder: str = "") -> dict[str, Any]:
        """Return the content of a ticket; raises `TicketError` unless it is valid."""
        expires, content = self._opened(purpose, ticket, holder)
        if self._clock() >= expires:
            raise TicketError("expired")
        return content

    def content(self, purpose: str, ticket: str, *, holder: str = "") -> dict[str, Any] | None:
        """Return the content of a ticket that may have expired; None unless it is one of ours.

        It tells what the user wanted to do, and proves nothing.
        """
        try:
            return self._opened(purpose, ticket, holder)[1]
        except TicketError:
            return None

    def _opened(self, purpose: str, ticket: str, holder: str) -> tuple[int, dict[str, Any]]:
        try:
            sealed = base64url.decode(ticket[:_MAX_LENGTH].encode("ascii"))
            body = self._sealer.open(sealed, _bound(purpose, holder))
        except (ValueError, SealError):
            raise TicketError("altered, or for another purpose or holder") from None
        opened: tuple[int, dict[str, Any]] = json.loads(body)
        return opened


def _bound(purpose: str, holder: str) -> bytes:
    return f"{purpose}\n{holder}".encode()  # no purpose holds a line break
