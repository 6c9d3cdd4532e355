"""An API behind a real server, with a guard in this process whose clock a test moves."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any, Self
from wsgiref.simple_server import WSGIRequestHandler, make_server

import httpx2

from bearerguard import Guard, HttpTransport, Issuer, asgi, wsgi
from tests.uvicorn_thread import running as running_asgi

KINDS = ("asgi", "wsgi")
# To load the authorities of the system takes longer than most of these tests.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Clock:
    """The system's clock, and how far a test has moved it."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


async def _asgi_app(scope: Any, _receive: Any, send: Any) -> None:
    headers = [(b"content-length", b"0")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def _wsgi_app(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "0")])
    return []


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def _running_wsgi(app: Any) -> Generator[str]:
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(10)


class Api:
    """An API behind a real server, with a guard of its own and a clock that a test moves."""

    def __init__(self, kind: str, issuer: Issuer, transport: HttpTransport, **options: Any) -> None:
        self.clock = Clock()
        self.guard = Guard(issuer, transport=transport, **{"clock": self.clock, **options})
        self._client = httpx2.Client(timeout=30, verify=NO_TLS)
        self._stack = ExitStack()
        self._stack.enter_context(self.guard)
        self._stack.enter_context(self._client)
        middleware: Any = asgi.BearerMiddleware if kind == "asgi" else wsgi.BearerMiddleware
        app = middleware(_asgi_app if kind == "asgi" else _wsgi_app, guard=self.guard)
        running = running_asgi if kind == "asgi" else _running_wsgi
        self.url = self._stack.enter_context(running(app))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def status(self, token: str) -> tuple[int, float]:
        """Return the status, and how many seconds the response took."""
        began = time.perf_counter()
        response = self._client.get(self.url, headers={"Authorization": f"Bearer {token}"})
        taken = time.perf_counter() - began
        if response.status_code == 503:
            assert int(response.headers["retry-after"]) >= 1
            assert "www-authenticate" not in response.headers
        return response.status_code, taken
