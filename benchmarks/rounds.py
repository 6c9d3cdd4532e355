"""Interleaved rounds: every case in turn, repeatedly, and the statistics of their times.

Knows no tokens and no peers. A round runs each case once, for a batch that lasts some
milliseconds; a slow moment of the machine then meets all cases alike, and the median over
the rounds of a *ratio within a round* cancels what is left of it.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from time import thread_time
from typing import TypeAlias

# The processor time of this thread, in seconds: cases that are timed by it do not wait, and the
# time of other programs on a busy machine is not counted.
clock = thread_time

Samples: TypeAlias = dict[str, list[float]]

# A batch this long is enough to estimate how many operations fill a whole one.
_TINY = 1e-3
_WARM_UPS = 2


@dataclass(frozen=True)
class Effort:
    """How long to measure: `rounds`, and the seconds that a batch should last.

    `only` and `operations` choose servers and operations, for the parts that have them.
    """

    rounds: int = 41
    batch: float = 0.004
    quick: bool = False
    only: tuple[str, ...] = ()
    operations: tuple[str, ...] = ()

    def times(self, factor: float) -> Effort:
        """Return this effort with `factor` times the rounds, 3 at least."""
        return replace(self, rounds=max(3, round(self.rounds * factor)))


QUICK = Effort(rounds=3, batch=0.000_5, quick=True)


@dataclass(frozen=True)
class Case:
    """An operation to time: `run(n)` does it n times, after an untimed `prepare(n)`.

    `count` fixes n; without it, n is chosen so that a batch lasts as long as it should.
    `run` may return the seconds that it measured itself: for a batch that has to be started
    first, on an event loop or in threads.
    """

    run: Callable[[int], float | None]
    prepare: Callable[[int], object] | None = None
    count: int | None = None


@dataclass(frozen=True)
class Figure:
    """A median and the quartiles around it."""

    median: float
    low: float
    high: float

    def scaled(self, factor: float) -> Figure:
        """Return it in another unit."""
        return Figure(self.median * factor, self.low * factor, self.high * factor)

    def text(self, digits: int = 2) -> str:
        """Return `median (low to high)`, for a table."""
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def figure(values: Sequence[float]) -> Figure:
    """Return the median and quartiles of some values."""
    if len(values) == 1:
        return Figure(values[0], values[0], values[0])
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(middle, low, high)


def measure(cases: Mapping[str, Case], effort: Effort) -> Samples:
    """Return, for each case, its seconds per operation in every round, net of the loop."""
    empty = min(_seconds(Case(_nothing), 10_000) for _ in range(9)) / 10_000
    samples: Samples = {name: [] for name in cases}
    order = list(cases)
    # Objects that exist now are permanent: no collection need visit them. The garbage of the cases
    # is still collected, in their own time.
    gc.collect()
    gc.freeze()
    try:
        counts = {name: case.count or _count(case, effort.batch) for name, case in cases.items()}
        for number in range(effort.rounds):
            start = number % len(order)
            turn = order[start:] + order[:start]
            for name in turn if number % 2 == 0 else reversed(turn):
                count = counts[name]
                samples[name].append(_seconds(cases[name], count) / count - empty)
    finally:
        gc.unfreeze()
    return samples


def ratio(samples: Samples, case: str, to: str) -> Figure:
    """Return the time of a case divided by that of `to`, round by round."""
    return figure([a / b for a, b in zip(samples[case], samples[to], strict=True)])


def added(samples: Samples, case: str, without: str) -> Figure:
    """Return how many seconds more a case takes than `without`, round by round."""
    return figure([a - b for a, b in zip(samples[case], samples[without], strict=True)])


def added_ratio(samples: Samples, case: str, without: str, to: str) -> Figure:
    """Return how much more a case takes than `without`, divided by `to`, round by round."""
    rows = zip(samples[case], samples[without], samples[to], strict=True)
    return figure([(a - b) / floor for a, b, floor in rows])


def _nothing(count: int) -> None:
    for _ in repeat(None, count):
        pass


def _seconds(case: Case, count: int) -> float:
    if case.prepare is not None:
        case.prepare(count)
    begin = clock()
    taken = case.run(count)
    return clock() - begin if taken is None else taken


def _count(case: Case, batch: float) -> int:
    """Return how many operations last as long as a batch should."""
    for _ in range(_WARM_UPS):
        _seconds(case, 1)
    count = 1
    # The fastest of three: a pause of the machine would make all batches too short.
    while (taken := min(_seconds(case, count) for _ in range(3))) < min(_TINY, batch):
        count *= 4
    return max(1, round(count * batch / taken))
