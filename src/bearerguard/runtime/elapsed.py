"""Elapsed seconds: how old something is, and when to try again.

The count never goes backwards, is no slower than the monotonic clock, and includes the time that
the machine was suspended. Adjusting the system's date does not change it. Whether
a token has expired depends on the date, and is not decided here.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial


def elapsed_by(clock: Callable[[], float]) -> Callable[[], float]:
    """Return a counter of elapsed seconds for those who take their date from `clock`.

    With the system's clock, `time.time`, it is the system's own counter. Any other clock needs
    no second one: each of its steps counts, forward or back.
    """
    return _SYSTEM if clock is time.time else _Steps(clock)


class _Steps:
    """Adds up the steps of a clock.

    The real duration of a step back is unknown. It counts with its whole length, so that nothing
    is kept longer because of it.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        now = clock()
        # The last reading and the count at that time. Swapped whole, so it takes no lock.
        self._state = (now, now)

    def __call__(self) -> float:
        seen, elapsed = self._state
        now = self._clock()
        if now != seen:
            elapsed += abs(now - seen)
            self._state = now, elapsed
        return elapsed


def _system() -> Callable[[], float]:
    """Return the monotonic counter that goes on while the machine is suspended."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        counter = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        try:
            counter()
        except OSError:  # pragma: no cover - a sandbox that knows fewer clocks
            return time.monotonic
        return counter
    if sys.platform == "darwin":  # pragma: no cover - where time.monotonic stops in sleep
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC)
    return time.monotonic  # pragma: no cover - Windows counts sleep by itself


_SYSTEM = _system()
