"""Connections that are kept for the next fetch, and when they are closed.

Each thread takes a client with a connection of its own, so that its deadline can close that
connection. The tasks of one event loop share one client, which is closed with its loop. Nothing is
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

# Idle connections kept for one origin; more are opened when more threads fetch at once.
_MAX_IDLE = 8


class Connection:
    """A client that one thread uses at a time, and the stream of its connection."""

    def __init__(self, client: httpx2.Client) -> None:
        self.client = client
        self.stream: Any = None


class IdleConnections:
    """The idle connections of this process, by origin."""

    def __init__(self, make: Callable[[str], httpx2.Client]) -> None:
        self._make = make
        self._pid = os.getpid()
        self._idle: dict[str, list[Connection]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def take(self, origin: str, *, fresh: bool = False) -> Connection:
        """Return an idle connection to `origin`, or a new one; with `fresh` always a new one."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self.close()  # our copies alone: the parent's connections stay open
        if not fresh:
            with suppress(KeyError, IndexError):  # there is none
                return self._idle[origin].pop()
        return Connection(self._make(origin))

    def give_back(self, origin: str, connection: Connection) -> None:
        """Keep a connection whose last fetch succeeded."""
        idle = self._idle.setdefault(origin, [])
        if len(idle) < _MAX_IDLE:
            idle.append(connection)
        else:
            connection.client.close()

    def close(self) -> None:
        """Close the idle connections; the next fetch opens one."""
        _close_all(self._idle)


def _close_all(idle: dict[str, list[Connection]]) -> None:
    for connections in list(idle.values()):
        while connections:
            connections.pop().client.close()
    idle.clear()


class LoopClients:
    """One client for each event loop."""

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
            # An event loop that ends closes the generators that were started in it, and so this
            # client, whether or not anybody closes the guard.
            keeper = self._keep(loop, client)
            self._clients[loop] = known = (client, keeper)
            await anext(keeper)
        return known[0]

    async def aclose(self) -> None:
        """Close the client of the running loop; the next fetch opens another."""
        from anyio.lowlevel import current_token  # noqa: PLC0415 - only async callers pay for its import

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
        """Drop the clients of loops that were closed without closing their generators."""
        for loop in list(self._clients):
            is_closed = getattr(loop, "is_closed", None)
            if is_closed is not None and is_closed():
                del self._clients[loop]
