"""Upkeep once a minute: removes expired rows and rotates keys.

A request that comes after the interval starts it, and a thread of its own does the work, so that no
request waits. Rows are removed in short transactions, with pauses in which requests write: SQLite
has one writer at a time. One process at a time removes rows.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from bearerguard.errors import BearerGuardError
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.audit import Audit, causing
from bearerguard.server.settings import Settings
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store.database import Database
from bearerguard.server.store.pruning import (
    KINDS,
    Kind,
    Slice,
    keep_task,
    removed_clients,
    take_task,
)
from bearerguard.server.tokens.key_ring import KeyRing

_INTERVAL = 60.0
# Seconds that one slice should take, and how many times as long the pause after it is: most of the
# time, requests can write to SQLite.
_HOLD, _REST = 0.01, 8.0
_SHORTEST_REST = 0.01
_FEWEST, _FIRST, _MOST = 20, 100, 1000
# Seconds after a slice in which no other process prunes; the process may have died since.
_TASK_SECONDS = 30.0

Pause = Callable[[float], object]


class _Stopped(Exception):
    """The server is closed."""


class Upkeep:
    """The upkeep of one server."""

    def __init__(
        self,
        database: Database,
        keys: KeyRing,
        settings: Settings,
        clock: Callable[[], float],
        elapsed: Callable[[], float],
        *,
        audit: Audit,
    ) -> None:
        self._database = database
        self._keys = keys
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._elapsed = elapsed
        self._lock = ProcessLock()
        self._due_at = elapsed() + _INTERVAL
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def run_if_due(self) -> None:
        """Start what is due in a thread; errors are logged and affect no request."""
        if self._elapsed() < self._due_at or not self._lock.acquire(timeout=0):
            return
        self._due_at = self._elapsed() + _INTERVAL
        self._stop = threading.Event()
        # A daemon: what is not done when the process ends is done by another one.
        self._thread = threading.Thread(
            target=self._run, args=(self._stop,), name="bearerguard-upkeep", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:
            self._thread = None
            self._lock.release()
            self._failed(error)

    def wait(self) -> None:
        """Wait until the thread has ended."""
        thread = self._thread
        # After a fork, the parent's thread does not run in the child; join() returns at once.
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def close(self) -> None:
        """Stop the thread before its next step, and wait for that."""
        self._stop.set()
        self.wait()

    def prune(self) -> int:
        """Remove expired rows now; return how many."""
        removed = sum(self._prune(kind, time.sleep) for kind in KINDS.values())
        self._retire()
        return removed

    def finish_removals(self) -> None:
        """Remove the rows of removed clients; after an error the next upkeep does it."""
        try:
            self._prune(removed_clients, time.sleep)
        except BearerGuardError as error:
            self._failed(error)

    def _run(self, stop: threading.Event) -> None:
        with causing("upkeep"):
            self._keep_up(stop)

    def _keep_up(self, stop: threading.Event) -> None:
        def pause(seconds: float) -> None:
            if stop.wait(seconds):
                raise _Stopped

        try:
            self._keys.rotate_if_due()
            if self._has_task():
                for kind in KINDS.values():
                    self._prune(kind, pause, keeps_task=True)
                self._retire()
        except _Stopped:
            pass
        except BearerGuardError as error:
            self._failed(error)
        finally:
            self._lock.release()

    def _has_task(self) -> bool:
        with self._database.write(concurrent=True) as connection:
            return take_task(connection, self._clock(), _TASK_SECONDS)

    def _prune(self, kind: Kind, pause: Pause, *, keeps_task: bool = False) -> int:
        total, most = 0, _FIRST
        while (found := self._next_slice(kind, most)) is not None:
            with self._database.write(concurrent=True) as connection:
                began = time.monotonic()
                total += found.remove(connection)
                if keeps_task:
                    keep_task(connection, self._clock(), _TASK_SECONDS)
            held = time.monotonic() - began
            pause(max(_SHORTEST_REST, held * _REST))
            if found.last:
                break
            most = int(min(_MOST, max(_FEWEST, most * min(2.0, max(0.5, _HOLD / held)))))
        return total

    def _next_slice(self, kind: Kind, most: int) -> Slice | None:
        with self._database.read() as connection:
            return kind(connection, self._clock(), self._settings.lifetimes.refresh_grace, most)

    def _retire(self) -> None:
        """Remove the keys that are no longer published."""
        with self._database.read() as connection:
            any_retired = key_rows.is_any_retired(connection, self._clock())
        if any_retired:
            with self._database.write() as connection:
                retired = key_rows.remove_retired(connection, self._clock())
            for kid in retired:
                self._audit.emit("key_retired", kid=kid)

    def _failed(self, error: Exception) -> None:
        self._audit.emit("upkeep_failed", cause=str(error))
