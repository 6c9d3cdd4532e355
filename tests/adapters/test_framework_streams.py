"""STREAM-01 through each framework: its own streaming response ends, and its generator notices."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import fastapi
import flask
import httpx
import litestar
import pytest
import quart
from litestar.response import ServerSentEvent
from sse_starlette import EventSourceResponse
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route

from bearerguard import Guard, Revocations
from bearerguard.fastapi import BearerMiddleware as FastAPIMiddleware
from bearerguard.flask import BearerGuard as FlaskGuard
from bearerguard.litestar import BearerPlugin
from bearerguard.quart import BearerGuard as QuartGuard
from bearerguard.starlette import BearerMiddleware
from bearerguard.testing import LocalIssuer
from tests.uvicorn_thread import running

_SECONDS = 10
EVENTS = "text/event-stream"


async def endless(noticed: threading.Event) -> AsyncIterator[str]:
    """Yield one event, and then wait as an app does that has nothing to send."""
    try:
        yield "data: x\n\n"
        await asyncio.sleep(3600)
    finally:
        noticed.set()


def starlette_app(guard: Guard, noticed: threading.Event) -> Any:
    async def events(_request: Any) -> Any:
        return StreamingResponse(endless(noticed), media_type=EVENTS)

    return BearerMiddleware(Starlette(routes=[Route("/events", events)]), guard=guard)


def sse_starlette_app(guard: Guard, noticed: threading.Event) -> Any:
    """As the MCP SDK sends its streams."""

    async def events(_request: Any) -> Any:
        return EventSourceResponse(endless(noticed))

    return BearerMiddleware(Starlette(routes=[Route("/events", events)]), guard=guard)


def fastapi_app(guard: Guard, noticed: threading.Event) -> Any:
    app = fastapi.FastAPI()
    app.add_middleware(FastAPIMiddleware, guard=guard)

    @app.get("/events")
    async def events() -> Any:
        return StreamingResponse(endless(noticed), media_type=EVENTS)

    return app


def litestar_app(guard: Guard, noticed: threading.Event) -> Any:
    @litestar.get("/events")
    async def events() -> ServerSentEvent:
        return ServerSentEvent(endless(noticed))

    return litestar.Litestar([events], plugins=[BearerPlugin(guard)])


def quart_app(guard: Guard, noticed: threading.Event) -> Any:
    app = quart.Quart("streams")
    QuartGuard(app, guard=guard)

    @app.get("/events")
    async def events() -> Any:
        response = await quart.make_response(endless(noticed), {"Content-Type": EVENTS})
        response.timeout = None  # type: ignore[union-attr] # Quart's own limit
        return response

    return app


@pytest.mark.parametrize(
    "make", [starlette_app, sse_starlette_app, fastapi_app, litestar_app, quart_app]
)
def test_STREAM_01_server_sent_events_of_a_framework_end_when_the_token_is_revoked(
    make: Callable[[Guard, threading.Event], Any],
) -> None:
    issuer, noticed = LocalIssuer(), threading.Event()
    guard, token = issuer.guard(revocations=Revocations()), issuer.token()
    header = {"Authorization": f"Bearer {token}"}
    with (
        running(make(guard, noticed)) as url,
        httpx.Client(timeout=_SECONDS, trust_env=False) as client,
        client.stream("GET", f"{url}/events", headers=header) as response,
    ):
        received = response.iter_raw()
        assert next(received)
        assert not noticed.is_set()
        guard.revoke(token)
        assert b"".join(received) in {b"", b"\r\n"}
        assert noticed.wait(_SECONDS)


def test_STREAM_01_a_streaming_response_of_flask_ends_when_the_token_is_revoked() -> None:
    issuer = LocalIssuer()
    guard, token = issuer.guard(revocations=Revocations()), issuer.token()
    app = flask.Flask("streams")
    FlaskGuard(app, guard=guard)
    closed = threading.Event()

    @app.get("/events")
    def events() -> Any:
        def endless() -> Iterator[str]:
            try:
                while True:
                    yield "data: x\n\n"
            finally:
                closed.set()

        return flask.Response(endless(), mimetype=EVENTS)

    response = app.test_client().get("/events", headers={"Authorization": f"Bearer {token}"})
    received = response.iter_encoded()
    assert [next(received) for _ in range(3)] == [b"data: x\n\n"] * 3
    guard.revoke(token)
    assert list(received) == []
    response.close()
    assert closed.is_set()
