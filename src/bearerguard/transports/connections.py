"""Connections that are kept for the next fetch, and what ends them.

Threads take a line each, a client with a connection of its own, so that a deadline knows
what to cut. Tasks share one client in each event loop, which ends with its loop. Nothing is
shared with a forked child. Knows nothing of requests.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx2

# Idle lines kept for one origin; more are opened when more threads ask at once.
_MAX_IDLE = 8


class Line:
    """A client that one thread uses at a time, and the stream below its connection."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.stream: Any = None


class Lines:
    """The idle lines of this process, by origin."""

    def __init__(self, make: Callable[[str], httpx2.Client]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._idle: dict[str, list[Line]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, origin: str, *, fresh: bool = False) -> Line:
        """Return an idle line to `origin`, or a new one; `fresh` always a new one."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.close()  # our copies: the parent's connections stay
        if not fresh:
            with suppress(KeyError, IndexError):  # there is none
                return self._idle[origin].pop()
        return Line(self._make(origin))

    def give_back(self, origin: str, line: Line) -> None:
        """Keep a line whose last fetch went well."""
        idle = self._idle.setdefault(origin, [])
        if len(idle) < _MAX_IDLE:
            idle.append(line)
        else:
            line.client.close()

    def close(self) -> None:
        """Close the idle lines; the next fetch opens one."""
        _close_all(self._idle)


def _close_all(idle: dict[str, list[Line]]) -> None:
    for lines in list(idle.values()):
        while lines:
            lines.pop().client.close()
    idle.clear()


class LoopClients:
    """One client for each running event loop."""

    def __init__(self, make: Callable[[], httpx2.AsyncClient]) -> None:
        self._make = make
        self._clients: dict[object, tuple[httpx2.AsyncClient, AsyncGenerator[None]]] = {}

    async def client(self) -> httpx2.AsyncClient:
        """Return the client of the running loop."""
        from anyio.lowlevel import current_token  # noqa: PLC0415 - only async callers pay for it

        loop = current_token().native_token
        known = self._clients.get(loop)
        if known is None:
            self._forget_closed_loops()
            client = self._make()
            # Event loops close the generators that were begun in them when they end, and
            # so this one's client, whether or not anybody closes the guard.
            keeper = self._keep(loop, client)
            self._clients[loop] = known = (client, keeper)
            await anext(keeper)
        return known[0]

    async def aclose(self) -> None:
        """Close the client of the running loop; the next fetch opens another."""
        from anyio.lowlevel import current_token  # noqa: PLC0415

        known = self._clients.get(current_token().native_token)
        if known is not None:
            await known[1].aclose()

    async def _keep(self, loop: object, client: httpx2.AsyncClient) -> AsyncGenerator[None]:
        try:
            yield
        finally:
            self._clients.pop(loop, None)
            await client.aclose()

    def _forget_closed_loops(self) -> None:
        """Drop what loops left behind that were closed without ending their generators."""
        for loop in list(self._clients):
            is_closed = getattr(loop, "is_closed", None)
            if is_closed is not None and is_closed():
                del self._clients[loop]
