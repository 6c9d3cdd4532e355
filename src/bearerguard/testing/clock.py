"""A clock that a test moves: the issuer's, and with it the guard's."""

from __future__ import annotations

import time
from collections.abc import Callable


def _system() -> float:
    # Looked up at each call, so that tools which replace `time.time` move this clock too.
    return time.time()


class Clock:
    """A clock for tests; calling it returns Unix seconds.

    Args:
        source: a number of Unix seconds, at which the clock stands still until it is moved; or a
            callable that returns them. By default the system's time, so that the clock runs.
    """

    def __init__(self, source: float | Callable[[], float] | None = None) -> None:
        if source is None:
            source = _system
        if not callable(source) and (
            isinstance(source, bool) or not isinstance(source, int | float)
        ):
            raise TypeError("Clock(source): pass Unix seconds, or a callable that returns them")
        self._source: float | Callable[[], float] = source
        self._ahead = 0.0

    def __call__(self) -> float:
        """Return the time in Unix seconds."""
        source = self._source
        return (source() if callable(source) else source) + self._ahead

    def advance(self, seconds: float) -> None:
        """Move the clock ahead by `seconds`; back, if they are negative."""
        self._ahead += seconds

    def set(self, now: float) -> None:
        """Move the clock to `now`, in Unix seconds."""
        self._ahead += now - self()

    def __repr__(self) -> str:
        return f"Clock({self():.3f})"
