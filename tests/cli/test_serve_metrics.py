"""`bearerguard serve --metrics-path`: figures for Prometheus, of one process and of several."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from bearerguard.cli import app
from tests.processes import free_port, program

PROGRAM = str(Path(sys.executable).with_name("bearerguard"))
SECRET = "a secret of this test's own that is long enough"


@contextmanager
def serving(folder: Path, options: Sequence[str], **environ: str) -> Generator[httpx2.Client]:
    """Run the server; yield a client of it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{folder}/auth.db",
        **environ,
    }
    command = [PROGRAM, "serve", "--port", str(port), *options]
    with (
        program(command, cwd=folder, environ=variables) as running,
        httpx2.Client(base_url=url, timeout=60) as client,
    ):
        running.wait_for_port(port)
        yield client


def refused(client: httpx2.Client) -> None:
    fields = {"grant_type": "client_credentials", "client_id": "a-strangers-name"}
    response = client.post("/oauth/token", data={**fields, "client_secret": "x"})
    assert response.status_code == 401


COUNTED = (
    'bearerguard_server_requests_total{endpoint="token",error="invalid_client",'
    'grant_type="client_credentials",outcome="refused"} 2.0'
)


def test_the_figures_are_served_where_the_option_says(tmp_path: Path) -> None:
    with serving(tmp_path, ["--metrics-path", "/metrics"]) as client:
        refused(client)
        refused(client)
        response = client.get("/metrics")
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/plain")
        assert COUNTED in response.text
        assert "a-strangers-name" not in response.text
        assert "process_resident_memory_bytes" in response.text
        assert client.get("/metrics/other").status_code == 404


def test_without_the_option_there_are_no_figures(tmp_path: Path) -> None:
    with serving(tmp_path, []) as client:
        assert client.get("/metrics").status_code == 404


def test_with_a_folder_for_several_processes_the_figures_come_from_it(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    folder.mkdir()
    environ = {
        "BEARERGUARD_SERVER_METRICS_PATH": "/figures",
        "PROMETHEUS_MULTIPROC_DIR": str(folder),
    }
    with serving(tmp_path, [], **environ) as client:
        refused(client)
        refused(client)
        assert COUNTED in client.get("/figures").text
    assert list(folder.glob("*.db"))


def test_the_figures_of_forked_workers_are_added_up_and_their_folder_is_removed() -> None:
    source = """
import os

from prometheus_client_parts import scrape

from bearerguard.cli.server.serve_metrics import Metrics
from bearerguard.server import RequestRecord

metrics = Metrics("/metrics", workers=2)
for _ in range(2):
    if os.fork() == 0:
        metrics.observer.responded(RequestRecord("token", "POST", None, 200, None, 0.1))
        os._exit(0)
for _ in range(2):
    os.wait()
print(os.environ["PROMETHEUS_MULTIPROC_DIR"])
print(scrape(metrics))
"""
    scrape = """
import asyncio


class Host:
    api = None


def scrape(metrics):
    host, sent = Host(), []
    metrics.serve(host, [])

    async def receive():
        return {"type": "http.request"}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": "/metrics", "headers": [], "query_string": b""}
    asyncio.run(host.api(scope, receive, send))
    return sent[1]["body"].decode()
"""
    source = scrape + source.replace("from prometheus_client_parts import scrape\n", "")
    environ = {name: value for name, value in os.environ.items() if "MULTIPROC" not in name}
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False, env=environ
    )
    assert done.returncode == 0, done.stderr
    folder, _, text = done.stdout.partition("\n")
    labels = 'endpoint="token",error="",grant_type="",outcome="ok"'
    assert f"bearerguard_server_requests_total{{{labels}}} 2.0" in text
    assert "bearerguard-metrics-" in folder
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("path", "environ", "message"),
    [
        ("metrics", {}, "--metrics-path: pass an exact path"),
        ("/", {}, "--metrics-path: pass an exact path"),
        ("/oauth/token", {}, "--metrics-path: /oauth/token is another endpoint"),
        ("/health", {}, "--metrics-path: /health is another endpoint"),
        ("/metrics", {"PROMETHEUS_MULTIPROC_DIR": "nowhere"}, "PROMETHEUS_MULTIPROC_DIR: name"),
    ],
)
def test_a_path_or_a_folder_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path,
    path: str,
    environ: dict[str, str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = {"BEARERGUARD_SERVER_SECRET": SECRET}
    arguments = ["serve", "--issuer", "http://127.0.0.1:1", "--store", "sqlite:///auth.db"]
    result = CliRunner().invoke(
        app, [*arguments, "--metrics-path", path], env={**secret, **environ}
    )
    assert result.exit_code != 0
    assert message in result.stderr


def test_the_workers_of_serve_are_counted_together(tmp_path: Path) -> None:
    with serving(tmp_path, ["--metrics-path", "/metrics", "--workers", "2"]) as client:
        for _ in range(20):  # each on a connection of its own, so that both workers get some
            with httpx2.Client(base_url=client.base_url, timeout=60) as another:
                refused(another)
        assert COUNTED.replace("} 2.0", "} 20.0") in client.get("/metrics").text
