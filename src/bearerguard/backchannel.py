"""The endpoint for back-channel logout, for ASGI and WSGI: an issuer reports users who are gone.

    logout = BackchannelLogout(guard, client_id="app")
    # mount logout.asgi or logout.wsgi outside the guard's middleware, or exclude= its path

Only translates; what a logout request must be is the guard's floor.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.guard.guard import Guard
from bearerguard.guard.revocation.back_channel import MAX_BODY
from bearerguard.runtime.bodies import asgi_body, wsgi_body

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1


class BackchannelLogout:
    """Accepts logout tokens (OpenID Connect Back-Channel Logout 1.0) and revokes accordingly.

    A token with a `sid` ends that session, and the subject's access tokens that name no
    session; one with a `sub` alone ends all of the subject's. Concerned is what was issued
    before the logout token was.

    Answers 200 when every worker will refuse those, 400 for a request that is no genuine
    logout or was received before, and 503 with `Retry-After` when it could not be done.

    Args:
        guard: a guard with `revocations=`; a logout token is believed if one of its issuers
            signed it.
        client_id: what the application is called at the issuer, the `aud` of logout tokens;
            or several, where several issuers call it differently.

    Raises:
        ConfigurationError: the guard has no revocations, or an option is malformed.
    """

    def __init__(self, guard: Guard, *, client_id: str | Collection[str]) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard")
        self._receiver = guard.logout_receiver(client_id)
        self._guard = guard

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI app."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        if scope["type"] != "http":
            return
        body = await asgi_body(receive, MAX_BODY)
        if body is None:
            return  # nobody is there to be answered
        kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
        kind = kinds[0].decode("latin-1") if len(kinds) == 1 else ""
        answer = await self._guard.arun(self._receiver.receive(scope["method"], kind, body))
        headers = [(name.lower().encode(), value.encode()) for name, value in answer.headers]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        content = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": content})

    def wsgi(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Answer as a WSGI app."""
        method, kind = environ["REQUEST_METHOD"], environ.get("CONTENT_TYPE") or ""
        body = wsgi_body(environ, MAX_BODY)
        answer = self._guard.run(self._receiver.receive(method, kind, body))
        status = f"{answer.status} {HTTPStatus(answer.status).phrase}"
        start_response(status, list(answer.headers))
        return [b"" if method == "HEAD" else answer.body]
