"""Calling an ASGI app as a server does, without the server: a fresh scope for each request."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from itertools import repeat
from typing import Any, Self, TypeVar

from benchmarks.floor import OTHER_HEADERS, SCHEME
from benchmarks.peers import PeerError
from benchmarks.peers.asgi import PATH, ASGIApp
from benchmarks.rounds import Case, clock
from benchmarks.token_issuer import altered

T = TypeVar("T")

_TEMPLATE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "server": ("127.0.0.1", 8000),
    "client": ("127.0.0.1", 50_000),
    "scheme": "http",
    "method": "GET",
    "root_path": "",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
}


def scope(token: bytes) -> dict[str, Any]:
    """Return what a server makes of a request: all of it new, the token too."""
    authorization = (b"authorization", SCHEME + token)
    return {**_TEMPLATE, "headers": [*OTHER_HEADERS, authorization], "state": {}}


async def receive() -> dict[str, Any]:
    """Return the empty body of the request."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(_message: Any) -> None:
    """Discard a message of the response."""


class Caller:
    """Calls apps on an event loop of its own; close it at the end."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._runner.close()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._runner.run(coroutine)

    def case(self, app: ASGIApp, token: str) -> Case:
        """Return requests with this token, one after the other in one task, as a case."""
        octets = token.encode()

        async def requests(count: int) -> float:
            begin = clock()
            for _ in repeat(None, count):
                await app(scope(octets), receive, send)
            return clock() - begin

        return Case(lambda count: self.run(requests(count)))

    def respond(self, app: ASGIApp, token: str) -> dict[bytes, bytes]:
        """Return the headers of one response, and its status as `:status`."""
        response: dict[bytes, bytes] = {}

        async def note(message: Any) -> None:
            if message["type"] == "http.response.start":
                response.update((name.lower(), value) for name, value in message["headers"])
                response[b":status"] = str(message["status"]).encode()

        async def call() -> None:
            await app(scope(token.encode()), receive, note)

        self.run(call())
        return response

    def check(self, name: str, app: ASGIApp, token: str) -> dict[bytes, bytes]:
        """Raise unless the token passes and an altered one does not; return the good response."""
        bad = self.respond(app, altered(token))
        good = self.respond(app, token)
        if good[b":status"] != b"200" or bad[b":status"][:1] != b"4":
            raise PeerError(f"{name} responds {good[b':status']!r} and {bad[b':status']!r}")
        return good
