"""A reverse proxy that gives an API and an authorization server one origin; served by uvicorn."""

from __future__ import annotations

import os

import httpx2
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_OF_API = ("/api/", "/docs", "/openapi.json", "/assets/")
# What concerns a connection alone (RFC 9110 §7.6.1), and what the body is sent in anew.
_DROPPED = {b"connection", b"keep-alive", b"transfer-encoding", b"content-length"}
client = httpx2.AsyncClient()


async def forward(request: Request) -> Response:
    path = request.url.path
    target = os.environ["API_SERVER" if path.startswith(_OF_API) else "ISSUER_SERVER"]
    query = f"?{request.url.query}" if request.url.query else ""
    kept = [each for each in request.headers.raw if each[0] not in {*_DROPPED, b"accept-encoding"}]
    received = await client.request(
        request.method,
        f"{target}{path}{query}",
        headers=kept,
        content=await request.body(),
        follow_redirects=False,
    )
    response = Response(received.content, received.status_code)
    response.raw_headers = [
        (name.lower(), value)
        for name, value in received.headers.raw
        if name.lower() not in _DROPPED
    ] + [(b"content-length", str(len(received.content)).encode())]
    return response


app = Starlette(
    routes=[Route("/{path:path}", forward, methods=["GET", "POST", "OPTIONS", "PUT", "DELETE"])]
)
