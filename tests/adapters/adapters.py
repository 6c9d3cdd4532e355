"""One small app behind each adapter, called directly, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import anyio
from werkzeug.test import EnvironBuilder

from bearerguard import Guard, asgi, wsgi

Header = tuple[str, str]


class Response(NamedTuple):
    """The status and the headers, whose names are in lower case."""

    status: int
    headers: list[Header]


Send = Callable[..., Response]


def by_asgi(guard: Guard, app_headers: Iterable[Header] = (), **options: Any) -> Send:
    """Return a function that sends tokens to an app behind the ASGI adapter.

    The app responds 200 with these headers.
    """
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    start["headers"] = raw = [(name.encode(), value.encode()) for name, value in app_headers]
    before = [*raw]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    middleware: Any = asgi.BearerMiddleware(app, guard=guard, **options)

    def send_tokens(*tokens: str, origin: str | None = None) -> Response:
        sent = [(b"authorization", f"Bearer {token}".encode()) for token in tokens]
        sent += [] if origin is None else [(b"origin", origin.encode())]
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": sent}
        anyio.run(middleware, scope, anyio.sleep_forever, send)
        assert start["headers"] is raw
        assert raw == before  # the app may send the same list again
        received = messages[0]["headers"]
        headers = [(name.decode().lower(), value.decode()) for name, value in received]
        return Response(messages[0]["status"], headers)

    return send_tokens


def by_wsgi(guard: Guard, app_headers: Iterable[Header] = (), **options: Any) -> Send:
    """Return a function that sends tokens to an app behind the WSGI adapter.

    The app responds 200 with these headers.
    """
    own = list(app_headers)
    before = [*own]

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", own)
        return []

    middleware = wsgi.BearerMiddleware(app, guard=guard, **options)

    def send_tokens(*tokens: str, origin: str | None = None) -> Response:
        environ: dict[str, Any] = EnvironBuilder().get_environ()
        if tokens:  # a server joins the fields of one name
            environ["HTTP_AUTHORIZATION"] = ", ".join(f"Bearer {token}" for token in tokens)
        environ |= {} if origin is None else {"HTTP_ORIGIN": origin}
        responses: list[Response] = []

        def start_response(status: str, headers: list[Header], *_: Any) -> Any:
            received = [(name.lower(), value) for name, value in headers]
            responses.append(Response(int(status[:3]), received))
            headers.clear()  # they are the server's now

        middleware(environ, start_response)
        assert own == before
        return responses[0]

    return send_tokens


ADAPTERS = [by_asgi, by_wsgi]
