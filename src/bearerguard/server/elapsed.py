"""Seconds that have passed, whatever happens to the clock that says what time it is."""

from __future__ import annotations

import time
from collections.abc import Callable

from bearerguard.runtime.process_lock import ProcessLock


class Elapsed:
    """Measures durations: never backwards, and no slower than the system's monotonic clock.

    A clock that is set forward takes it along, so that a machine that slept has slept.
    """

    def __init__(
        self, clock: Callable[[], float], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._lock = ProcessLock()
        self._passed = 0.0
        self._read = clock(), monotonic()

    def __call__(self) -> float:
        """Return how many seconds have passed since this was made."""
        with self._lock:
            now, ticks = self._clock(), self._monotonic()
            before, ticks_before = self._read
            self._passed += max(now - before, ticks - ticks_before, 0.0)
            self._read = now, ticks
            return self._passed
