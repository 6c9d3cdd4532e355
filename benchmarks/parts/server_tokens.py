"""The token endpoint and its neighbours under load, beside other authorization servers.

Eight kept connections. All servers run at once and are loaded one after the other: in a round, each
operation is measured on every server in turn, so that those which are compared are measured within
seconds. The first round is a warm-up.
"""

from __future__ import annotations

import os
import statistics
import tempfile
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.result import Result
from benchmarks.rounds import Effort, Figure, figure
from benchmarks.server_tokens import load, postgres, processor, servers
from benchmarks.server_tokens.flow import CONNECTIONS, OPERATIONS
from benchmarks.server_tokens.load import LoadError
from benchmarks.server_tokens.servers import (
    AUTHLIB,
    DJANGO,
    KINDS,
    OIDC_PROVIDER,
    OURS,
    POSTGRESQL,
    SQLITE,
    Folder,
    Kind,
    Running,
)

_ROUNDS = 5
_SECONDS, _WARM_UP_SECONDS, _QUICK_SECONDS = 1.0, 0.3, 0.15
# One server of each kind, for a quick run.
_QUICK = (
    Kind(OURS, SQLITE, 1, "ES256"),
    Kind(OURS, POSTGRESQL, 1, "ES256"),
    Kind(OIDC_PROVIDER, algorithm="ES256"),
    Kind(AUTHLIB, SQLITE, 1),
    Kind(DJANGO, POSTGRESQL, 1),
)
# Two cores: with so many workers, each has one.
_WORKERS = 2
# What an algorithm makes a difference for.
_SIGNING = ("credentials", "refresh")


@dataclass
class _Samples:
    """The windows of one operation of one server; times are seconds for each request."""

    rates: list[float] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    database: list[float] = field(default_factory=list)
    generator: list[float] = field(default_factory=list)
    latencies: array[float] = field(default_factory=lambda: array("d"))


_Measured = dict[tuple[Kind, str], _Samples]


def run(effort: Effort) -> Result:
    """Measure the operations of the servers that were chosen, each in interleaved windows."""
    result = Result(
        f"server_tokens: {CONNECTIONS} kept connections",
        ("", "requests/s", "× oidc-provider", "CPU ms", "PostgreSQL's", "p50 ms", "p95 ms"),
    )
    operations = [each for each in OPERATIONS if each in (effort.operations or OPERATIONS)]
    usual = _QUICK if effort.quick and not effort.only else KINDS
    chosen = [each for each in usual if each.is_chosen(effort.only)]
    here = [each for each in chosen if not servers.missing(each)]
    result.notes += sorted({servers.missing(each) for each in chosen} - {""})
    with ExitStack() as stack:
        cluster = None
        if any(each.engine == POSTGRESQL for each in here):
            cluster = stack.enter_context(postgres.started())
        folder = Folder(Path(stack.enter_context(tempfile.TemporaryDirectory())), cluster)
        running = stack.enter_context(servers.started(here, folder))
        measured = _rounds(running, cluster, operations, effort)
    for operation in operations:
        for kind in here:
            if (kind, operation) in measured:
                _add(result, measured, kind, operation)
    for name, value, note in _bars(measured):
        result.reached[name] = value
        result.notes.append(f"{name}: {note}.")
    result.notes.append(_generator(measured))
    return result


def _rounds(
    running: Sequence[Running],
    cluster: postgres.Cluster | None,
    operations: Sequence[str],
    effort: Effort,
) -> _Measured:
    warm_up, measured = _Measured(), _Measured()
    lengths = [_WARM_UP_SECONDS, *[_SECONDS] * _ROUNDS]
    for number, seconds in enumerate([_QUICK_SECONDS] if effort.quick else lengths):
        kept = measured if number or effort.quick else warm_up
        start = number % len(running)
        for operation in operations:
            for each in (*running[start:], *running[:start]):
                if each.kind.algorithm != "RS256" or operation in _SIGNING:
                    samples = kept.setdefault((each.kind, operation), _Samples())
                    _window(each, cluster, operation, seconds, samples)
    return measured


def _window(
    server: Running,
    cluster: postgres.Cluster | None,
    operation: str,
    seconds: float,
    samples: _Samples,
) -> None:
    exchanges = server.flow.prepare(operation, seconds)
    on_cluster = cluster is not None and server.kind.engine == POSTGRESQL
    own = _used(server.pid)
    database = _used(cluster.pid) if cluster is not None and on_cluster else lambda: 0.0
    try:
        window = load.run(server.port, exchanges, seconds)
    except LoadError as error:
        raise LoadError(f"{server.kind.name}, {operation}: {error}") from error
    # Those that were under way at the end are not counted, but in the processor time.
    count = window.responses
    samples.own.append(own() / count)
    samples.database.append(database() / count)
    samples.rates.append(window.rate)
    samples.generator.append(window.generator_seconds / window.seconds)
    samples.latencies.extend(window.latencies)


def _used(pid: int) -> Callable[[], float]:
    """Return what tells the processor time that a process tree has used from now on."""
    begin = processor.seconds(pid)
    return lambda: processor.seconds(pid) - begin


def _add(result: Result, measured: _Measured, kind: Kind, operation: str) -> None:
    samples = measured[kind, operation]
    rate, own, database = figure(samples.rates), figure(samples.own), figure(samples.database)
    latencies = statistics.quantiles(samples.latencies, n=20, method="inclusive")
    p50, p95 = latencies[9] * 1e3, latencies[18] * 1e3
    peer = measured.get((Kind(OIDC_PROVIDER, algorithm=kind.algorithm or "ES256"), operation))
    result.row(
        f"{operation}: {kind.label}",
        rate.text(0),
        "-" if peer is None else f"{_over(samples, peer).median:.2f}",
        f"{own.median * 1e3:.2f}",
        f"{database.median * 1e3:.2f}" if kind.engine == POSTGRESQL else "-",
        f"{p50:.1f}",
        f"{p95:.1f}",
    )
    result.keep(operation, kind.name, "requests/s", value=rate)
    result.keep(operation, kind.name, "CPU ms", value=own.scaled(1e3))
    result.keep(operation, kind.name, "PostgreSQL CPU ms", value=database.scaled(1e3))
    result.keep(operation, kind.name, "p50 ms", value=p50)
    result.keep(operation, kind.name, "p95 ms", value=p95)


def _over(samples: _Samples, other: _Samples) -> Figure:
    """Return how many times the rate of another one, in the same round."""
    return figure([a / b for a, b in zip(samples.rates, other.rates, strict=True)])


def _bars(measured: _Measured) -> Iterator[tuple[str, float, str]]:
    """Return each target's name with what was reached, and how."""
    for engine in (SQLITE, POSTGRESQL):
        for operation, algorithm in (
            ("credentials", "ES256"),
            ("credentials", "RS256"),
            ("refresh", "ES256"),
        ):
            pairs = [
                (operation, Kind(OURS, engine, _WORKERS, algorithm), _in_memory(algorithm)),
            ]
            yield from _least(f"Tokens {operation} {algorithm} {engine}", measured, pairs)
        for product in (AUTHLIB, DJANGO):
            pairs = [
                (operation, Kind(OURS, engine, workers, "ES256"), Kind(product, engine, workers))
                for operation in OPERATIONS
                for workers in (1, 2)
            ]
            yield from _least(f"Tokens {product} {engine}", measured, pairs)
        pairs = [
            (operation, Kind(OURS, engine, 2, "ES256"), Kind(OURS, engine, 1, "ES256"))
            for operation in OPERATIONS
        ]
        yield from _least(f"Tokens workers {engine}", measured, pairs)
    yield from _per_core(measured)


def _in_memory(algorithm: str) -> Kind:
    return Kind(OIDC_PROVIDER, algorithm=algorithm)


def _least(
    name: str, measured: _Measured, pairs: Sequence[tuple[str, Kind, Kind]]
) -> Iterator[tuple[str, float, str]]:
    """Return the least ratio of those that were measured, and where that was."""
    found = [
        (_over(measured[one, operation], measured[other, operation]), operation, one, other)
        for operation, one, other in pairs
        if (one, operation) in measured and (other, operation) in measured
    ]
    if found:
        ratio, operation, one, other = min(found, key=lambda each: each[0].median)
        yield name, ratio.median, f"{ratio.text()}, {operation}, {one.name} / {other.name}"


def _per_core(measured: _Measured) -> Iterator[tuple[str, float, str]]:
    kind = Kind(OURS, POSTGRESQL, _WORKERS, "ES256")
    samples = measured.get((kind, "refresh"))
    if samples is not None:
        both = zip(samples.own, samples.database, strict=True)
        rate = figure([1 / (own + database) for own, database in both])
        yield "Tokens refresh core", rate.median, f"{rate.text(0)}, {kind.name} and PostgreSQL"


def _generator(measured: _Measured) -> str:
    shares = [share for samples in measured.values() for share in samples.generator]
    return (
        f"The load generator shares {os.cpu_count()} cores with the servers: it took"
        f" {min(shares):.0%} to {max(shares):.0%} of one, {statistics.median(shares):.0%} in the"
        " median window."
    )
