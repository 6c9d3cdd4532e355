"""`bearerguard serve` in several processes: replaced when they die, ended when it is told to."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest

from bearerguard.server.administration import Administration
from tests.postgresql_server import PostgreSQLServer
from tests.processes import START_SECONDS, Program, free_port, program
from tests.server.harness import SECRET

_COMMAND = (str(Path(sys.executable).with_name("bearerguard")), "serve", "--algorithm", "ES256")


@contextmanager
def _served(
    folder: Path, *arguments: str, store: str = "sqlite:///auth.db", secret: str = SECRET
) -> Generator[tuple[str, Program]]:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    variables = {
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": store,
        "BEARERGUARD_SERVER_SECRET": secret,
    }
    command = [*_COMMAND, "--port", str(port), *arguments]
    with program(command, cwd=folder, environ=variables) as running:
        running.wait_for_port(port)
        assert _get(url, "/oauth/jwks") == 200
        yield url, running


def _get(url: str, path: str) -> int:
    return httpx2.get(url + path, timeout=30).status_code


def _children(parent: int) -> set[int]:
    text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
    return {int(pid) for pid in text.split()}


def _wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_running(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


def test_one_worker_is_the_process_itself(tmp_path: Path) -> None:
    with _served(tmp_path) as (_, running):
        assert _children(running.pid) == set()


def test_the_secret_the_store_and_the_first_key_are_made_once(tmp_path: Path) -> None:
    with _served(tmp_path, "--workers", "3", secret="") as (_, running):
        _wait(lambda: running.output.count("Application startup complete") == 3)
        assert len(_children(running.pid)) == 3
        for each in (
            "an empty one was created",
            "BEARERGUARD_SERVER_SECRET is not set",
            "key_made",
        ):
            assert running.output.count(each) == 1, each


@pytest.mark.parametrize("engine", ["sqlite", "postgresql"])
def test_a_worker_that_dies_is_replaced_and_the_others_serve_meanwhile(
    tmp_path: Path, engine: str, request: pytest.FixtureRequest
) -> None:
    store = f"sqlite:///{tmp_path}/auth.db"
    if engine == "postgresql":
        server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
        store = server.url(server.create_database())
    with _served(tmp_path, "--workers", "2", store=store) as (url, running):
        with Administration(store, secret=SECRET) as administration:
            client = administration.clients.add(
                "Job", grant_types=["client_credentials"], scopes=["read"]
            )
        form = {"grant_type": "client_credentials", "client_id": client.client_id}
        form["client_secret"] = str(client.client_secret)

        def issue() -> None:
            response = httpx2.post(f"{url}/oauth/token", data=form, timeout=30)
            assert response.status_code == 200, response.text

        before = _children(running.pid)
        killed = min(before)
        issue()
        os.kill(killed, signal.SIGKILL)
        running.wait_for_line(rf"WARNING bearerguard.server (worker {killed} ended with code -9)")
        issue()
        _wait(lambda: len(_children(running.pid)) == 2)
        assert len(_children(running.pid) - before) == 1
        for _ in range(20):
            issue()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_all_processes(tmp_path: Path, workers: str, number: signal.Signals) -> None:
    with _served(tmp_path, "--workers", workers) as (_, running):
        _wait(lambda: running.output.count("Application startup complete") == int(workers))
        every = {running.pid, *_children(running.pid)}
        os.kill(running.pid, number)
        assert running.wait_for_end(START_SECONDS) in (0, -number)
        assert not any(map(_is_running, every))
        assert running.output.count("Finished server process") == int(workers)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    with _served(tmp_path, "--workers", "2") as (_, running):
        _wait(lambda: running.output.count("Application startup complete") == 2)
        workers = _children(running.pid)
        os.kill(running.pid, signal.SIGKILL)
        running.wait_for_end(START_SECONDS)
        _wait(lambda: not any(map(_is_running, workers)))
        assert running.output.count("Finished server process") == 2


def test_a_port_in_use_is_reported_once_before_any_worker(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [*_COMMAND, "--port", port, "--workers", "3", "--issuer", "http://127.0.0.1:1"],
            cwd=tmp_path,
            env={
                **os.environ,
                "BEARERGUARD_SERVER_STORE": "sqlite:///auth.db",
                "BEARERGUARD_SERVER_SECRET": SECRET,
            },
            capture_output=True,
            text=True,
            timeout=START_SECONDS,
            check=False,
        )
    assert done.returncode == 2
    assert done.stderr.count("--host, --port: cannot listen on") == 1
    assert "server process" not in done.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_readiness_is_503_and_requests_are_served_during_the_shutdown_delay(
    tmp_path: Path, workers: str
) -> None:
    delay = ("--shutdown-delay", "3", "--workers", workers)
    with _served(tmp_path, *delay) as (url, running):
        assert [_get(url, path) for path in ("/ready", "/health")] == [200, 200]
        os.kill(running.pid, signal.SIGTERM)
        # Until each worker has noticed: a request may reach any.
        _wait(lambda: all(_get(url, "/ready") == 503 for _ in range(10)))
        with httpx2.Client(base_url=url, timeout=30) as client:
            response = client.get("/oauth/jwks")
        assert response.status_code == 200
        assert response.headers["connection"] == "close"
        assert _get(url, "/health/live") == 200
        assert running.wait_for_end(START_SECONDS) in (0, -signal.SIGTERM)


def test_a_signal_ends_a_server_whose_workers_die_as_soon_as_they_start(tmp_path: Path) -> None:
    code = """
import logging, os
from bearerguard.cli.server.workers import Workers
logging.basicConfig(level=logging.INFO)
Workers(2, lambda sockets, parent: os._exit(3), []).run()
print("ended")
"""
    with program([sys.executable, "-c", code], cwd=tmp_path) as running:
        running.wait_for_line(r"(worker \d+ ended with code 3 and is replaced)")
        os.kill(running.pid, signal.SIGTERM)
        assert running.wait_for_end(START_SECONDS) == 0
        assert running.output.endswith("ended\n")
