"""The Prometheus observer: what is counted, under which labels, and how it is scraped."""

from __future__ import annotations

import gc
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
import uvicorn
from prometheus_client import CollectorRegistry, generate_latest, make_asgi_app
from prometheus_client.parser import text_string_to_metric_families
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from bearerguard import (
    ConfigurationError,
    DecisionRecord,
    FetchRecord,
    Guard,
    Issuer,
    IssuerUnavailable,
    Response,
    Revocations,
    TokenError,
)
from bearerguard import Request as Message
from bearerguard.prometheus import PrometheusObserver, PrometheusServerObserver
from bearerguard.server import AuthorizationServer, RequestRecord, SigningKeys
from bearerguard.starlette import BearerMiddleware, require_scopes
from bearerguard.testing import LocalIssuer


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def observer(registry: CollectorRegistry) -> PrometheusObserver:
    return PrometheusObserver(registry)


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def test_decisions_are_counted_by_result_reason_issuer_and_cache(
    registry: CollectorRegistry, observer: PrometheusObserver, issuer: LocalIssuer
) -> None:
    with issuer.guard(observers=[observer]) as guard:
        token = issuer.token()
        for _ in range(3):
            guard.verify(token)
        with pytest.raises(TokenError):
            guard.verify("a.b.c")

    def counted(**labels: str) -> float | None:
        return registry.get_sample_value("bearerguard_decisions_total", labels)

    assert counted(result="allow", reason="", issuer=issuer.url, cache="miss") == 1
    assert counted(result="allow", reason="", issuer=issuer.url, cache="hit") == 2
    assert counted(result="deny", reason="malformed_token", issuer="", cache="miss") == 1
    taken = registry.get_sample_value(
        "bearerguard_decision_duration_seconds_count", {"result": "allow", "cache": "hit"}
    )
    assert taken == 2


def test_a_refusal_by_a_route_has_a_counter_of_its_own(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    observer.decided(
        DecisionRecord(
            "route", "deny", "insufficient_scope", "https://id.test", 403, None, False, 0.1
        )
    )
    labels = {"reason": "insufficient_scope", "issuer": "https://id.test"}
    assert registry.get_sample_value("bearerguard_route_refusals_total", labels) == 1
    (decisions,) = [each for each in registry.collect() if each.name == "bearerguard_decisions"]
    assert decisions.samples == []


def test_a_decision_that_relied_on_something_stale_is_counted(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    observer.decided(
        DecisionRecord("request", "allow", None, "https://id.test", None, True, True, 0.1)
    )
    labels = {"issuer": "https://id.test"}
    assert registry.get_sample_value("bearerguard_stale_decisions_total", labels) == 1


def test_fetches_are_counted_by_target_result_error_and_issuer(
    registry: CollectorRegistry, observer: PrometheusObserver, issuer: LocalIssuer
) -> None:
    with issuer.guard(observers=[observer]) as guard:
        guard.warm()
        issuer.outage = True
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.token(header={"kid": "unknown"}))
    for target, result, error in (
        ("metadata", "ok", ""),
        ("jwks", "ok", ""),
        ("jwks", "failed", "status"),
    ):
        labels = {"target": target, "result": result, "error": error, "issuer": issuer.url}
        assert registry.get_sample_value("bearerguard_fetches_total", labels) == 1
    taken = {"target": "jwks", "issuer": issuer.url}
    assert registry.get_sample_value("bearerguard_fetch_duration_seconds_count", taken) == 2


def test_the_gauges_say_what_the_health_says(
    registry: CollectorRegistry, observer: PrometheusObserver, issuer: LocalIssuer
) -> None:
    options = issuer.introspection.options()
    trusted = issuer.issuer(introspection=options)
    guard = Guard(
        trusted,
        transport=issuer.transport(),
        observers=[observer],
        revocations=Revocations(),
    )
    with guard:
        guard.verify(issuer.token())
        before = time.time()
        issuer.introspection.response = Response(503)
        for _ in range(3):
            with pytest.raises(IssuerUnavailable):
                guard.verify(issuer.opaque_token())

        def gauge(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"bearerguard_{name}", labels)

        assert (gauge("ready"), gauge("fresh"), gauge("cached_tokens")) == (1, 0, 1)
        assert gauge("issuer_ready", issuer=issuer.url) == 1
        assert gauge("issuer_fresh", issuer=issuer.url) == 1
        assert gauge("keys", issuer=issuer.url) == 1
        assert gauge("keys_failed_fetches", issuer=issuer.url) == 0
        fetched = gauge("keys_fetched_timestamp_seconds", issuer=issuer.url)
        assert fetched is not None
        assert before - 60 < fetched < before + 60
        assert gauge("introspection_breaker_open", issuer=issuer.url) == 1
        assert gauge("introspection_failed_calls", issuer=issuer.url) == 3
        assert (gauge("revocations"), gauge("revocations_ready")) == (0, 1)
        assert gauge("revocations_read_timestamp_seconds") is None


def test_tenants_are_one_label_however_many_there_are(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    tenant = LocalIssuer("https://id.test/t1", algorithm="ES256")
    pattern = Issuer(
        "https://id.test/{tenant}", audience=tenant.audience, tenants=lambda _name: True
    )
    with Guard(pattern, transport=tenant.transport(), observers=[observer]) as guard:
        for number in range(20):
            tenant.url = f"https://id.test/t{number}"
            guard.verify(tenant.token())
        labels = {"issuer": "https://id.test/{tenant}", "ready": "true"}
        assert registry.get_sample_value("bearerguard_tenants", labels) == 20
        issuers = {
            sample.labels["issuer"]
            for family in registry.collect()
            for sample in family.samples
            if "issuer" in sample.labels
        }
    assert issuers == {"https://id.test/{tenant}"}


def test_reasons_of_an_application_s_own_are_bounded(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    for number in range(1500):
        observer.decided(
            DecisionRecord("request", "deny", f"made-up-{number}", None, 401, False, False, 0.1)
        )
    (decisions,) = [each for each in registry.collect() if each.name == "bearerguard_decisions"]
    counts = [each for each in decisions.samples if each.name.endswith("_total")]
    assert len(counts) == 1001
    assert sum(each.value for each in counts) == 1500


def test_guards_may_share_an_observer_and_an_issuer_and_end(
    registry: CollectorRegistry, observer: PrometheusObserver, issuer: LocalIssuer
) -> None:
    one, two = issuer.guard(observers=[observer]), issuer.guard(observers=[observer])
    for guard in (one, two):
        guard.verify(issuer.token())
        guard.close()
    labels = {"issuer": issuer.url}
    assert registry.get_sample_value("bearerguard_issuer_ready", labels) == 1
    del guard, one, two
    gc.collect()
    assert registry.get_sample_value("bearerguard_issuer_ready", labels) is None


def test_a_registry_that_has_the_metrics_already_is_refused(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    with pytest.raises(ConfigurationError, match="pass one observer to all guards"):
        PrometheusObserver(registry)


def test_a_fetch_without_an_issuer_has_an_empty_label(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    observer.fetched(
        FetchRecord("revocations", "failed", "store", None, None, None, None, None, 0.1)
    )
    labels = {"target": "revocations", "result": "failed", "error": "store", "issuer": ""}
    assert registry.get_sample_value("bearerguard_fetches_total", labels) == 1


def test_in_the_multiprocess_mode_there_are_no_gauges(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch, issuer: LocalIssuer
) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "anywhere")
    with issuer.guard(observers=[PrometheusObserver(registry)]):
        assert registry.get_sample_value("bearerguard_ready") is None


# Scraped


@contextmanager
def served(app: Any) -> Generator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def test_a_scrape_of_a_running_app_finds_its_requests(
    registry: CollectorRegistry, observer: PrometheusObserver, issuer: LocalIssuer
) -> None:
    @require_scopes("write")
    async def write(_request: Request) -> JSONResponse:
        return JSONResponse({})

    async def read(_request: Request) -> JSONResponse:
        return JSONResponse({})

    guard = issuer.guard(observers=[observer])
    app = Starlette(
        routes=[
            Route("/read", read),
            Route("/write", write),
            Mount("/metrics", make_asgi_app(registry)),
        ],
        middleware=[Middleware(BearerMiddleware, guard=guard, exclude=("/metrics/",))],
    )
    with guard, served(app) as url, httpx2.Client(base_url=url) as client:
        mine = {"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
        statuses = [
            client.get("/read", headers=mine).status_code,
            client.get("/read", headers=mine).status_code,
            client.get("/write", headers=mine).status_code,
            client.get("/read").status_code,
        ]
        text = client.get("/metrics/").text
    assert statuses == [200, 200, 403, 401]
    found = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name in {"bearerguard_decisions_total", "bearerguard_route_refusals_total"}
    }
    assert found == {
        ("bearerguard_decisions_total", *sorted(["allow", "", issuer.url, "miss"])): 1,
        ("bearerguard_decisions_total", *sorted(["allow", "", issuer.url, "hit"])): 2,
        ("bearerguard_decisions_total", *sorted(["deny", "missing_credentials", "", "none"])): 1,
        ("bearerguard_route_refusals_total", *sorted(["insufficient_scope", issuer.url])): 1,
    }


def _served(**changed: Any) -> RequestRecord:
    usual: dict[str, Any] = {
        "endpoint": "token",
        "method": "POST",
        "grant_type": "refresh_token",
        "status": 200,
        "error": None,
        "seconds": 0.004,
        "issued": ("access_token", "refresh_token"),
    }
    return RequestRecord(**(usual | changed))


def test_requests_to_a_server_are_counted_by_endpoint_grant_type_outcome_and_error(
    registry: CollectorRegistry,
) -> None:
    observer = PrometheusServerObserver(registry)
    observer.responded(_served())
    observer.responded(_served())
    observer.responded(_served(status=400, error="invalid_grant", issued=()))
    observer.responded(_served(endpoint="jwks", grant_type=None, issued=()))

    def counted(*values: str) -> float | None:
        names = ("endpoint", "grant_type", "outcome", "error")
        labels = dict(zip(names, values, strict=True))
        return registry.get_sample_value("bearerguard_server_requests_total", labels)

    assert counted("token", "refresh_token", "ok", "") == 2
    assert counted("token", "refresh_token", "refused", "invalid_grant") == 1
    assert counted("jwks", "", "ok", "") == 1
    for kind in ("access_token", "refresh_token"):
        labels = {"grant_type": "refresh_token", "kind": kind}
        assert registry.get_sample_value("bearerguard_server_tokens_issued_total", labels) == 2
    labels = {"endpoint": "token", "grant_type": "refresh_token", "outcome": "ok", "le": "0.005"}
    name = "bearerguard_server_request_duration_seconds_bucket"
    assert registry.get_sample_value(name, labels) == 2
    assert registry.get_sample_value(name, labels | {"le": "0.0025"}) == 0


def test_failures_and_recoveries_of_a_servers_database_are_counted(
    registry: CollectorRegistry,
) -> None:
    observer = PrometheusServerObserver(registry)
    observer.store_failed()
    observer.store_failed()
    observer.store_restored()
    assert registry.get_sample_value("bearerguard_server_store_failures_total") == 2
    assert registry.get_sample_value("bearerguard_server_store_recoveries_total") == 1


def test_errors_of_an_applications_grants_are_bounded(registry: CollectorRegistry) -> None:
    observer = PrometheusServerObserver(registry)
    for number in range(1100):
        observer.responded(_served(status=400, error=f"own_{number}", issued=()))
    (requests,) = [
        each for each in registry.collect() if each.name == "bearerguard_server_requests"
    ]
    counted = [each for each in requests.samples if each.name.endswith("_total")]
    assert len(counted) == 1001
    assert sum(each.value for each in counted) == 1100
    labels = {"endpoint": "token", "grant_type": "refresh_token", "outcome": "refused"}
    other = {**labels, "error": "other"}
    assert registry.get_sample_value("bearerguard_server_requests_total", other) == 100


def test_a_guard_and_a_server_share_a_registry_and_two_servers_an_observer(
    registry: CollectorRegistry, observer: PrometheusObserver
) -> None:
    PrometheusServerObserver(registry)
    with pytest.raises(ConfigurationError, match=r"pass one\s+observer to all servers"):
        PrometheusServerObserver(registry)
    assert observer


def test_a_real_server_is_counted(registry: CollectorRegistry, tmp_path: Path) -> None:
    server = AuthorizationServer(
        "https://id.example.com",
        store=f"sqlite:///{tmp_path}/auth.db",
        secret="a secret of the server only for tests",
        signing=SigningKeys(algorithm="ES256"),
        scopes={"read": "Read"},
        observers=[PrometheusServerObserver(registry)],
    )
    client = server.clients.add("Robot", scopes=["read"], redirect_uris=[])
    fields = {
        "grant_type": "client_credentials",
        "client_id": client.client_id,
        "client_secret": client.client_secret,
    }
    form = {"content-type": "application/x-www-form-urlencoded"}
    request = Message("POST", "/oauth/token", form, urlencode(fields).encode())
    assert server.handle(request).status == 200
    text = generate_latest(registry).decode()
    assert client.client_id not in text
    labels = 'endpoint="token",error="",grant_type="client_credentials",outcome="ok"'
    assert f"bearerguard_server_requests_total{{{labels}}} 1.0" in text
    server.close()
