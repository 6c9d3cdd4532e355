"""An app that receives notifications by POST, for ASGI and WSGI: logouts and security events.

Only translates between ASGI or WSGI and a receiver of the guard.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.guard.guard import Guard
from bearerguard.guard.revocation.posted_events import MAX_BODY, Posted
from bearerguard.protocol import names
from bearerguard.runtime.bodies import asgi_body, wsgi_body
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.messages import Response

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


class ReceiverApp(ABC):
    """Serves a receiver of a guard; a subclass makes the receiver in `_prepare`."""

    _receive: Callable[[Posted], Flow[Response]]

    def __init__(self, guard: Guard) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard, such as Guard(Issuer(...))")
        self._guard = guard
        self._prepare()
        guard.on_state_replaced(self._prepare)

    @abstractmethod
    def _prepare(self) -> None:
        """Set `_receive`; called again when the guard's state is replaced."""

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as an ASGI app."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": names.POLICY_VIOLATION})
        if scope["type"] != "http":
            return
        body = await asgi_body(receive, MAX_BODY)
        if body is None:
            return  # the client has disconnected
        headers = scope["headers"]
        posted = Posted(
            scope["method"], _one(headers, b"content-type"), _one(headers, b"authorization"), body
        )
        response = await self._guard.arun(self._receive(posted))
        fields = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": fields})
        content = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": content})

    def wsgi(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        method = environ["REQUEST_METHOD"]
        kind = environ.get("CONTENT_TYPE") or ""
        authorization = environ.get("HTTP_AUTHORIZATION") or ""
        posted = Posted(method, kind, authorization, wsgi_body(environ, MAX_BODY))
        response = self._guard.run(self._receive(posted))
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
        start_response(status, list(response.headers))
        return [b"" if method == "HEAD" else response.body]


def _one(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str:
    """Return a header field, empty for one that is absent or repeated."""
    values = [value for key, value in headers if key.lower() == name]
    return values[0].decode("latin-1") if len(values) == 1 else ""
