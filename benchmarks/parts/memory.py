"""The memory of a cached token, and that a stream of unique tokens stays bounded.

Measured in fresh interpreters. What tracemalloc sees is what Python allocated for the
tokens; what the system sees holds the allocator's slack as well.
"""

from __future__ import annotations

from benchmarks.children import ask
from benchmarks.result import Result
from benchmarks.rounds import Effort


def run(effort: Effort) -> Result:
    """Fill one guard's cache, and stream unique tokens through another's."""
    tokens, size = (500, 100) if effort.quick else (100_000, 5_000)
    result = Result("memory: verified tokens in the cache", ("", "octets"))
    found = ask("remembering", "each", str(tokens))
    result.row(f"for each of {tokens:,} tokens, as Python allocates", f"{found['traced']:,.0f}")
    result.row(f"for each of {tokens:,} tokens, as the system sees", f"{found['resident']:,.0f}")
    result.keep("each", "traced", value=found["traced"])
    result.keep("each", "resident", value=found["resident"])
    stream = ask("remembering", "bounded", str(size))
    for streamed, octets, cached in zip(
        stream["streamed"], stream["resident"], stream["cached"], strict=True
    ):
        label = f"a cache of {size:,} after {streamed:,} unique tokens ({cached:,} cached)"
        result.row(label, f"{octets:,}")
        result.keep("bounded", str(streamed), value=octets)
    if max(stream["cached"]) > size:
        result.notes.append(f"The cache held {max(stream['cached'])} tokens, more than its size.")
    result.reached["T7"] = found["traced"]
    result.notes.append(
        "The tokens have eleven claims; the cache holds the claims, and not the tokens."
    )
    return result
