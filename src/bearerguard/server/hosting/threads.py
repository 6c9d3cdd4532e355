"""A bounded number of threads for the server under an event loop, asyncio or trio.

Database calls and password hashes block neither the loop nor the threads of the app.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio
import anyio.lowlevel
import anyio.to_thread

from bearerguard.runtime.messages import Request, Response


class _Pool:
    """The threads of one event loop, and how many requests use or want one."""

    def __init__(self, count: int) -> None:
        self.requests = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's, with the threads of anyio
            self._limiter = anyio.CapacityLimiter(count)
        else:
            # The standard library hands over in half the time.
            self._executor = ThreadPoolExecutor(count, "bearerguard-server")

    async def run(self, handle: Callable[[Request], Response], request: Request) -> Response:
        """Return the response of `handle`, called in a thread."""
        if self._loop is None:
            return await anyio.to_thread.run_sync(handle, request, limiter=self._limiter)
        return await self._loop.run_in_executor(self._executor, handle, request)


class Threads:
    """Runs `handle` in threads, at most `count` at once in each event loop.

    With `busy`, at most `waiting` requests wait for a thread; others get what `busy` returns.
    """

    def __init__(
        self,
        handle: Callable[[Request], Response],
        count: int,
        *,
        waiting: int = 0,
        busy: Callable[[Request], Response] | None = None,
    ) -> None:
        self._handle = handle
        self._count = count
        self._most = count + waiting
        self._busy = busy
        # A limiter belongs to the event loop that it was made in.
        self._pools = anyio.lowlevel.RunVar[_Pool](f"bearerguard-{id(self)}")

    async def run(self, request: Request) -> Response:
        """Return the response of `handle`."""
        pool = self._pool()
        if self._busy is not None and pool.requests >= self._most:
            return self._busy(request)
        pool.requests += 1
        try:
            return await pool.run(self._handle, request)
        finally:
            pool.requests -= 1

    def _pool(self) -> _Pool:
        try:
            return self._pools.get()
        except LookupError:
            pool = _Pool(self._count)
            self._pools.set(pool)
            return pool
