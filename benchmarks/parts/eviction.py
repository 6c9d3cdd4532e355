"""A stream of unique tokens against a full cache, beside the same against an empty one.

HS256 has the cheapest signature, so that what eviction costs stands out most.
"""

from __future__ import annotations

from itertools import cycle, islice

from benchmarks.hs256 import stream
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, figure, measure, ratio
from benchmarks.token_issuer import TokenIssuer

_BATCH = 200
_CACHE = 1_000


def run(effort: Effort) -> Result:
    """Verify unique tokens both ways in the same rounds."""
    issuer = TokenIssuer("HS256")
    # In a cycle, so that each token was evicted long before it comes again.
    tokens = list(islice(stream(issuer), _CACHE * 4))
    full, empty = issuer.guard(cache_size=_CACHE), issuer.guard()
    for token in tokens:
        full.verify(token)
    turns = {"full": cycle(tokens), "empty": cycle(tokens)}

    def verify_full(count: int) -> None:
        for token in islice(turns["full"], count):
            full.verify(token)

    def verify_empty(count: int) -> None:
        for token in islice(turns["empty"], count):
            empty.verify(token)

    samples = measure(
        {
            "an empty cache": Case(
                verify_empty, prepare=lambda _count: empty.close(), count=_BATCH
            ),
            "a full cache": Case(verify_full, count=_BATCH),
        },
        effort,
    )
    result = Result("eviction: unique tokens, HS256", ("against", "µs each", "× an empty cache"))
    for name in samples:
        multiple = ratio(samples, name, "an empty cache")
        result.row(name, figure(samples[name]).scaled(1e6).text(1), multiple.text())
        result.keep("× empty", name, value=multiple)
    result.reached["Eviction"] = ratio(samples, "a full cache", "an empty cache").median
    cached = full.health()["cached_tokens"]
    result.notes.append(
        f"The full cache is one of {_CACHE:,} tokens and holds {cached:,} at the end;"
        " the part `memory` shows that it stays bounded."
    )
    return result
