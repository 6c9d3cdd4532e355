"""Seconds that have gone by, whatever is done to the clock that tells the date.

How old something is, and when to try again, is measured here; when a token expires is the
clock's to say. Knows nothing of what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial


def elapsed_by(clock: Callable[[], float]) -> Callable[[], float]:
    """Return what counts seconds beside `clock`, and never goes back.

    Beside the system's clock it is the system's counter. Whoever turns another clock needs no
    second one: its steps are counted.
    """
    return _SYSTEM if clock is time.time else _Steps(clock)


class _Steps:
    """Goes on by each step of a clock, be it forward or back.

    Nobody can tell how long a step back took: counted as long as it is, it prolongs nothing.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        now = clock()
        # What was read last, and the seconds counted then: swapped whole, so it takes no lock.
        self._state = (now, now)

    def __call__(self) -> float:
        seen, elapsed = self._state
        now = self._clock()
        if now != seen:
            elapsed += abs(now - seen)
            self._state = now, elapsed
        return elapsed


def _system() -> Callable[[], float]:
    """Return the counter that goes on while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        counter = partial(time.clock_gettime, time.CLOCK_BOOTTIME)
        try:
            counter()
        except OSError:  # pragma: no cover - a sandbox that knows fewer clocks
            return time.monotonic
        return counter
    return time.monotonic  # pragma: no cover - not on Linux


_SYSTEM = _system()
