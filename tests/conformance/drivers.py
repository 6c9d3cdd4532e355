"""The two drivers of every scenario: one small app behind the ASGI and the WSGI adapter.

A request is sent as raw octets through the protocol of the adapter, so that repeated fields and
illegal octets arrive as a server would hand them over.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes
from wsgiref.validate import validator

import anyio

from bearerguard import Guard, asgi, wsgi
from bearerguard.principal import Principal

Headers = list[tuple[str, bytes]]
AppHeaders = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Received:
    """A response as a client receives it; field names are in lower case."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name.lower()]

    def one(self, name: str) -> str:
        (value,) = self.values(name)
        return value


@dataclass(frozen=True)
class Protected:
    """An app behind an adapter: the guard, the options, and the headers of the app."""

    guard: Guard
    options: dict[str, Any]
    app_headers: AppHeaders


@dataclass(frozen=True)
class Sent:
    """A request as its client sends it."""

    headers: Headers
    method: str = "GET"
    target: str = "/things"
    body: bytes = b""
    peer: tuple[str, int] | None = None
    certificate: str = ""
    """In PEM: what the TLS client has presented, as the server reports it."""


Call = Callable[[Protected, Sent], Received]


def call_asgi(protected: Protected, request: Sent) -> Received:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        principal: Principal = scope["user"]
        raw = [(name.lower().encode(), value.encode()) for name, value in protected.app_headers]
        await send({"type": "http.response.start", "status": 200, "headers": raw})
        text = b"" if scope["method"] == "HEAD" else principal.identity.encode()
        await send({"type": "http.response.body", "body": text})

    guarded = asgi.BearerMiddleware(app, guard=protected.guard, **protected.options)
    return through_asgi(guarded, request)


def through_asgi(app: Any, request: Sent) -> Received:
    """Send a request to an ASGI app, as a server would."""
    sent: list[MutableMapping[str, Any]] = []
    body = [request.body]

    async def receive() -> dict[str, Any]:
        if not body:
            await anyio.sleep_forever()
        return {"type": "http.request", "body": body.pop(), "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    path, _, query = request.target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "http_version": "1.1",
        "scheme": "https",
        "method": request.method,
        "path": unquote_to_bytes(path).decode(),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode(), value) for name, value in request.headers],
        "client": request.peer,
        "extensions": {},
    }
    if request.certificate:
        scope["extensions"] = {"tls": {"client_cert_chain": [request.certificate]}}
    anyio.run(app, scope, receive, send)
    start, *chunks = sent
    fields = ((name.decode(), value.decode("latin-1")) for name, value in start["headers"])
    return Received(start["status"], tuple(fields), b"".join(each["body"] for each in chunks))


def call_wsgi(protected: Protected, request: Sent) -> Received:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        principal: Principal = environ["bearerguard.principal"]
        start_response("200 OK", [("Content-Type", "text/plain"), *protected.app_headers])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else principal.identity.encode()]

    guarded = wsgi.BearerMiddleware(app, guard=protected.guard, **protected.options)
    return through_wsgi(validator(guarded), request)


def through_wsgi(app: Any, request: Sent) -> Received:
    """Send a request to a WSGI app, as a server would."""
    started: list[Any] = []

    def start_response(status: str, fields: list[tuple[str, str]], *_: Any) -> Any:
        started[:] = [status, fields]
        return lambda _chunk: None

    path, _, query = request.target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "RAW_URI": request.target,
        "QUERY_STRING": query,
        "CONTENT_LENGTH": str(len(request.body)),
        "SERVER_NAME": "api.test",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if request.peer is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = request.peer[0], str(request.peer[1])
    if request.certificate:
        environ["SSL_CLIENT_CERT"] = request.certificate
    for name, value in request.headers:
        key = name.upper().replace("-", "_")
        key = key if key == "CONTENT_TYPE" else f"HTTP_{key}"
        text = value.decode("latin-1")
        # CGI has no repeated fields: servers join them (RFC 3875 §4.1.18).
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    result = app(environ, start_response)
    try:
        content = b"".join(result)
    finally:
        if hasattr(result, "close"):  # PEP 3333
            result.close()
    status, fields = started
    lowered = tuple((name.lower(), value) for name, value in fields)
    return Received(int(status[:3]), lowered, content)


DRIVERS: dict[str, Call] = {"asgi": call_asgi, "wsgi": call_wsgi}
