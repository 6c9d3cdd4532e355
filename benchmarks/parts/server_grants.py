"""Whether the server is as fast with a million grants as with a thousand, and starts as fast.

One connection, so that a latency is what the server and its database need. The two sizes are
measured in turn, and compared within a round.
"""

from __future__ import annotations

import statistics
import tempfile
from array import array
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from benchmarks.result import Result
from benchmarks.rounds import Effort, figure
from benchmarks.server_tokens import load, postgres, servers
from benchmarks.server_tokens.filling import fill
from benchmarks.server_tokens.servers import OURS, POSTGRESQL, SQLITE, Folder, Kind, Running

_SIZES, _QUICK_SIZES = (1_000, 1_000_000), (10, 1_000)
_OPERATIONS = ("refresh", "code", "introspect")
_ROUNDS, _STARTS = 9, 3
_SECONDS, _QUICK_SECONDS = 0.7, 0.1


def run(effort: Effort) -> Result:
    """Measure latencies and starts on each engine, with few grants and with many."""
    few, many = _QUICK_SIZES if effort.quick else _SIZES
    result = Result(
        f"server_grants: p50 of one connection, with {few:,} and {many:,} grants",
        ("", f"{few:,} grants", f"{many:,} grants", "×"),
    )
    kinds = [Kind(OURS, engine, 1, "ES256") for engine in (SQLITE, POSTGRESQL)]
    for kind in kinds:
        if reason := servers.missing(kind):
            result.notes.append(reason)
        elif kind.is_chosen(effort.only):
            _measure(result, kind, (few, many), effort)
    return result


def _measure(result: Result, kind: Kind, sizes: Sequence[int], effort: Effort) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(postgres.started()) if kind.engine == POSTGRESQL else None
        path = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = []
        for size in sizes:
            place = path / str(size)
            place.mkdir()
            folder = Folder(place, cluster, fill=partial(fill, count=size))
            running += stack.enter_context(servers.started([kind], folder))
        worst = 0.0
        for operation in _OPERATIONS:
            if operation in (effort.operations or _OPERATIONS):
                worst = max(worst, _latencies(result, running, operation, effort))
        result.reached[f"Grants {kind.engine}"] = worst
        _starts(result, running, effort)


def _latencies(result: Result, running: Sequence[Running], operation: str, effort: Effort) -> float:
    """Add a line; return how many times the latency with few grants that with many is."""
    seconds = _QUICK_SECONDS if effort.quick else _SECONDS
    medians: list[list[float]] = [[] for _ in running]
    for number in range(2 if effort.quick else _ROUNDS + 1):
        turn = list(enumerate(running))
        for place, each in turn if number % 2 else reversed(turn):
            latencies = _window(each, operation, seconds)
            if number:  # the first is the warm-up
                medians[place].append(statistics.median(latencies) * 1e3)
    few, many = medians
    ratio = figure([b / a for a, b in zip(few, many, strict=True)])
    name = running[0].kind.engine
    cells = (f"{figure(few).text()} ms", f"{figure(many).text()} ms", ratio.text())
    result.row(f"{operation}, {name}", *cells)
    result.keep(name, operation, "few, ms", value=figure(few))
    result.keep(name, operation, "many, ms", value=figure(many))
    result.keep(name, operation, "×", value=ratio)
    return ratio.median


def _window(server: Running, operation: str, seconds: float) -> array[float]:
    exchanges = server.flow.prepare(operation, seconds)
    return load.run(server.port, exchanges[:1], seconds).latencies


def _starts(result: Result, running: Sequence[Running], effort: Effort) -> None:
    taken: list[list[float]] = [[] for _ in running]
    for _ in range(1 if effort.quick else _STARTS):
        for place, each in enumerate(running):
            taken[place].append(servers.start_seconds(each))
    few, many = taken
    ratio = figure([b / a for a, b in zip(few, many, strict=True)])
    name = running[0].kind.engine
    result.row(
        f"start, {name}", f"{figure(few).text()} s", f"{figure(many).text()} s", ratio.text()
    )
    result.keep(name, "start", "few, s", value=figure(few))
    result.keep(name, "start", "many, s", value=figure(many))
    result.reached[f"Start {name}"] = figure(many).median
