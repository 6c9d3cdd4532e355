"""Single flight: one renewal at a time, whichever threads, tasks and event loops wait for it.

A renewal runs in a thread of its own, so that no cancelled waiter ends it: the other waiters get
its lease or its error. The thread is not a daemon: the interpreter lets it finish before it exits,
since a refresh token that was sent, and whose successor was not stored, is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, ParamSpec

from bearerguard.client.token import Lease

P = ParamSpec("P")


class SingleFlight(Generic[P]):
    """Starts a renewal, or joins the one in progress."""

    def __init__(self, renew: Callable[P, Lease]) -> None:
        self._renew = renew
        self._new_process()

    def _new_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._flight: Future[Lease] | None = None

    def join(self, *arguments: P.args, **options: P.kwargs) -> Future[Lease]:
        """Return the future of the lease of a renewal; the arguments are for a new one."""
        if self._pid != os.getpid():
            self._new_process()  # a renewal of the parent process never ends in this one
        with self._lock:
            flight = self._flight
            if flight is None:
                flight = Future()
                work = partial(self._renew, *arguments, **options)
                threading.Thread(
                    target=self._run, args=(flight, work), name="bearerguard-token"
                ).start()
                self._flight = flight
        return flight

    def _run(self, flight: Future[Lease], work: Callable[[], Lease]) -> None:
        lease, failure = None, None
        try:
            lease = work()
        except BaseException as error:
            failure = error
        with self._lock:
            self._flight = None
        if lease is None:
            flight.set_exception(failure)
        else:
            flight.set_result(lease)


async def finished(flight: Future[Lease]) -> Lease:
    """Wait for a renewal in the running event loop (asyncio or trio)."""
    import anyio  # noqa: PLC0415 - only async callers pay for its import
    from anyio.lowlevel import current_token  # noqa: PLC0415 - as above

    loop: Any = current_token().native_token
    # asyncio and trio name the same function differently.
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    event = anyio.Event()

    def wake(_: Future[Lease]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits in it
            soon(event.set)

    flight.add_done_callback(wake)
    await event.wait()
    return flight.result()
