"""The OpenTelemetry observer, with the SDK's exporters in memory."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.semconv.attributes import (
    error_attributes,
    http_attributes,
    server_attributes,
    url_attributes,
)
from opentelemetry.trace import SpanKind, StatusCode

from bearerguard import (
    DecisionRecord,
    FetchRecord,
    Guard,
    Issuer,
    IssuerUnavailable,
    Response,
    Revocations,
    TokenError,
    scopes,
)
from bearerguard.opentelemetry import OpenTelemetryObserver, OpenTelemetryServerObserver
from bearerguard.server import RequestRecord
from bearerguard.server.observers import TokenKind
from bearerguard.testing import LocalIssuer

ERROR_TYPE = error_attributes.ERROR_TYPE


class Exported:
    """An observer with an SDK that exports to memory."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self._spans = InMemorySpanExporter()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self._spans))
        self.tracer = tracers.get_tracer("app")
        self.observer = OpenTelemetryObserver(
            meter_provider=MeterProvider([self._reader]), tracer_provider=tracers
        )

    @property
    def spans(self) -> dict[str, ReadableSpan]:
        return {
            str((each.attributes or {}).get("bearerguard.fetch.target", each.name)): each
            for each in self._spans.get_finished_spans()
        }

    def points(self, name: str) -> dict[frozenset[tuple[str, Any]], Any]:
        """Return the points of a metric by their attributes."""
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        return {
            frozenset((point.attributes or {}).items()): point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
        }

    def gauge(self, name: str, issuer: str | None = None) -> float:
        labels = {} if issuer is None else {"bearerguard.issuer": issuer}
        value: float = self.points(name)[frozenset(labels.items())].value
        return value


@pytest.fixture
def exported() -> Exported:
    return Exported()


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def test_decisions_are_timed_with_their_result_and_reason(
    exported: Exported, issuer: LocalIssuer
) -> None:
    with issuer.guard(observers=[exported.observer]) as guard:
        token = issuer.token()
        for _ in range(3):
            guard.verify(token)
        with pytest.raises(TokenError):
            guard.verify("a.b.c")
    points = exported.points("bearerguard.decision.duration")
    counts = {labels: point.count for labels, point in points.items()}
    allowed = {"bearerguard.result": "allow", "bearerguard.issuer": issuer.url}
    refused = {"bearerguard.result": "deny", "bearerguard.reason": "malformed_token"}
    refused |= {ERROR_TYPE: "malformed_token"}
    assert counts == {
        frozenset({**allowed, "bearerguard.cached": False}.items()): 1,
        frozenset({**allowed, "bearerguard.cached": True}.items()): 2,
        frozenset({**refused, "bearerguard.cached": False}.items()): 1,
    }


def test_a_request_that_passes_without_a_token_is_no_error(exported: Exported) -> None:
    exported.observer.decided(
        DecisionRecord("request", "allow", "missing_credentials", None, None, None, False, 0.1)
    )
    (labels,) = exported.points("bearerguard.decision.duration")
    assert dict(labels) == {
        "bearerguard.result": "allow",
        "bearerguard.reason": "missing_credentials",
    }


def test_the_span_of_the_request_gets_the_decision_and_nothing_about_a_person(
    exported: Exported, issuer: LocalIssuer
) -> None:
    with (
        issuer.guard(observers=[exported.observer]) as guard,
        exported.tracer.start_as_current_span("GET /recordings"),
    ):
        principal = guard.verify(issuer.token(subject="ada@example.com"))
        guard.authorize(principal, scopes("delete"))
    span = exported.spans["GET /recordings"]
    assert span.attributes == {
        "bearerguard.result": "deny",
        "bearerguard.reason": "insufficient_scope",
        "bearerguard.issuer": issuer.url,
        "bearerguard.cached": False,
    }
    for each in exported.spans.values():
        assert "ada@" not in each.to_json()
        assert "eyJ" not in each.to_json()


def test_fetches_are_client_spans_of_the_request_that_waits_for_them(
    exported: Exported, issuer: LocalIssuer
) -> None:
    issuer.delay = 0.02
    with (
        issuer.guard(observers=[exported.observer]) as guard,
        exported.tracer.start_as_current_span("request") as parent,
    ):
        guard.verify(issuer.token())
    for target in ("metadata", "jwks"):
        span = exported.spans[target]
        assert span.kind is SpanKind.CLIENT
        assert span.name == "GET"
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        assert span.start_time is not None
        assert span.end_time is not None
        assert 0.02 <= (span.end_time - span.start_time) / 1e9 < 20
        assert span.status.status_code is StatusCode.UNSET
        found = dict(span.attributes or {})
        assert found[http_attributes.HTTP_REQUEST_METHOD] == "GET"
        assert found[http_attributes.HTTP_RESPONSE_STATUS_CODE] == 200
        assert found[server_attributes.SERVER_ADDRESS] == "issuer.test"
        assert found[server_attributes.SERVER_PORT] == 443
        assert str(found[url_attributes.URL_FULL]).startswith(issuer.url)
        assert ERROR_TYPE not in found


@pytest.mark.parametrize(
    ("record", "error_type"),
    [
        (
            FetchRecord("jwks", "failed", "status", "i", "GET", "http://h:81/k", 503, 0, 0.1),
            "503",
        ),
        (
            FetchRecord("jwks", "failed", "not_json", "i", "GET", "http://h/k", 200, 9, 0.1),
            "not_json",
        ),
        (FetchRecord("jwks", "failed", "tls", "i", "GET", None, None, None, 0.1), "tls"),
    ],
)
def test_a_fetch_that_failed_says_why(
    exported: Exported, record: FetchRecord, error_type: str
) -> None:
    exported.observer.fetched(record)
    span = exported.spans["jwks"]
    assert span.status.status_code is StatusCode.ERROR
    assert (span.attributes or {})[ERROR_TYPE] == error_type
    (labels,) = exported.points("bearerguard.fetch.duration")
    assert (ERROR_TYPE, error_type) in labels


def test_a_read_of_revocations_is_counted_and_makes_no_span(exported: Exported) -> None:
    exported.observer.fetched(
        FetchRecord("revocations", "ok", None, None, None, None, None, None, 0.1)
    )
    assert exported.spans == {}
    assert len(exported.points("bearerguard.fetch.duration")) == 1


def test_refusals_by_routes_and_stale_decisions_have_counters(exported: Exported) -> None:
    for kind, result, stale in (("route", "deny", False), ("request", "allow", True)):
        exported.observer.decided(
            DecisionRecord(kind, result, None, "https://id.test", None, None, stale, 0.1)  # type: ignore[arg-type]
        )
    for name in ("bearerguard.route.refusals", "bearerguard.stale.decisions"):
        (point,) = exported.points(name).values()
        assert point.value == 1
    assert (
        sum(each.count for each in exported.points("bearerguard.decision.duration").values()) == 1
    )


def test_a_stale_decision_marks_the_span(exported: Exported) -> None:
    with exported.tracer.start_as_current_span("request"):
        exported.observer.decided(
            DecisionRecord("request", "allow", None, None, None, True, True, 0.1)
        )
    assert (exported.spans["request"].attributes or {})["bearerguard.stale"] is True


def test_the_gauges_say_what_the_health_says(exported: Exported, issuer: LocalIssuer) -> None:
    trusted = issuer.issuer(introspection=issuer.introspection.options())
    guards = [
        Guard(
            trusted,
            transport=issuer.transport(),
            observers=[exported.observer],
            revocations=Revocations(),
        )
        for _ in range(2)
    ]
    for guard in guards:
        guard.verify(issuer.token())
    issuer.introspection.response = Response(503)
    for _ in range(3):
        with pytest.raises(IssuerUnavailable):
            guards[0].verify(issuer.opaque_token())
    assert exported.gauge("bearerguard.ready") == 1
    assert exported.gauge("bearerguard.fresh") == 0
    assert exported.gauge("bearerguard.cached_tokens") == 1
    assert exported.gauge("bearerguard.issuer.ready", issuer.url) == 1
    assert 0 <= exported.gauge("bearerguard.issuer.keys.age", issuer.url) < 60
    assert exported.gauge("bearerguard.introspection.ready", issuer.url) == 0
    assert exported.points("bearerguard.revocations.age") == {}  # of this process alone
    for guard in guards:
        guard.close()


def test_tenants_are_no_labels(exported: Exported) -> None:
    tenant = LocalIssuer("https://id.test/acme", algorithm="ES256")
    pattern = Issuer("https://id.test/{tenant}", audience=tenant.audience, tenants=["acme"])
    with Guard(pattern, transport=tenant.transport(), observers=[exported.observer]) as guard:
        guard.verify(tenant.token())
        assert exported.points("bearerguard.issuer.ready") == {}
        (labels,) = exported.points("bearerguard.decision.duration")
    assert ("bearerguard.issuer", "https://id.test/{tenant}") in labels


def test_without_an_sdk_it_does_nothing(issuer: LocalIssuer) -> None:
    with issuer.guard(observers=[OpenTelemetryObserver()]) as guard:
        assert guard.verify(issuer.token()).subject == "user"


def test_requests_to_a_server_are_measured_with_the_conventions_names() -> None:
    reader = InMemoryMetricReader()
    observer = OpenTelemetryServerObserver(meter_provider=MeterProvider([reader]))
    issued: tuple[TokenKind, ...] = ("access_token",)
    observer.responded(
        RequestRecord("token", "POST", "client_credentials", 200, None, 0.002, issued)
    )
    observer.responded(RequestRecord("token", "other", None, 405, "invalid_request", 0.001))
    # A grant of the application may pass no grant type on.
    observer.responded(RequestRecord("token", "POST", None, 200, None, 0.002, issued))
    observer.store_failed()
    observer.store_restored()
    points: dict[str, list[Any]] = {
        metric.name: list(metric.data.data_points)
        for resource in reader.get_metrics_data().resource_metrics  # type: ignore[union-attr]
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    durations = {
        each.attributes["http.request.method"]: dict(each.attributes)
        for each in points["bearerguard.server.request.duration"]
        if each.attributes.get("bearerguard.grant_type") or "error.type" in each.attributes
    }
    assert durations["POST"] == {
        "bearerguard.endpoint": "token",
        "bearerguard.grant_type": "client_credentials",
        "bearerguard.outcome": "ok",
        "http.request.method": "POST",
        "http.response.status_code": 200,
    }
    assert durations["_OTHER"]["error.type"] == "invalid_request"
    assert sum(each.value for each in points["bearerguard.server.tokens.issued"]) == 2
    assert points["bearerguard.server.store.failures"][0].value == 1
    assert points["bearerguard.server.store.recoveries"][0].value == 1
