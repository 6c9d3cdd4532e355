"""Prometheus metrics of a guard: `Guard(..., observers=[PrometheusObserver()])`.

Those of an authorization server come from `PrometheusServerObserver`, which its `observers=` takes.

Needs the extra `[prometheus]`. Names, labels and units are stable. Labels have values from fixed
sets, or name an issuer as it is configured: tenants are counted under their pattern.
"""

from __future__ import annotations

import os
from collections import Counter as Tally
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.guard.observers import (
    DECISION_BUCKETS,
    FETCH_BUCKETS,
    AttachedGuards,
    Health,
)
from bearerguard.guard.records import DecisionRecord, FetchRecord
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.reporting.observing import REQUEST_BUCKETS

with Extra("prometheus", needed_by=__name__):
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from bearerguard.server.observers import RequestRecord  # it needs the extra `[server]`

__all__ = ["PrometheusObserver", "PrometheusServerObserver"]

# Claim checks of the application have reasons of their own, so the number of label combinations is
# bounded: all further ones are counted with the reason `other`.
_MAX_CHILDREN = 1000
_OTHER = "other"

_Key: TypeAlias = tuple[str, str, str | None, str | None, bool | None]
_RequestKey: TypeAlias = tuple[str, str | None, str, str | None]
_Counting: TypeAlias = tuple[Callable[[], None], Callable[[float], None]]


class PrometheusObserver:
    """Counts and times the decisions and fetches of one guard, or of several.

    Gauges about keys, introspection, revocations and the cache come from `Guard.health` when the
    registry is read. In the multiprocess mode of `prometheus_client` there are none, as it has no
    gauges that are read on demand.

    Args:
        registry: where the metrics are registered, `prometheus_client.REGISTRY` by default.

    Raises:
        ConfigurationError: the registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        with _registering(self, "guards"):
            self._decisions = Counter(
                "bearerguard_decisions_total",
                "Requests decided on, and tokens verified without a request.",
                ("result", "reason", "issuer", "cache"),
                registry=registry,
            )
        self._decision_seconds = Histogram(
            "bearerguard_decision_duration_seconds",
            "How long decisions took, fetches included.",
            ("result", "cache"),
            buckets=DECISION_BUCKETS,
            registry=registry,
        )
        self._route_refusals = Counter(
            "bearerguard_route_refusals_total",
            "Requests that were allowed, and then refused by the requirement of their route.",
            ("reason", "issuer"),
            registry=registry,
        )
        self._stale = Counter(
            "bearerguard_stale_decisions_total",
            "Decisions that relied on keys or responses that should have been renewed.",
            ("issuer",),
            registry=registry,
        )
        self._fetches = Counter(
            "bearerguard_fetches_total",
            "Requests to issuers, and reads of shared revocations.",
            ("target", "result", "error", "issuer"),
            registry=registry,
        )
        self._fetch_seconds = Histogram(
            "bearerguard_fetch_duration_seconds",
            "How long fetches took.",
            ("target", "issuer"),
            buckets=FETCH_BUCKETS,
            registry=registry,
        )
        # Looking a metric up by its labels takes longer than counting.
        self._children: dict[_Key, _Counting] = {}
        self._guards = AttachedGuards()
        if not _is_multiprocess():
            registry.register(_Gauges(self._guards))

    def decided(self, record: DecisionRecord) -> None:
        """Count a decision."""
        key = (record.kind, record.result, record.reason, record.issuer, record.is_cached)
        count, observe = self._children.get(key) or self._new(key)
        count()
        observe(record.seconds)
        if record.is_stale:
            self._stale.labels(record.issuer or "").inc()

    def fetched(self, record: FetchRecord) -> None:
        """Count a fetch."""
        issuer = record.issuer or ""
        self._fetches.labels(record.target, record.result, record.error or "", issuer).inc()
        self._fetch_seconds.labels(record.target, issuer).observe(record.seconds)

    def attached(self, health: Health) -> None:
        """Read the gauges of another guard, as long as it is used."""
        self._guards.add(health)

    def _new(self, key: _Key) -> _Counting:
        kind, result, reason, issuer, is_cached = key
        if len(self._children) >= _MAX_CHILDREN:
            key = (kind, result, _OTHER, issuer, is_cached)
            reason = _OTHER
        cache = "none" if is_cached is None else "hit" if is_cached else "miss"
        if kind == "route":
            refusals = self._route_refusals.labels(reason or "", issuer or "")
            made: _Counting = (refusals.inc, _ignore)
        else:
            counted = self._decisions.labels(result, reason or "", issuer or "", cache)
            made = (counted.inc, self._decision_seconds.labels(result, cache).observe)
        self._children[key] = made
        return made


class PrometheusServerObserver:
    """Counts and times the requests of one authorization server, or of several.

    Args:
        registry: where the metrics are registered, `prometheus_client.REGISTRY` by default.

    Raises:
        ConfigurationError: the registry has these metrics already.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        with _registering(self, "servers"):
            self._requests = Counter(
                "bearerguard_server_requests_total",
                "Responses of the authorization server.",
                ("endpoint", "grant_type", "outcome", "error"),
                registry=registry,
            )
        self._seconds = Histogram(
            "bearerguard_server_request_duration_seconds",
            "How long the authorization server took for a response.",
            ("endpoint", "grant_type", "outcome"),
            buckets=REQUEST_BUCKETS,
            registry=registry,
        )
        self._tokens = Counter(
            "bearerguard_server_tokens_issued_total",
            "Tokens in responses of the token endpoint.",
            ("grant_type", "kind"),
            registry=registry,
        )
        self._failures = Counter(
            "bearerguard_server_store_failures_total",
            "Failed uses of the database.",
            registry=registry,
        )
        self._recoveries = Counter(
            "bearerguard_server_store_recoveries_total",
            "How often the database worked again after failures.",
            registry=registry,
        )
        self._children: dict[_RequestKey, _Counting] = {}

    def responded(self, record: RequestRecord) -> None:
        """Count a request."""
        key = (record.endpoint, record.grant_type, record.outcome, record.error)
        count, observe = self._children.get(key) or self._new(key)
        count()
        observe(record.seconds)
        for kind in record.issued:
            self._tokens.labels(record.grant_type or "", kind).inc()

    def store_failed(self) -> None:
        """Count a failure of the database."""
        self._failures.inc()

    def store_restored(self) -> None:
        """Count a recovery of the database."""
        self._recoveries.inc()

    def _new(self, key: _RequestKey) -> _Counting:
        endpoint, grant_type, outcome, error = key
        if len(self._children) >= _MAX_CHILDREN:  # a grant of the application has its own errors
            key = (endpoint, grant_type, outcome, _OTHER)
            error = _OTHER
        labels = (endpoint, grant_type or "", outcome)
        made = (
            self._requests.labels(*labels, error or "").inc,
            self._seconds.labels(*labels).observe,
        )
        self._children[key] = made
        return made


@contextmanager
def _registering(observer: object, observed: str) -> Generator[None]:
    """Say what to do where a registry has the metrics of another observer of this class."""
    try:
        yield
    except ValueError as error:
        raise ConfigurationError(
            f"{type(observer).__name__}(registry=): the registry has these metrics already: pass"
            f" one observer to all {observed}, or another registry"
        ) from error


def _ignore(_seconds: float) -> None:
    pass


def _is_multiprocess() -> bool:
    # As prometheus_client decides it.
    return "PROMETHEUS_MULTIPROC_DIR" in os.environ or "prometheus_multiproc_dir" in os.environ


class _Gauges(Collector):
    """Reads the health of guards when the registry is read."""

    def __init__(self, guards: AttachedGuards) -> None:
        self._guards = guards

    def describe(self) -> Iterable[Metric]:
        """Return the metrics without values, for the registry."""
        return _families()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics; where guards share an issuer, those of the first one."""
        families = {each.name: each for each in _families()}
        seen: set[tuple[str, ...]] = set()
        for health in self._guards.healths():
            for name, labels, value in _samples(health):
                if value is not None and (name, *labels) not in seen:
                    seen.add((name, *labels))
                    families[name].add_metric(labels, float(value))
        yield from families.values()


_ISSUER = ("issuer",)
_GAUGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("bearerguard_ready", "Whether tokens can be validated now.", ()),
    ("bearerguard_fresh", "Whether nothing is stale, and introspection works.", ()),
    ("bearerguard_cached_tokens", "How many verified tokens are cached.", ()),
    ("bearerguard_issuer_ready", "Whether the issuer's keys may be used.", _ISSUER),
    ("bearerguard_issuer_fresh", "Whether the issuer's keys are up to date.", _ISSUER),
    ("bearerguard_keys", "How many keys of the issuer are known.", _ISSUER),
    (
        "bearerguard_keys_fetched_timestamp_seconds",
        "When the issuer's keys were last fetched, in Unix seconds.",
        _ISSUER,
    ),
    ("bearerguard_keys_failed_fetches", "How many fetches of keys in a row have failed.", _ISSUER),
    ("bearerguard_tenants", "How many tenants' keys are kept.", ("issuer", "ready")),
    (
        "bearerguard_introspection_breaker_open",
        "Whether the introspection endpoint is not called for a while.",
        _ISSUER,
    ),
    (
        "bearerguard_introspection_failed_calls",
        "How many calls of the introspection endpoint in a row have failed.",
        _ISSUER,
    ),
    ("bearerguard_revocations", "How many revocations are known.", ()),
    ("bearerguard_revocations_ready", "Whether the list of revocations may be used.", ()),
    (
        "bearerguard_revocations_read_timestamp_seconds",
        "When the shared revocations were last read, in Unix seconds.",
        (),
    ),
)

_Sample: TypeAlias = tuple[str, tuple[str, ...], float | None]


def _families() -> list[GaugeMetricFamily]:
    return [GaugeMetricFamily(name, text, labels=labels) for name, text, labels in _GAUGES]


def _samples(health: Mapping[str, Any]) -> Iterator[_Sample]:
    for name in ("ready", "fresh", "cached_tokens"):
        yield f"bearerguard_{name}", (), health[name]
    tenants: Tally[tuple[str, str]] = Tally()
    for url, keys in health["issuers"].items():
        if keys["tenant_of"] is not None:
            tenants[keys["tenant_of"], "true" if keys["ready"] else "false"] += 1
            continue
        label = (url,)
        yield "bearerguard_issuer_ready", label, keys["ready"]
        yield "bearerguard_issuer_fresh", label, keys["fresh"]
        yield "bearerguard_keys", label, keys["keys"]
        yield "bearerguard_keys_fetched_timestamp_seconds", label, keys["last_success"]
        yield "bearerguard_keys_failed_fetches", label, keys["failures"]
    for labels, count in tenants.items():
        yield "bearerguard_tenants", labels, count
    for url, introspection in health["introspection"].items():
        yield "bearerguard_introspection_breaker_open", (url,), introspection["status"] == "down"
        yield "bearerguard_introspection_failed_calls", (url,), introspection["failures"]
    revocations = health.get("revocations")
    if revocations is not None:
        yield "bearerguard_revocations", (), revocations["entries"]
        yield "bearerguard_revocations_ready", (), revocations["ready"]
        yield (
            "bearerguard_revocations_read_timestamp_seconds",
            (),
            revocations["last_success"],
        )
