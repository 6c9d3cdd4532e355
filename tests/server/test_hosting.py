"""The hosts: the server serves its own paths and passes everything else to the app."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx2
import pytest
import trio
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client

from tests.server.harness import FORM, ISSUER, Harness, Make
from tests.server.serving import GUNICORN, UVICORN, served

HYPERCORN = ("hypercorn", "tests.server.served:app", "-k", "trio", "-b", "127.0.0.1:{port}")


@pytest.mark.parametrize(
    "command", [UVICORN, GUNICORN, HYPERCORN], ids=["uvicorn", "gunicorn", "hypercorn-trio"]
)
def test_a_real_server_serves_every_grant_and_passes_the_rest_on(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with served(tmp_path, command) as running:
        client = running.add()
        own = running.token(client, grant_type="client_credentials", scope="read write")
        assert own.status_code == 200
        tokens = running.redeem(client, running.code(client)).json()
        refreshed = running.token(
            client, grant_type="refresh_token", refresh_token=tokens["refresh_token"]
        )
        assert refreshed.status_code == 200
        assert refreshed.headers["cache-control"] == "no-store"
        api = httpx2.get(f"{running.url}/api/v1/recordings")
        assert api.json() == {"api": "/api/v1/recordings"}
        head = httpx2.head(f"{running.url}/oauth/jwks")
        assert (head.status_code, head.content) == (200, b"")
        large = httpx2.post(f"{running.url}/oauth/token", content=b"x" * 70_000)
        assert large.status_code == 413
        options = httpx2.options(f"{running.url}/oauth/jwks", headers={"Origin": "https://a.b"})
        assert options.status_code == 204
        if command is not GUNICORN:
            assert "api: started" in running.program.output


def test_a_websocket_is_the_apps(tmp_path: Path) -> None:
    with served(tmp_path) as running, connect(running.url.replace("http", "ws")) as socket:
        assert socket.recv() == "from the api"


@pytest.mark.parametrize(
    ("issuer", "root", "path", "mine"),
    [
        (ISSUER, "", "/oauth/token", True),
        (ISSUER, "", "/oauth/tokens", False),
        (ISSUER, "", "/oauth/token/", False),
        (ISSUER, "", "/v1/oauth/token", False),
        (ISSUER, "/v1", "/v1/oauth/token", True),
        (ISSUER, "/v1", "/oauth/token", True),
        (ISSUER, "/v1", "/v11/oauth/token", False),
        (ISSUER + "/v1", "", "/v1/oauth/token", True),
        (ISSUER + "/v1", "", "/oauth/token", False),
        (ISSUER + "/v1", "", "/.well-known/oauth-authorization-server/v1", True),
        (ISSUER + "/v1", "", "/.well-known/oauth-authorization-server", False),
        (ISSUER + "/v1", "/v1", "/v1/oauth/token", True),
        (ISSUER + "/v1", "/v1/", "/v1/.well-known/openid-configuration", True),
    ],
)
def test_a_mount_path_is_respected(
    make: Make, issuer: str, root: str, path: str, mine: bool
) -> None:
    harness = make(issuer=issuer)
    assert (harness.server._engine.served_path(root, path) is not None) is mine


def test_mounted_in_starlette_and_in_werkzeug_it_serves_below_its_mount(make: Make) -> None:
    harness = make(issuer=ISSUER + "/auth")
    body = {**harness.credentials(), "grant_type": "client_credentials"}
    asgi = TestClient(Starlette(routes=[Mount("/auth", harness.server.asgi_app())]), ISSUER)
    assert asgi.post("/auth/oauth/token", data=body).status_code == 200
    assert asgi.get("/auth/elsewhere").status_code == 404
    nothing = harness.server.wsgi_app()
    wsgi = Client(DispatcherMiddleware(nothing, {"/auth": harness.server.wsgi_app()}))
    assert wsgi.post("/auth/oauth/token", data=body).status_code == 200
    assert wsgi.get("/.well-known/oauth-authorization-server/auth").status_code == 200
    assert wsgi.get("/elsewhere").status_code == 404


def test_alone_it_completes_lifespan_and_closes_websockets(harness: Harness) -> None:
    with TestClient(harness.server.asgi_app()) as client:
        assert client.get("/").status_code == 404
        refused = pytest.raises((WebSocketDisconnect, WebSocketDenialResponse))
        with refused, client.websocket_connect("/"):
            pass


async def _call(app: Any, messages: list[dict[str, Any]], **scope: Any) -> list[Any]:
    sent: list[Any] = []
    waiting = list(messages)

    async def receive() -> Any:
        return waiting.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    usual = {"type": "http", "method": "POST", "path": "/oauth/token", "headers": []}
    await app(usual | scope, receive, send)
    return sent


@pytest.mark.parametrize("run", [asyncio.run, lambda main: trio.run(lambda: main)])
def test_a_body_in_parts_is_put_together(harness: Harness, run: Callable[[Any], Any]) -> None:
    body = urlencode({**harness.credentials(), "grant_type": "client_credentials"}).encode()
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[:10], "more_body": True},
        {"type": "http.request", "body": body[10:]},
    ]
    app = harness.server.asgi_app()

    async def twice() -> list[Any]:
        headers = [(b"content-type", FORM.encode())]
        return [await _call(app, parts, headers=headers) for _ in range(2)]

    assert [sent[0]["status"] for sent in run(twice())] == [200, 200]


def test_a_client_that_disconnects_gets_no_response(harness: Harness) -> None:
    gone: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"a", "more_body": True},
        {"type": "http.disconnect"},
    ]
    assert asyncio.run(_call(harness.server.asgi_app(), gone)) == []


@pytest.mark.parametrize(
    ("version", "closes"), [("1.0", True), ("1.1", True), ("2", False), ("3", False)]
)
def test_responses_close_their_connections_when_the_server_has_begun_to_stop(
    harness: Harness, version: str, closes: bool
) -> None:
    async def api(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})
        await send({"type": "http.response.body", "body": b"of the api"})

    app = harness.server.asgi_app(api)
    request = [{"type": "http.request", "body": b""}]

    def headers(path: str) -> list[tuple[bytes, bytes]]:
        got = asyncio.run(_call(app, request, method="GET", path=path, http_version=version))
        assert [each["type"] for each in got] == ["http.response.start", "http.response.body"]
        assert got[0]["status"] == 200
        found: list[tuple[bytes, bytes]] = got[0]["headers"]
        return found

    close = (b"connection", b"close")
    before = [headers(path) for path in ("/oauth/jwks", "/api")]
    assert not any(close in each for each in before)
    harness.server.begin_stop()
    after = [headers(path) for path in ("/oauth/jwks", "/api")]
    assert [[*each, close] if closes else each for each in before] == after


@pytest.mark.parametrize(
    ("extra", "padding", "status"),
    [
        ({"CONTENT_LENGTH": "99999999"}, 0, 413),
        ({"CONTENT_LENGTH": "9" * 5000}, 0, 413),
        ({"CONTENT_LENGTH": "nonsense"}, 0, 401),
        ({"CONTENT_LENGTH": ""}, 0, 401),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, 70_000, 413),
        ({"CONTENT_LENGTH": "", "wsgi.input_terminated": True}, 0, 200),
    ],
)
def test_a_wsgi_body_is_bounded_and_without_a_length_read_only_to_a_known_end(
    harness: Harness, extra: dict[str, Any], padding: int, status: int
) -> None:
    fields = {**harness.credentials(), "grant_type": "client_credentials"}
    statuses: list[str] = []

    def start(status: str, *_: Any) -> Any:
        statuses.append(status)

    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/oauth/token",
        "CONTENT_TYPE": FORM,
        "wsgi.input": io.BytesIO(urlencode(fields).encode() + b"&" * padding),
        **extra,
    }
    list(harness.server.wsgi_app()(environ, start))
    assert statuses[0].startswith(str(status))
