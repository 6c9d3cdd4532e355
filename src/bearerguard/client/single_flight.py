"""One renewal at a time, for threads and tasks and event loops alike.

A renewal runs in a thread of its own, so that nobody who waits for it can end it: whoever is
cancelled leaves, and the others get its lease or its error. The thread is no daemon: an
interpreter that ends lets it finish, since a refresh token that was sent and not kept is lost.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from bearerguard.client.token import Lease


class Flights:
    """Starts a renewal, or joins the one under way."""

    def __init__(self, renew: Callable[[str], Lease]) -> None:
        self._renew = renew
        self._new_process()

    def _new_process(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._flight: Future[Lease] | None = None

    def join(self, replaced: str) -> Future[Lease]:
        """Return what will be the lease in place of the access token `replaced`."""
        if self._pid != os.getpid():
            self._new_process()  # the parent's flights never land in this process
        with self._lock:
            flight = self._flight
            if flight is None:
                flight = Future()
                threading.Thread(
                    target=self._fly, args=(flight, replaced), name="bearerguard-token"
                ).start()
                self._flight = flight
        return flight

    def _fly(self, flight: Future[Lease], replaced: str) -> None:
        lease, failure = None, None
        try:
            lease = self._renew(replaced)
        except BaseException as error:
            failure = error
        with self._lock:
            self._flight = None
        if lease is None:
            flight.set_exception(failure)
        else:
            flight.set_result(lease)


async def landed(flight: Future[Lease]) -> Lease:
    """Wait for a renewal in the running event loop."""
    import anyio  # noqa: PLC0415 - only async callers pay for its import
    from anyio.lowlevel import current_token  # noqa: PLC0415

    loop: Any = current_token().native_token
    # asyncio's loop and trio's token call the same thing by two names.
    soon = getattr(loop, "call_soon_threadsafe", None) or loop.run_sync_soon
    event = anyio.Event()

    def wake(_: Future[Lease]) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits in it
            soon(event.set)

    flight.add_done_callback(wake)
    await event.wait()
    return flight.result()
