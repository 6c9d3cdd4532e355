"""`acting_as` with the test clients of the frameworks. Those of Django are in a project of its own,
in tests/peers/test_pytest_plugin.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx
import httpx2
import pytest
import requests
from fastapi import FastAPI
from flask import Flask
from litestar import Litestar, Request, get
from litestar.testing import AsyncTestClient
from litestar.testing import TestClient as LitestarClient
from quart import Quart, websocket
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket
from werkzeug.datastructures import Headers

from bearerguard import ConfigurationError, Guard
from bearerguard.testing import LocalIssuer, acting_as

ISSUER = LocalIssuer(algorithm="ES256")
GUARD = ISSUER.guard()


def described(authorization: str | None) -> str:
    """What an endpoint of each app responds: the scopes and the subject of the token it got."""
    if authorization is None:
        return "nobody"
    found = GUARD.verify(authorization.removeprefix("Bearer "))
    return f"{found.subject}: {' '.join(sorted(found.scopes))}"


async def endpoint(request: Any) -> PlainTextResponse:
    return PlainTextResponse(described(request.headers.get("authorization")))


def of_starlette() -> Any:
    return TestClient(Starlette(routes=[Route("/", endpoint)]))


def of_fastapi() -> Any:
    app = FastAPI()
    app.add_route("/", endpoint)
    return TestClient(app)


def of_flask() -> Any:
    from flask import request

    app = Flask("app")
    app.add_url_rule("/", view_func=lambda: described(request.headers.get("Authorization")))
    return app.test_client()


def of_litestar() -> Any:
    @get("/", media_type="text/plain", sync_to_thread=False)
    def show(request: Request[Any, Any, Any]) -> str:
        return described(request.headers.get("authorization"))

    return LitestarClient(Litestar([show], logging_config=None))


def of_httpx() -> Any:
    return httpx.Client(
        base_url="http://api.test",
        transport=httpx.MockTransport(
            lambda request: httpx.Response(
                200, text=described(request.headers.get("authorization"))
            )
        ),
    )


def of_httpx2() -> Any:
    return httpx2.Client(
        base_url="http://api.test",
        transport=httpx2.MockTransport(
            lambda request: httpx2.Response(
                200, text=described(request.headers.get("authorization"))
            )
        ),
    )


CLIENTS: dict[str, Callable[[], Any]] = {
    "Starlette": of_starlette,
    "FastAPI": of_fastapi,
    "Flask": of_flask,
    "Litestar": of_litestar,
    "httpx": of_httpx,
    "httpx2": of_httpx2,
}


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_a_test_client_sends_a_genuine_token_inside_the_block(make: Callable[[], Any]) -> None:
    client = make()
    with acting_as(client, issuer=ISSUER, scopes=["read"], subject="ada") as acting:
        assert acting is client
        assert client.get("/").text == "ada: read"
        with acting_as(client, issuer=ISSUER, scopes=["write"], subject="bob"):
            assert client.get("/").text == "bob: write"
        assert client.get("/").text == "ada: read"
    assert client.get("/").text == "nobody"


@pytest.mark.parametrize("make", CLIENTS.values(), ids=CLIENTS)
def test_without_a_block_the_client_sends_the_token_until_stop_is_called(
    make: Callable[[], Any],
) -> None:
    client = make()
    acting = acting_as(client, issuer=ISSUER, scopes=["read"])
    assert client.get("/").text == "user: read"
    acting.stop()
    assert client.get("/").text == "nobody"


def test_a_websocket_of_a_test_client_sends_it() -> None:
    async def listen(socket: WebSocket) -> None:
        await socket.accept()
        await socket.send_text(described(socket.headers.get("authorization")))
        await socket.close()

    client = TestClient(Starlette(routes=[WebSocketRoute("/ws", listen)]))
    with (
        acting_as(client, issuer=ISSUER, subject="ada"),
        client.websocket_connect("/ws") as connection,
    ):
        assert connection.receive_text() == "ada: "


def test_headers_that_the_client_had_are_sent_again_after_the_block() -> None:
    client = of_starlette()
    client.headers["Authorization"] = ISSUER.headers(subject="cleo")["Authorization"]
    with acting_as(client, issuer=ISSUER, subject="ada"):
        assert client.get("/").text == "ada: "
    assert client.get("/").text == "cleo: "


def test_a_session_of_requests_sends_it() -> None:
    session = requests.Session()
    with acting_as(session, issuer=ISSUER, subject="ada"):
        sent = session.prepare_request(requests.Request("GET", "http://api.test/"))
        assert described(str(sent.headers["Authorization"])) == "ada: "
    sent = session.prepare_request(requests.Request("GET", "http://api.test/"))
    assert "Authorization" not in sent.headers


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_async_clients_send_it(backend: str) -> None:
    app = Starlette(routes=[Route("/", endpoint)])

    @get("/", media_type="text/plain", sync_to_thread=False)
    def show(request: Request[Any, Any, Any]) -> str:
        return described(request.headers.get("authorization"))

    async def use() -> None:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as client:
            with acting_as(client, issuer=ISSUER, subject="ada"):
                assert (await client.get("/")).text == "ada: "
        if backend == "asyncio":  # Litestar's client is told of trio by an argument of its own
            async with AsyncTestClient(Litestar([show], logging_config=None)) as litestar:
                with acting_as(litestar, issuer=ISSUER, subject="ada"):
                    assert (await litestar.get("/")).text == "ada: "
                assert (await litestar.get("/")).text == "nobody"

    anyio.run(use, backend=backend)


def of_quart() -> Any:
    from quart import request

    app = Quart("app")

    @app.get("/")
    async def show() -> str:
        return described(request.headers.get("Authorization"))

    @app.websocket("/ws")
    async def listen() -> None:
        await websocket.send(described(websocket.headers.get("Authorization")))

    return app.test_client()


def test_a_client_of_quart_sends_it_with_requests_and_websockets() -> None:
    async def use() -> None:
        client = of_quart()
        assert isinstance(client.open, type(client.get))
        with acting_as(client, issuer=ISSUER, scopes=["read"], subject="ada"):
            assert await (await client.get("/")).get_data(as_text=True) == "ada: read"
            other = ISSUER.headers(subject="bob")
            for headers in (other, Headers(other)):
                response = await client.get("/", headers=headers)
                assert await response.get_data(as_text=True) == "bob: "
            assert other == dict(other)
            with acting_as(client, issuer=ISSUER, subject="cleo"):
                assert await (await client.get("/")).get_data(as_text=True) == "cleo: "
            async with client.websocket("/ws") as connection:
                assert await connection.receive() == "ada: read"
        assert await (await client.get("/")).get_data(as_text=True) == "nobody"

    anyio.run(use)


def test_the_client_of_django_ninja_sends_it() -> None:
    class NinjaTestClient:  # what it has: `headers`, a plain dict
        def __init__(self) -> None:
            self.headers: dict[str, str] = {}

    client = NinjaTestClient()
    with acting_as(client, issuer=ISSUER, subject="ada"):
        assert described(client.headers["Authorization"]) == "ada: "
    assert client.headers == {}


def test_an_expired_token_and_further_claims_are_sent_on_demand() -> None:
    client = of_starlette()
    with acting_as(client, issuer=ISSUER, expires_in=-3600):
        sent = client.headers["Authorization"].removeprefix("Bearer ")
        with pytest.raises(Exception, match="expired"):
            GUARD.verify(sent)
    with acting_as(client, issuer=ISSUER, roles=["admin"], claims={"org": "acme"}, client_id="web"):
        found = GUARD.verify(client.headers["Authorization"].removeprefix("Bearer "))
        assert found.roles == {"admin"}
        assert (found.claims["org"], found.client_id) == ("acme", "web")


def test_what_is_no_client_is_refused_with_those_that_are() -> None:
    with pytest.raises(TypeError, match=r"pass a test client of Starlette.*LocalIssuer\.headers"):
        acting_as(object(), issuer=ISSUER)


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(TypeError, match="lifetime"):
        acting_as(of_starlette(), issuer=ISSUER, lifetime=3)  # type: ignore[call-arg]


def test_without_an_issuer_the_message_says_where_one_comes_from() -> None:
    with pytest.raises(ConfigurationError, match="request the fixture bearerguard_issuer"):
        acting_as(of_starlette())


def test_no_repr_shows_the_token() -> None:
    client = of_starlette()
    acting = acting_as(client, issuer=ISSUER)
    assert client.headers["Authorization"] not in repr(acting)


def test_the_guard_is_a_guard() -> None:
    assert isinstance(GUARD, Guard)
