"""One process of the part `memory`: prints the octets that cached tokens take as JSON.

usage: python -m benchmarks.remembering each TOKENS    (by tracemalloc, and by the system)
       python -m benchmarks.remembering bounded SIZE   (resident, in a stream of unique ones)
"""

from __future__ import annotations

import gc
import json
import os
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

from benchmarks.hs256 import stream
from benchmarks.token_issuer import TokenIssuer

_WARM_UP = 500
_STREAMS = (2, 4, 8, 16, 32)


def resident() -> int:
    """Return the resident memory of this process in octets."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def each(tokens: int) -> dict[str, float]:
    """Return the octets per token after that many have been verified."""
    issuer = TokenIssuer("HS256")
    unique = stream(issuer)
    # Large enough that none is evicted with its generation meanwhile.
    guard = issuer.guard(cache_size=tokens * 4)
    for token in islice(unique, _WARM_UP):
        guard.verify(token)
    gc.collect()
    before = resident()
    for token in islice(unique, tokens):
        guard.verify(token)
    gc.collect()
    grown = resident() - before
    guard.close()
    tracemalloc.start()
    for token in islice(unique, tokens):
        guard.verify(token)
    gc.collect()
    traced = tracemalloc.get_traced_memory()[0]
    cached = guard.health()["cached_tokens"]
    if cached != tokens:
        raise RuntimeError(f"{cached} tokens are cached, not {tokens}")
    return {"resident": grown / tokens, "traced": traced / tokens}


def bounded(size: int) -> dict[str, list[int]]:
    """Return the resident and the cached after 2, 4, … 32 times the size of the cache."""
    issuer = TokenIssuer("HS256")
    unique = stream(issuer)
    guard = issuer.guard(cache_size=size)
    for token in islice(unique, _WARM_UP):
        guard.verify(token)
    gc.collect()
    before, streamed = resident(), 0
    memory: list[int] = []
    cached: list[int] = []
    for multiple in _STREAMS:
        for token in islice(unique, size * multiple - streamed):
            guard.verify(token)
        streamed = size * multiple
        gc.collect()
        memory.append(resident() - before)
        cached.append(guard.health()["cached_tokens"])
    return {"resident": memory, "cached": cached, "streamed": [size * each for each in _STREAMS]}


if __name__ == "__main__":
    _, what, number = sys.argv
    json.dump(each(int(number)) if what == "each" else bounded(int(number)), sys.stdout)
