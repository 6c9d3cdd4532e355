"""Tickets: values that this server hands out and takes back unaltered, for a limited time.

A ticket is sealed: it opens for one purpose and, where a holder is named, from nobody else's
hands. Knows no request and no page.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Sealer, SealError

# More than the longest authorization request makes, less than what a server takes as a URL.
_MAX_LENGTH = 32_768


class TicketError(ValueError):
    """The ticket is altered, over, or for another purpose or holder."""


class Tickets:
    """Issues tickets and opens them again.

    Args:
        sealer: seals them, and nothing else.
        clock: the time, in seconds.
    """

    def __init__(self, sealer: Sealer, clock: Callable[[], float]) -> None:
        self._sealer = sealer
        self._clock = clock

    def issue(
        self, purpose: str, content: Mapping[str, Any], *, lifetime: int, holder: str = ""
    ) -> str:
        """Return a ticket that opens within `lifetime` seconds."""
        expires = int(self._clock()) + lifetime
        body = json.dumps([expires, dict(content)], separators=(",", ":")).encode()
        return base64url.encode(self._sealer.seal(body, _bound(purpose, holder))).decode()

    def open(self, purpose: str, ticket: str, *, holder: str = "") -> dict[str, Any]:
        """Return what the ticket holds; raises `TicketError` unless it is good."""
        try:
            sealed = base64url.decode(ticket[:_MAX_LENGTH].encode("ascii"))
            body = self._sealer.open(sealed, _bound(purpose, holder))
        except (ValueError, SealError):
            raise TicketError("altered, or for another purpose or holder") from None
        expires, content = json.loads(body)
        if self._clock() >= expires:
            raise TicketError("over")
        opened: dict[str, Any] = content
        return opened


def _bound(purpose: str, holder: str) -> bytes:
    return f"{purpose}\n{holder}".encode()  # no purpose holds a line break
