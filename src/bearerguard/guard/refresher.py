"""Refresh ahead: one daemon thread that fetches keys before they are due.

The same for WSGI, asyncio, trio and preforked workers: started by the first fetch, and
anew in each process; it holds no guard alive and ends with its guard.
"""

from __future__ import annotations

import heapq
import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from typing import Protocol

from bearerguard.errors import IssuerUnavailable
from bearerguard.flow import Flow

_log = logging.getLogger("bearerguard")


class Refreshable(Protocol):
    """What the thread keeps fresh."""

    def refresh(self) -> Flow[None]:
        """Fetch anew if that is due; raises `IssuerUnavailable` when it fails."""
        ...

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh, None when none is to come."""


class Refresher:
    """Schedules refreshes and runs them with `drive`, the synchronous driver."""

    def __init__(self, drive: Callable[[Flow[None]], None]) -> None:
        self._drive = drive
        self._closed = False
        self._agenda: _Agenda | None = None

    def schedule(self, what: Refreshable, delay: float) -> None:
        """Refresh `what` in `delay` seconds, or at the earlier moment already known."""
        if self._closed:
            return
        agenda = self._agenda
        if agenda is None or agenda.pid != os.getpid():
            agenda = self._agenda = _Agenda()
            weakref.finalize(self, agenda.stop)
            threading.Thread(
                target=_work,
                args=(agenda, self._drive),
                name="bearerguard-keys",
                daemon=True,
            ).start()
        agenda.add(what, delay)

    def close(self) -> None:
        """End the thread; keys are fetched by requests alone from now on."""
        self._closed = True
        if self._agenda is not None:
            self._agenda.stop()


class _Agenda:
    """What is due when, in monotonic seconds; each thing stands in it once."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._changed = threading.Condition()
        self._due: dict[Refreshable, float] = {}
        self._heap: list[tuple[float, int, Refreshable]] = []
        self._stopped = False

    def add(self, what: Refreshable, delay: float) -> None:
        due = time.monotonic() + delay
        with self._changed:
            if due < self._due.get(what, float("inf")):
                self._due[what] = due
                heapq.heappush(self._heap, (due, id(what), what))
                self._changed.notify()

    def stop(self) -> None:
        if self.pid == os.getpid():  # a parent's lock may be held for ever in its child
            with self._changed:
                self._stopped = True
                self._changed.notify()

    def next(self) -> Refreshable | None:
        """Wait for what is due next; None when the agenda was stopped."""
        with self._changed:
            while not self._stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, what = self._heap[0]
                if due != self._due.get(what):
                    heapq.heappop(self._heap)  # was moved to an earlier moment, and done
                    continue
                wait = due - time.monotonic()
                if wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                    continue
                heapq.heappop(self._heap)
                del self._due[what]
                return what
        return None


def _work(agenda: _Agenda, drive: Callable[[Flow[None]], None]) -> None:
    while (what := agenda.next()) is not None:
        try:
            drive(what.refresh())
        except IssuerUnavailable:
            pass  # was reported as an event; the keys we have go on serving
        except Exception:
            _log.exception("refreshing keys failed in an unforeseen way")
        delay = what.next_refresh()
        if delay is not None:
            agenda.add(what, delay)
