"""How the cost of a call grows with its input: a ratio within one run, on a noisy machine."""

from __future__ import annotations

import time
from collections.abc import Callable


def growth(of_small: Callable[[], object], of_large: Callable[[], object]) -> float:
    """CPU time of the large call, divided by that of the small one.

    Each counts with its quickest of many runs in turn: whatever else the machine does only adds.
    """
    small = large = float("inf")
    for _ in range(9):
        small = min(small, _seconds(of_small))
        large = min(large, _seconds(of_large))
    return large / max(small, 1e-7)  # the clock may not have moved


def _seconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began
