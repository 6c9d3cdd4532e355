"""The endpoint for back-channel logout, for ASGI and WSGI: an issuer reports users who logged out.

    logout = BackchannelLogout(guard, client_id="app")
    # mount logout.asgi or logout.wsgi outside the guard's middleware, or exclude= its path

Only translates between ASGI or WSGI and the guard's `LogoutReceiver`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.guard.guard import Guard
from bearerguard.guard.revocation.backchannel_logout import MAX_BODY
from bearerguard.runtime.bodies import asgi_body, wsgi_body

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1


class BackchannelLogout:
    """Accepts logout tokens (OpenID Connect Back-Channel Logout 1.0) and revokes accordingly.

    A logout token with a `sid` revokes the access tokens of that session, and those of the
    subject that name no session. One with a `sub` alone revokes all of the subject's. Only
    tokens issued before the logout token are revoked.

    Responds with 200 when every worker will refuse those tokens, with 400 to a request that is
    no genuine logout or was received before, and with 503 and `Retry-After` when tokens could
    not be revoked.

    Args:
        guard: a guard with `revocations=`. One of its issuers must have signed the logout token.
        client_id: the client id of the application at the issuer, the `aud` of logout tokens;
            or a list, where issuers use different ids.

    Raises:
        ConfigurationError: the guard has no revocations, or an option is malformed.
    """

    def __init__(self, guard: Guard, *, client_id: str | Collection[str]) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard, such as Guard(Issuer(...))")
        self._client_id = client_id
        self._guard = guard
        self._prepare()
        guard.on_state_replaced(self._prepare)

    def _prepare(self) -> None:
        self._receiver = self._guard.logout_receiver(self._client_id)

    async def asgi(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request as an ASGI app."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
        if scope["type"] != "http":
            return
        body = await asgi_body(receive, MAX_BODY)
        if body is None:
            return  # the client has disconnected
        kinds = [value for name, value in scope["headers"] if name.lower() == b"content-type"]
        kind = kinds[0].decode("latin-1") if len(kinds) == 1 else ""
        response = await self._guard.arun(self._receiver.receive(scope["method"], kind, body))
        headers = [(name.lower().encode(), value.encode()) for name, value in response.headers]
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        content = b"" if scope["method"] == "HEAD" else response.body
        await send({"type": "http.response.body", "body": content})

    def wsgi(
        self, environ: dict[str, Any], start_response: Callable[..., object]
    ) -> Iterable[bytes]:
        """Handle a request as a WSGI app."""
        method, kind = environ["REQUEST_METHOD"], environ.get("CONTENT_TYPE") or ""
        body = wsgi_body(environ, MAX_BODY)
        response = self._guard.run(self._receiver.receive(method, kind, body))
        status = f"{response.status} {HTTPStatus(response.status).phrase}"
        start_response(status, list(response.headers))
        return [b"" if method == "HEAD" else response.body]
