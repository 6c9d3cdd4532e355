"""Refresh ahead: one daemon thread that fetches keys before they are due.

The same for WSGI, asyncio, trio and preforked workers: started by the first fetch, and
anew in each process; it holds no guard alive and ends with its guard.
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
        self._agenda: _Agenda | None = None

    def schedule(self, what: Refreshable, delay: float) -> None:
        """Refresh `what` in `delay` seconds, or at the earlier moment already known."""
        agenda = self._agenda
        if agenda is not None and agenda.stopped and agenda.thread is threading.current_thread():
            return  # the last refresh of a thread that was told to end
        if agenda is None or agenda.stopped or agenda.pid != os.getpid():
            agenda = self._agenda = _Agenda(self._drive)
        agenda.add(what, delay)

    def close(self) -> None:
        """End the thread; a fetch after this starts another."""
        if self._agenda is not None:
            self._agenda.stop()


class _Agenda:
    """What is due when, in monotonic seconds, and the thread that sees to it."""

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
        """Note what is due; each thing stands here once, at its earliest moment."""
        due = time.monotonic() + delay
        with self._changed:
            if due < self._due.get(what, math.inf):
                self._due[what] = due
                heapq.heappush(self._heap, (due, id(what), what))
                self._changed.notify()

    def stop(self) -> None:
        """End the thread when it has done what it is doing."""
        if self.pid == os.getpid():  # a parent's lock may be held for ever in its child
            with self._changed:
                self.stopped = True
                self._changed.notify()

    def next(self) -> Refreshable | None:
        """Wait for what is due next; None when the agenda was stopped."""
        with self._changed:
            while not self.stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, what = self._heap[0]
                wait = due - time.monotonic()
                if due != self._due.get(what):
                    heapq.heappop(self._heap)  # was moved to an earlier moment, and done
                elif wait > 0:
                    self._changed.wait(min(wait, threading.TIMEOUT_MAX))
                else:
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
