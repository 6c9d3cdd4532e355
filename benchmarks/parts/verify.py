"""Verifying a token that was not seen before, whole, in multiples of its signature alone.

The plain build and the one with `[speed]` live in processes of their own, which take turns;
each is compared with the raw verification of its own process and rounds.
"""

from __future__ import annotations

from typing import Any

from benchmarks.children import ask
from benchmarks.peers import left_out
from benchmarks.peers.jose import MAKERS
from benchmarks.result import Result
from benchmarks.rounds import Effort, Samples, figure, ratio
from benchmarks.token_issuer import ALGORITHMS

OURS, FAST = "bearerguard", "bearerguard [speed]"
LEAST, LEAST_FAST = "the least", "the least [speed]"
_TURNS = 3
_TOKENS = 60


def run(effort: Effort) -> Result:
    """Measure all algorithms, both builds, all peers."""
    turns, tokens = (1, 5) if effort.quick else (_TURNS, _TOKENS)
    rounds = str(max(3, effort.rounds // turns))
    plain: list[Any] = []
    fast: list[Any] = []
    for _ in range(turns):
        plain.append(ask("verifying", rounds, str(tokens), "--peers", extra=_build(plain=True)))
        fast.append(ask("verifying", rounds, str(tokens), extra=_build(plain=False)))
    result = Result(
        "verify: a whole token, in multiples of its raw signature verification",
        ("", *ALGORITHMS),
    )
    merged = {name: _merged(plain, name) for name in ALGORITHMS}
    merged_fast = {name: _merged(fast, name) for name in ALGORITHMS}
    is_fast = bool(fast[0]["fast"])
    result.row("raw verification, µs", *(_microseconds(merged[name]) for name in ALGORITHMS))
    _add(result, LEAST, "least", merged)
    _add(result, OURS, OURS, merged)
    if is_fast:
        _add(result, LEAST_FAST, "least", merged_fast)
        _add(result, FAST, OURS, merged_fast)
    for name in MAKERS:
        if any(name in samples for samples in merged.values()):
            _add(result, name, name, merged)
    result.notes += left_out(plain[0]["missing"])
    if plain[0]["fast"]:
        raise RuntimeError("BEARERGUARD_PLAIN=1 did not give the plain build")
    if not is_fast:
        result.notes.append("[speed] is not in use here (msgspec, pybase64): T4 is not measured.")
    for algorithm in ALGORITHMS:
        result.reached[f"T3 {algorithm}"] = ratio(merged[algorithm], OURS, "raw").median
        if is_fast:
            result.reached[f"T4 {algorithm}"] = ratio(merged_fast[algorithm], OURS, "raw").median
    result.notes.append(
        "The least: digest, base64, JSON and signature, and nothing checked but the signature."
    )
    result.notes.append("- : the library does not know the algorithm.")
    return result


def _build(*, plain: bool) -> dict[str, str]:
    return {"BEARERGUARD_PLAIN": "1" if plain else ""}


def _merged(outcomes: list[Any], algorithm: str) -> Samples:
    """Return the samples of all turns one after the other."""
    turns: list[Samples] = [outcome["samples"][algorithm] for outcome in outcomes]
    return {name: [value for turn in turns for value in turn[name]] for name in turns[0]}


def _microseconds(samples: Samples) -> str:
    return f"{figure(samples['raw']).median * 1e6:.1f}"


def _add(result: Result, label: str, case: str, merged: dict[str, Samples]) -> None:
    cells: list[str] = []
    for algorithm, samples in merged.items():
        if case in samples:
            found = ratio(samples, case, "raw")
            cells.append(found.text())
            result.keep("× raw", label, algorithm, value=found)
        else:
            cells.append("-")
    result.row(label, *cells)
