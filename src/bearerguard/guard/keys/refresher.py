"""Refresh ahead: one daemon thread that fetches keys before they are due.

It is the same for WSGI, asyncio, trio and preforked workers. The first fetch in each process starts
it. It keeps no guard alive and ends with its guard.
"""

from __future__ import annotations

import heapq
import logging
import math
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bearerguard.errors import IssuerUnavailable
from bearerguard.runtime.flow import Flow

_log = logging.getLogger("bearerguard")


class Refreshable(Protocol):
    """What the thread refreshes."""

    def refresh(self) -> Flow[None]:
        """Refresh if that is due; raises `IssuerUnavailable` if it fails."""
        ...

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh, None if there will be none."""


class Refresher:
    """Schedules refreshes and runs them with `drive`, the sync driver."""

    def __init__(self, drive: Callable[[Flow[None]], None]) -> None:
        self._drive = drive
        self._schedule: _Schedule | None = None

    def schedule(self, what: Refreshable, delay: float) -> None:
        """Refresh `what` in `delay` seconds, or earlier if that is scheduled already."""
        schedule = self._schedule
        if (
            schedule is not None
            and schedule.stopped
            and schedule.thread is threading.current_thread()
        ):
            return  # the last refresh of a thread that is stopping
        if schedule is None or schedule.stopped or schedule.pid != os.getpid():
            schedule = self._schedule = _Schedule(self._drive)
        schedule.add(what, delay)

    def close(self) -> None:
        """Stop the thread; the next fetch starts another."""
        if self._schedule is not None:
            self._schedule.stop()


class _Schedule:
    """The schedule of one thread, in monotonic seconds."""

    def __init__(self, drive: Callable[[Flow[None]], None]) -> None:
        self.pid = os.getpid()
        self.stopped = False
        self._changed = threading.Condition()
        self._due: dict[Refreshable, float] = {}
        self._heap: list[tuple[float, int, Refreshable]] = []
        self.thread = threading.Thread(
            target=_work, args=(self, drive), name="bearerguard-keys", daemon=True
        )
        self.thread.start()

    def add(self, what: Refreshable, delay: float) -> None:
        """Schedule `what`, once, at its earliest time."""
        due = time.monotonic() + delay
        with self._changed:
            if due < self._due.get(what, math.inf):
                self._due[what] = due
                heapq.heappush(self._heap, (due, id(what), what))
                self._changed.notify()

    def stop(self) -> None:
        """Stop the thread after its present refresh."""
        if self.pid == os.getpid():  # in a child, the parent's lock may be held for ever
            with self._changed:
                self.stopped = True
                self._changed.notify()

    def next(self) -> Refreshable | None:
        """Wait for the next refresh that is due; None after `stop`."""
        with self._changed:
            while not self.stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, what = self._heap[0]
                wait = due - time.monotonic()
                if due != self._due.get(what):
                    heapq.heappop(self._heap)  # an outdated entry: it was rescheduled
                elif wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                else:
                    heapq.heappop(self._heap)
                    del self._due[what]
                    return what
        return None


def _work(schedule: _Schedule, drive: Callable[[Flow[None]], None]) -> None:
    while (what := schedule.next()) is not None:
        try:
            drive(what.refresh())
        except IssuerUnavailable:
            pass  # reported as an event; the present keys stay in use
        except Exception:
            _log.exception("refreshing keys raised an unexpected exception")
        delay = what.next_refresh()
        if delay is not None:
            schedule.add(what, delay)
