"""Metrics of an app with several workers, in the multiprocess mode of prometheus_client."""

from __future__ import annotations

import sys
from pathlib import Path

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from tests.processes import free_port, program

APP = """
from prometheus_client import CollectorRegistry, generate_latest, multiprocess

from bearerguard.prometheus import PrometheusObserver
from bearerguard.testing import LocalIssuer
from bearerguard.wsgi import BearerMiddleware

issuer = LocalIssuer(algorithm="ES256")
token = issuer.token()
guard = issuer.guard(observers=[PrometheusObserver()])


def api(environ, start_response):
    path = environ["PATH_INFO"]
    body = b"ok"
    if path == "/token":
        body = token.encode()
    elif path == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        body = generate_latest(registry)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


app = BearerMiddleware(api, guard=guard, exclude=("/token", "/metrics"))
"""


def test_the_workers_of_gunicorn_are_counted_together(tmp_path: Path) -> None:
    (tmp_path / "counted.py").write_text(APP)
    (tmp_path / "metrics").mkdir()
    port = free_port()
    command = [sys.executable, "-m", "gunicorn", "--workers", "2", "--preload"]
    command += ["--bind", f"127.0.0.1:{port}", "counted:app"]
    environ = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    with program(command, cwd=tmp_path, environ=environ) as running:
        running.wait_for_port(port)
        url = f"http://127.0.0.1:{port}"
        token = httpx2.get(f"{url}/token").text
        for _ in range(40):  # each on a connection of its own, so that both workers get some
            headers = {"Authorization": f"Bearer {token}"}
            assert httpx2.get(url, headers=headers).status_code == 200
        text = httpx2.get(f"{url}/metrics").text
    samples = [
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "bearerguard_decisions_total"
    ]
    assert sum(each.value for each in samples) == 40
    assert "bearerguard_ready" not in text
