"""One small app behind each face, asked directly: what a test needs to see of a request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import anyio
from werkzeug.test import EnvironBuilder

from bearerguard import Guard, asgi, wsgi

Line = tuple[str, str]


class Answer(NamedTuple):
    """The status and the header lines, their names in lower case."""

    status: int
    lines: list[Line]


Door = Callable[..., Answer]


def by_asgi(guard: Guard, sent: Iterable[Line] = (), **options: Any) -> Door:
    """Return what asks an app behind the ASGI face that answers 200 with these header lines."""
    start: dict[str, Any] = {"type": "http.response.start", "status": 200}
    start["headers"] = raw = [(name.encode(), value.encode()) for name, value in sent]
    before = [*raw]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start)
        await send({"type": "http.response.body", "body": b""})

    face: Any = asgi.BearerMiddleware(app, guard=guard, **options)

    def ask(*tokens: str, origin: str | None = None) -> Answer:
        given = [(b"authorization", f"Bearer {token}".encode()) for token in tokens]
        given += [] if origin is None else [(b"origin", origin.encode())]
        messages: list[Any] = []

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": "GET", "path": "/", "headers": given}
        anyio.run(face, scope, anyio.sleep_forever, send)
        assert start["headers"] is raw
        assert raw == before  # the app may send the same list again
        lines = messages[0]["headers"]
        told = [(name.decode().lower(), value.decode()) for name, value in lines]
        return Answer(messages[0]["status"], told)

    return ask


def by_wsgi(guard: Guard, sent: Iterable[Line] = (), **options: Any) -> Door:
    """Return what asks an app behind the WSGI face that answers 200 with these header lines."""
    own = list(sent)
    before = [*own]

    def app(_environ: Any, start_response: Any) -> Any:
        start_response("200 OK", own)
        return []

    face = wsgi.BearerMiddleware(app, guard=guard, **options)

    def ask(*tokens: str, origin: str | None = None) -> Answer:
        given: dict[str, Any] = EnvironBuilder().get_environ()
        if tokens:  # a server joins the lines of one name
            given["HTTP_AUTHORIZATION"] = ", ".join(f"Bearer {token}" for token in tokens)
        given |= {} if origin is None else {"HTTP_ORIGIN": origin}
        answers: list[Answer] = []

        def start_response(status: str, headers: list[Line], *_: Any) -> Any:
            told = [(name.lower(), value) for name, value in headers]
            answers.append(Answer(int(status[:3]), told))
            headers.clear()  # they are the server's now

        face(given, start_response)
        assert own == before
        return answers[0]

    return ask


DOORS = [by_asgi, by_wsgi]
