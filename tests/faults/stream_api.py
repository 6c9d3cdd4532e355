"""An API whose responses do not finish, for a real server: `tests.faults.stream_api:app`.

`/ws` echoes, `/events` sends an event every 0.2 s, `/quiet` sends one and then none, `/download`
has a content-length of 1 TB and `/export` has none; `/revoke/JTI` revokes. The environment has the
keys and the Redis.
"""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from bearerguard import Guard, Issuer, Revocations
from bearerguard.redis import RedisStore
from bearerguard.starlette import BearerMiddleware
from tests.faults.worker import AUDIENCE, ISSUER, SECRET

LENGTH = str(10**12)
_CHUNK = b"x" * 16384


async def ws(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as disconnect:
        print(f"app told: {disconnect.code}", flush=True)


async def _events(pause: float) -> AsyncIterator[bytes]:
    try:
        while True:
            yield b"data: x\n\n"
            await anyio.sleep(pause)
    finally:
        print("app told: events", flush=True)


async def _octets() -> AsyncIterator[bytes]:
    while True:
        yield _CHUNK
        await anyio.sleep(0.05)


async def events(_request: Request) -> Response:
    return StreamingResponse(_events(0.2), media_type="text/event-stream")


async def quiet(_request: Request) -> Response:
    return StreamingResponse(_events(3600), media_type="text/event-stream")


async def download(_request: Request) -> Response:
    return StreamingResponse(_octets(), headers={"content-length": LENGTH})


async def export(_request: Request) -> Response:
    return StreamingResponse(_octets())


async def revoke(request: Request) -> Response:
    await guard.arevoke(token_id=request.path_params["jti"])
    return PlainTextResponse("revoked")


guard = Guard(
    Issuer(ISSUER, audience=AUDIENCE, keys=json.loads(os.environ["KEYS"]), leeway=0),
    revocations=Revocations(RedisStore(os.environ["REDIS"], secret=SECRET)),
)
guard.warm()
app = BearerMiddleware(
    Starlette(
        routes=[
            WebSocketRoute("/ws", ws),
            Route("/events", events),
            Route("/quiet", quiet),
            Route("/download", download),
            Route("/export", export),
            Route("/revoke/{jti}", revoke),
        ]
    ),
    guard=guard,
    exclude=("/revoke/*",),
)
