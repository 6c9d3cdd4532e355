"""A rate limit for log lines: a burst of each kind, then one per interval; the rest is counted.

Anybody can cause any number of refusals, so the number of log lines about them is limited here.
Knows no logger.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Hashable, Mapping

_MAX_REMEMBERED = 10_000
SUMMARY_INTERVAL = 60.0
# The kind that stands for all kinds that are no longer stored; a caller's kind is never None.
_OTHERS = None


class LineLimit:
    """Decides which lines are written.

    Args:
        elapsed: returns monotonic seconds.
        burst: how many lines of one kind may come at once.
        interval: seconds after which one more of that kind may come.
        most: how many lines of all kinds may come in a second, on average.
        most_at_once: how many lines of all kinds may come at once.
    """

    def __init__(
        self,
        elapsed: Callable[[], float],
        *,
        burst: int,
        interval: float,
        most: float = math.inf,
        most_at_once: int = 0,
    ) -> None:
        self._elapsed = elapsed
        self._interval = interval
        self._slack = (burst - 1) * interval
        self._pause = 1 / most
        self._pauses = most_at_once * self._pause
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        # By kind: when it may have a whole burst again, the oldest first; how many were left out.
        self._whole_at: dict[Hashable, float] = {}
        self._left_out: dict[Hashable, int] = {}
        self._all_whole_at = -math.inf
        self._summary_at = self._elapsed() + SUMMARY_INTERVAL

    def admit(self, kind: Hashable) -> int | None:
        """Return how many lines of a kind were left out since the last one; None to omit this."""
        if self._pid != os.getpid():
            self._renew()  # the parent's lock may be held for ever in its child
        with self._lock:
            now = self._elapsed()
            whole_at = max(now, self._whole_at.get(kind, now))
            all_whole_at = max(now, self._all_whole_at)
            if whole_at - now > self._slack or all_whole_at - now > self._pauses:
                if kind not in self._left_out and len(self._left_out) >= _MAX_REMEMBERED:
                    kind = _OTHERS
                self._left_out[kind] = self._left_out.get(kind, 0) + 1
                return None
            self._all_whole_at = all_whole_at + self._pause
            self._whole_at.pop(kind, None)
            self._whole_at[kind] = whole_at + self._interval
            if len(self._whole_at) > _MAX_REMEMBERED:
                del self._whole_at[next(iter(self._whole_at))]
            return self._left_out.pop(kind, 0)

    @property
    def has_left_out(self) -> bool:
        """Whether lines were left out that no line has reported."""
        return bool(self._left_out)

    def summary(self, *, at_once: bool = False) -> Mapping[Hashable, int]:
        """Return how many lines of each kind were left out that no line has reported.

        Empty if there are none, or the last summary is less than a minute ago; with `at_once` its
        age does not matter.
        """
        if not self._left_out or self._pid != os.getpid():
            return {}
        with self._lock:
            now = self._elapsed()
            if now < self._summary_at and not at_once:
                return {}
            self._summary_at = now + SUMMARY_INTERVAL
            left_out, self._left_out = self._left_out, {}
            return left_out
