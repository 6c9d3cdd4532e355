"""Cold verification in one and in two threads: the signature check releases the GIL.

Counted is how many tokens are verified in a time, so two threads at twice the rate of one
are 2.0.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from time import perf_counter

from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, figure, measure
from benchmarks.token_issuer import TokenIssuer
from benchmarks.verifying import each, raw

_ALGORITHMS = ("RS256", "ES256", "EdDSA")
_TOKENS = 100
RAW, OURS = "signatures alone", "bearerguard"


def run(effort: Effort) -> Result:
    """Measure one and two threads over the same guard in the same rounds."""
    result = Result(
        "threads: cold verify, one guard", ("", "tokens/s, 1 thread", "2 threads, × 1 thread")
    )
    for algorithm in _ALGORITHMS:
        issuer = TokenIssuer(algorithm)
        halves = (issuer.tokens(_TOKENS), issuer.tokens(_TOKENS))
        guard = issuer.guard()
        raws = [raw(issuer, half).run for half in halves]
        wholes = [each(guard.verify, half).run for half in halves]
        cases = {
            f"{RAW} 1": _threaded(raws[:1]),
            f"{RAW} 2": _threaded(raws),
            f"{OURS} 1": _threaded(wholes[:1], prepare=guard.close),
            f"{OURS} 2": _threaded(wholes, prepare=guard.close),
        }
        samples = measure(cases, effort)
        for name in (RAW, OURS):
            one, two = samples[f"{name} 1"], samples[f"{name} 2"]
            rate = figure([1 / seconds for seconds in one])
            faster = figure([a / b for a, b in zip(one, two, strict=True)])
            result.row(f"{algorithm}, {name}", rate.text(0), faster.text())
            result.keep("2 threads × 1", name, algorithm, value=faster)
    result.notes.append(
        f"By wall clock: other programs may use some of the {os.cpu_count()} cores meanwhile."
        " The gain of the signatures alone is the most that the machine allowed."
    )
    return result


def _threaded(
    works: Sequence[Callable[[int], object]], prepare: Callable[[], None] | None = None
) -> Case:
    """Return the works as a case, each in a thread of its own but the first."""

    def run(_count: int) -> float:
        helpers = [threading.Thread(target=work, args=(_TOKENS,)) for work in works[1:]]
        begin = perf_counter()
        for helper in helpers:
            helper.start()
        works[0](_TOKENS)
        for helper in helpers:
            helper.join()
        return perf_counter() - begin

    return Case(
        run,
        prepare=None if prepare is None else lambda _count: prepare(),
        count=_TOKENS * len(works),
    )
