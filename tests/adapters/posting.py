"""Requests to an app that receives notifications by POST, through both adapters."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any
from wsgiref.validate import validator

import anyio

from bearerguard.middleware.receiver_app import ReceiverApp

Reply = tuple[int, dict[str, str], bytes]
Post = Callable[..., Reply]


def post_asgi(
    app: ReceiverApp,
    body: bytes | str,
    *,
    kind: str | None,
    method: str = "POST",
    bearer: str | None = None,
) -> Reply:
    """Post a body in two parts; return status, header fields and body of the response."""
    octets = body.encode() if isinstance(body, str) else body
    chunks = [octets[:100], octets[100:]]
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if not chunks:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if kind is None else [(b"content-type", kind.encode())]
    if bearer is not None:
        headers.append((b"authorization", f"Bearer {bearer}".encode()))
    anyio.run(app.asgi, {"type": "http", "method": method, "headers": headers}, receive, send)
    start, content = sent
    lines = {name.decode(): value.decode() for name, value in start["headers"]}
    return start["status"], lines, content["body"]


def post_wsgi(
    app: ReceiverApp,
    body: bytes | str,
    *,
    kind: str | None,
    method: str = "POST",
    bearer: str | None = None,
) -> Reply:
    """Do as `post_asgi`, and have wsgiref check the app's side of WSGI."""
    octets = body.encode() if isinstance(body, str) else body
    started: list[Any] = []

    def typed(environ: Any, start_response: Any) -> Any:
        def start(status: str, lines: list[tuple[str, str]], *_: Any) -> Any:
            started[:] = [status, lines]
            # The checker demands a media type of an empty response too, except of 204.
            has_type = status.startswith("204") or "Content-Type" in dict(lines)
            return start_response(
                status, lines if has_type else [*lines, ("Content-Type", "text/plain")]
            )

        return app.wsgi(environ, start)

    result = validator(typed)(
        _environ(octets, kind, method, bearer), lambda *_: lambda _chunk: None
    )
    try:
        content = b"".join(result)
    finally:
        result.close()  # type: ignore[attr-defined]
    status, lines = started
    return int(status[:3]), {name.lower(): value for name, value in lines}, content


def _environ(octets: bytes, kind: str | None, method: str, bearer: str | None) -> dict[str, Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method,
        "SCRIPT_NAME": "",
        "PATH_INFO": "/events",
        "QUERY_STRING": "",
        "SERVER_NAME": "api.test",
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_LENGTH": str(len(octets)) if octets else "",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(octets),
        "wsgi.errors": io.StringIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    if kind is not None:
        environ["CONTENT_TYPE"] = kind
    if bearer is not None:
        environ["HTTP_AUTHORIZATION"] = f"Bearer {bearer}"
    return environ
