"""OpenTelemetry metrics and spans of a guard: `Guard(..., observers=[OpenTelemetryObserver()])`.

The metrics of an authorization server come from `OpenTelemetryServerObserver`.

Needs the extra `[opentelemetry]`, which is the API alone: the application chooses an SDK and its
exporters. Attributes follow the semantic conventions where these have one (`error.type`, `http.*`,
`server.*`, `url.*`); the others begin with `bearerguard.`. None holds personal data: an application
that wants `enduser.id` on a span sets it from its own principal.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias
from urllib.parse import urlsplit

from bearerguard.guard.observers import (
    DECISION_BUCKETS,
    FETCH_BUCKETS,
    AttachedGuards,
    Health,
)
from bearerguard.guard.records import DecisionRecord, FetchRecord
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.reporting.observing import REQUEST_BUCKETS

with Extra("opentelemetry", needed_by=__name__):
    from opentelemetry import trace
    from opentelemetry.metrics import (
        CallbackOptions,
        CallbackT,
        MeterProvider,
        Observation,
        get_meter,
    )
    from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider, get_tracer

if TYPE_CHECKING:
    from bearerguard.server.observers import RequestRecord  # it needs the extra `[server]`

__all__ = ["OpenTelemetryObserver", "OpenTelemetryServerObserver"]

_SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
_SCOPE = "bearerguard"
_Attributes: TypeAlias = dict[str, str | int | float | bool]


class OpenTelemetryObserver:
    """Counts, times and traces the decisions and fetches of one guard, or of several.

    The current span, which is that of the request where the instrumentation is outside the guard,
    gets the attributes of the decision. A fetch becomes a client span below the current one; a read
    of shared revocations becomes none, as it is made twice a second.

    Args:
        meter_provider: makes the instruments, the global one by default.
        tracer_provider: makes the spans of fetches, the global one by default.
    """

    def __init__(
        self,
        *,
        meter_provider: MeterProvider | None = None,
        tracer_provider: TracerProvider | None = None,
    ) -> None:
        meter = get_meter(_SCOPE, meter_provider=meter_provider, schema_url=_SCHEMA)
        self._tracer = get_tracer(_SCOPE, tracer_provider=tracer_provider, schema_url=_SCHEMA)
        self._decisions = meter.create_histogram(
            "bearerguard.decision.duration",
            unit="s",
            description="How long decisions took, fetches included.",
            explicit_bucket_boundaries_advisory=DECISION_BUCKETS,
        )
        self._route_refusals = meter.create_counter(
            "bearerguard.route.refusals",
            unit="{request}",
            description="Requests that were allowed, and then refused by their route.",
        )
        self._stale = meter.create_counter(
            "bearerguard.stale.decisions",
            unit="{decision}",
            description="Decisions that relied on keys or responses that should have been renewed.",
        )
        self._fetches = meter.create_histogram(
            "bearerguard.fetch.duration",
            unit="s",
            description="How long requests to issuers, and reads of revocations, took.",
            explicit_bucket_boundaries_advisory=FETCH_BUCKETS,
        )
        self._guards = AttachedGuards()
        for name, unit, description in _GAUGES:
            meter.create_observable_gauge(
                name, callbacks=[_callback(name, self._guards)], unit=unit, description=description
            )

    def decided(self, record: DecisionRecord) -> None:
        """Note a decision."""
        attributes: _Attributes = {"bearerguard.result": record.result}
        if record.reason is not None:
            attributes["bearerguard.reason"] = record.reason
            if record.result != "allow":
                attributes["error.type"] = record.reason
        if record.issuer is not None:
            attributes["bearerguard.issuer"] = record.issuer
        if record.kind == "route":
            self._route_refusals.add(1, attributes)
        else:
            if record.is_cached is not None:
                attributes["bearerguard.cached"] = record.is_cached
            self._decisions.record(record.seconds, attributes)
        if record.is_stale:
            self._stale.add(1, {"bearerguard.issuer": record.issuer or ""})
        span = trace.get_current_span()
        if span.is_recording():
            # `error.type` of a server's span is its instrumentation's.
            attributes.pop("error.type", None)
            if record.is_stale:
                attributes["bearerguard.stale"] = True
            span.set_attributes(attributes)

    def fetched(self, record: FetchRecord) -> None:
        """Note a fetch."""
        attributes: _Attributes = {"bearerguard.fetch.target": record.target}
        if record.issuer is not None:
            attributes["bearerguard.issuer"] = record.issuer
        if record.error is not None:
            attributes["error.type"] = record.error
        if record.method is not None:
            attributes["http.request.method"] = record.method
        if record.status is not None:
            attributes["http.response.status_code"] = record.status
            if record.error == "status":
                attributes["error.type"] = str(record.status)
        self._fetches.record(record.seconds, attributes)
        if record.method is not None:
            self._trace(record, attributes)

    def attached(self, health: Health) -> None:
        """Read the gauges of another guard, as long as it is used."""
        self._guards.add(health)

    def _trace(self, record: FetchRecord, attributes: _Attributes) -> None:
        end = time.time_ns()
        span = self._tracer.start_span(
            record.method or "",
            kind=SpanKind.CLIENT,
            attributes=attributes | _place(record.url),
            start_time=end - int(record.seconds * 1e9),
        )
        if record.octets is not None:
            span.set_attribute("http.response.body.size", record.octets)
        if record.error is not None:
            span.set_status(Status(StatusCode.ERROR, record.error))
        span.end(end)


class OpenTelemetryServerObserver:
    """Counts and times the requests of one authorization server, or of several.

    Spans of the requests are made by the instrumentation of the web server or framework.

    Args:
        meter_provider: makes the instruments, the global one by default.
    """

    def __init__(self, *, meter_provider: MeterProvider | None = None) -> None:
        meter = get_meter(_SCOPE, meter_provider=meter_provider, schema_url=_SCHEMA)
        self._requests = meter.create_histogram(
            "bearerguard.server.request.duration",
            unit="s",
            description="How long the authorization server took for a response.",
            explicit_bucket_boundaries_advisory=REQUEST_BUCKETS,
        )
        self._tokens = meter.create_counter(
            "bearerguard.server.tokens.issued",
            unit="{token}",
            description="Tokens in responses of the token endpoint.",
        )
        self._failures = meter.create_counter(
            "bearerguard.server.store.failures",
            unit="{failure}",
            description="Failed uses of the database.",
        )
        self._recoveries = meter.create_counter(
            "bearerguard.server.store.recoveries",
            unit="{recovery}",
            description="How often the database worked again after failures.",
        )

    def responded(self, record: RequestRecord) -> None:
        """Note a request."""
        attributes: _Attributes = {
            "bearerguard.endpoint": record.endpoint,
            "bearerguard.outcome": record.outcome,
            # What the conventions call a method that they do not know.
            "http.request.method": "_OTHER" if record.method == "other" else record.method,
            "http.response.status_code": record.status,
        }
        if record.grant_type is not None:
            attributes["bearerguard.grant_type"] = record.grant_type
        if record.error is not None:
            attributes["error.type"] = record.error
        self._requests.record(record.seconds, attributes)
        for kind in record.issued:
            issued: _Attributes = {"bearerguard.token.kind": kind}
            if record.grant_type is not None:
                issued["bearerguard.grant_type"] = record.grant_type
            self._tokens.add(1, issued)

    def store_failed(self) -> None:
        """Note a failure of the database."""
        self._failures.add(1)

    def store_restored(self) -> None:
        """Note a recovery of the database."""
        self._recoveries.add(1)


def _place(url: str | None) -> _Attributes:
    """Return the span attributes of a URL, which has neither user nor query."""
    if url is None:
        return {}
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return {"url.full": url, "server.address": parts.hostname or "", "server.port": port}


_GAUGES = (
    ("bearerguard.ready", "1", "1 if tokens can be validated now, else 0."),
    ("bearerguard.fresh", "1", "1 if nothing is stale and introspection works, else 0."),
    ("bearerguard.cached_tokens", "{token}", "How many verified tokens are cached."),
    ("bearerguard.issuer.ready", "1", "1 if the issuer's keys may be used, else 0."),
    ("bearerguard.issuer.keys.age", "s", "How long ago the issuer's keys were fetched."),
    ("bearerguard.introspection.ready", "1", "0 while introspection is paused, else 1."),
    ("bearerguard.revocations.age", "s", "How long ago shared revocations were read."),
)


def _callback(name: str, guards: AttachedGuards) -> CallbackT:
    """Return what observes one gauge; where guards share an issuer, that of the first one."""

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        seen: set[str | None] = set()
        for health in guards.healths():
            for found, issuer, value in _values(health):
                if found == name and value is not None and issuer not in seen:
                    seen.add(issuer)
                    labels = {} if issuer is None else {"bearerguard.issuer": issuer}
                    yield Observation(float(value), labels)

    return observe


def _values(health: Mapping[str, Any]) -> Iterator[tuple[str, str | None, float | None]]:
    for name in ("ready", "fresh", "cached_tokens"):
        yield f"bearerguard.{name}", None, health[name]
    for url, keys in health["issuers"].items():
        if keys["tenant_of"] is None:
            yield "bearerguard.issuer.ready", url, keys["ready"]
            yield "bearerguard.issuer.keys.age", url, keys["age"]
    for url, introspection in health["introspection"].items():
        yield "bearerguard.introspection.ready", url, introspection["ready"]
    if "revocations" in health:
        yield "bearerguard.revocations.age", None, health["revocations"]["age"]
