"""Cold verification in one and in two threads: the signature check releases the GIL.

Counted is how many tokens are verified in a time, so two threads at twice the rate of one
are 2.0.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, figure, measure
from benchmarks.world import World

_ALGORITHMS = ("RS256", "ES256", "EdDSA")
_TOKENS = 100
_REPEATS = 3


def run(effort: Effort) -> Result:
    """Measure one and two threads over the same guard in the same rounds."""
    result = Result(
        "threads: cold verify, one guard", ("", "tokens/s, 1 thread", "2 threads, × 1 thread")
    )
    for algorithm in _ALGORITHMS:
        world = World(algorithm)
        guard = world.guard()
        halves = [world.tokens(_TOKENS), world.tokens(_TOKENS)]

        def verify(tokens: Sequence[str], guard: object = guard) -> None:
            for token in tokens:
                guard.verify(token)  # type: ignore[attr-defined]

        def one(_count: int) -> None:
            verify(halves[0])

        def two(_count: int) -> None:
            helper = threading.Thread(target=verify, args=(halves[1],))
            helper.start()
            verify(halves[0])
            helper.join()

        forget = guard.close
        cases = {
            "1": Case(one, prepare=lambda _count: forget(), count=_TOKENS),  # noqa: B023
            "2": Case(two, prepare=lambda _count: forget(), count=2 * _TOKENS),  # noqa: B023
        }
        samples = measure(cases, effort.times(1 / 2))
        rate = figure([1 / seconds for seconds in samples["1"]])
        faster = figure([a / b for a, b in zip(samples["1"], samples["2"], strict=True)])
        result.row(algorithm, rate.text(0), faster.text())
        result.keep("2 threads × 1", algorithm, value=faster)
    result.notes.append(f"This machine has {os.cpu_count()} cores, which others may use as well.")
    return result
