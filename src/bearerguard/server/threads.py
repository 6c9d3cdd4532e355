"""The server's own threads under an event loop, asyncio's or trio's: a bounded number of them.

Neither the database nor a password hash ever holds up the loop, or takes the app's threads.
"""

from __future__ import annotations

from collections.abc import Callable

import anyio
import anyio.lowlevel
import anyio.to_thread

from bearerguard.messages import Request, Response


class Threads:
    """Runs `handle` in threads, at most `count` at once in each event loop."""

    def __init__(self, handle: Callable[[Request], Response], count: int) -> None:
        self._handle = handle
        self._count = count
        # A limiter belongs to the event loop that it was made in.
        self._limiter = anyio.lowlevel.RunVar[anyio.CapacityLimiter](f"bearerguard-{id(self)}")

    async def answer(self, request: Request) -> Response:
        """Return what `handle` answers."""
        return await anyio.to_thread.run_sync(self._handle, request, limiter=self._bounds())

    def _bounds(self) -> anyio.CapacityLimiter:
        try:
            return self._limiter.get()
        except LookupError:
            limiter = anyio.CapacityLimiter(self._count)
            self._limiter.set(limiter)
            return limiter
