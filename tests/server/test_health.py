"""The health of a server: what probes get, and what a stranger learns."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearerguard import ConfigurationError, Request
from bearerguard.server import AuthorizationServer
from tests.conformance.harness import Clock

URL = "https://id.example.com/auth"
SECRET = "s" * 32


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(tmp_path: Path, clock: Clock) -> Iterator[AuthorizationServer]:
    server = made(tmp_path, clock=clock, health_path="/health")
    yield server
    server.close()


def made(folder: Path, **options: Any) -> AuthorizationServer:
    store = f"sqlite:///{folder}/auth.db"
    return AuthorizationServer(URL, store=store, **{"secret": SECRET, **options})


def remove_keys(folder: Path) -> None:
    with sqlite3.connect(folder / "auth.db") as connection:
        connection.execute("DELETE FROM signing_keys")
    connection.close()


def test_a_server_that_can_issue_tokens_is_ready(server: AuthorizationServer) -> None:
    response = server.handle(Request("GET", "/health"))
    assert response.status == 200
    assert response.body == (b'{"ready": true, "database": "reachable", "signing_key": "present"}')
    assert response.header("cache-control") == "no-store"
    head = server.handle(Request("HEAD", "/health"))
    assert (head.status, head.body) == (200, b"")


def test_a_server_without_its_database_is_not_ready_and_is_alive(
    server: AuthorizationServer, tmp_path: Path, clock: Clock
) -> None:
    (tmp_path / "auth.db").rename(tmp_path / "elsewhere.db")
    response = server.handle(Request("GET", "/health"))
    assert response.status == 503
    assert response.header("retry-after") == "2"
    assert server.health() == {
        "ready": False,
        "database": "unreachable",
        "signing_key": "unknown",
    }
    assert str(tmp_path).encode() not in response.body
    live = server.handle(Request("GET", "/health/live"))
    assert (live.status, live.body) == (200, b'{"live": true}')
    (tmp_path / "elsewhere.db").rename(tmp_path / "auth.db")
    clock.now += 2
    assert server.health()["ready"]


def test_a_server_without_a_signing_key_is_not_ready(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    remove_keys(tmp_path)
    assert server.health() == {"ready": False, "database": "reachable", "signing_key": "missing"}


def test_a_server_whose_key_has_another_secret_is_not_ready(
    server: AuthorizationServer, tmp_path: Path
) -> None:
    remove_keys(tmp_path)
    made(tmp_path, secret="t" * 32).close()
    assert server.health()["signing_key"] == "unusable"


def test_the_database_is_asked_once_a_second_at_most(
    server: AuthorizationServer, tmp_path: Path, clock: Clock
) -> None:
    assert server.health()["ready"]
    remove_keys(tmp_path)
    assert server.health()["ready"]
    clock.now += 1
    assert not server.health()["ready"]


def test_concurrent_probes_of_a_slow_database_share_one_read(
    server: AuthorizationServer, clock: Clock
) -> None:
    began, proceed, reads = threading.Event(), threading.Event(), list[int]()
    health = server._engine.health
    can_sign = health._keys.can_sign

    def slow() -> bool:
        reads.append(1)
        began.set()
        assert proceed.wait(5)
        clock.now += 30
        return can_sign()

    health._keys.can_sign = slow  # type: ignore[method-assign]
    states = list[dict[str, Any]]()
    probes = [threading.Thread(target=lambda: states.append(server.health())) for _ in range(4)]
    for each in probes:
        each.start()
    assert began.wait(5)
    proceed.set()
    for each in probes:
        each.join(5)
    assert [each["ready"] for each in states] == [True] * 4
    assert len(reads) == 1
    assert server.health()["ready"]
    assert len(reads) == 1


def test_another_method_is_refused(server: AuthorizationServer) -> None:
    for path in ("/health", "/health/live"):
        response = server.handle(Request("POST", path))
        assert response.status == 405
        assert response.header("allow") == "GET, HEAD"


def test_by_default_no_path_is_taken_from_the_api(tmp_path: Path) -> None:
    server = made(tmp_path)
    assert "/health" not in server.paths
    assert server.health()["ready"]
    server.close()


@pytest.mark.parametrize(
    "path", ["health", "/", "", "/health/", "/he*", "/health?x", "/a b", 7, "/auth/oauth/token"]
)
def test_a_path_that_cannot_be_served_is_refused(tmp_path: Path, path: Any) -> None:
    with pytest.raises(ConfigurationError, match="health_path=: "):
        made(tmp_path, health_path=path)


def test_liveness_waits_for_no_thread(server: AuthorizationServer) -> None:
    thread: list[int] = []
    handle = server._engine.handle

    def noting(request: Request) -> Any:
        thread.append(threading.get_ident())
        return handle(request)

    server._engine.handle = noting  # type: ignore[method-assign]
    app, sent = server.asgi_app(), list[Any]()

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    async def send(message: Any) -> None:
        sent.append(message)

    scope: Any = {"type": "http", "method": "GET", "path": "/health/live", "headers": []}
    anyio.run(app, scope, receive, send)
    assert sent[0]["status"] == 200
    assert thread == [threading.get_ident()]


def test_readiness_has_a_second_path(tmp_path: Path) -> None:
    with made(tmp_path, health_path="/health", ready_path="/ready") as server:
        assert server.handle(Request("GET", "/ready")).body == (
            server.handle(Request("GET", "/health")).body
        )
        assert {"/ready", "/health", "/health/live"} <= server.paths
        assert "/ready/live" not in server.paths


def test_readiness_may_be_served_without_the_health_path(tmp_path: Path) -> None:
    with made(tmp_path, ready_path="/ready") as server:
        assert server.handle(Request("GET", "/ready")).status == 200
        assert "/health" not in server.paths


@pytest.mark.parametrize("path", ["ready", "/", "/ready/", "/re ady", "/auth/oauth/token"])
def test_a_ready_path_that_cannot_be_served_is_refused(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^ready_path="):
        made(tmp_path, ready_path=path)


def test_a_server_that_stops_is_alive_and_not_ready(server: AuthorizationServer) -> None:
    server.begin_stop()
    response = server.handle(Request("GET", "/health"))
    assert response.status == 503
    assert server.health() == {
        "ready": False,
        "database": "reachable",
        "signing_key": "present",
        "stopping": True,
    }
    assert server.handle(Request("GET", "/health/live")).status == 200
    assert server.handle(Request("GET", "/auth/oauth/jwks")).status == 200
