"""The server in front of an ASGI app: serves its own paths and passes other requests on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from functools import partial
from http import HTTPStatus
from typing import Any, TypeAlias

from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.certificates import of_connection
from bearerguard.protocol.http.proxies import Proxies, scope_peer
from bearerguard.runtime.bodies import asgi_body
from bearerguard.runtime.messages import ClientCertificate, Request, Response
from bearerguard.server.engine import Engine
from bearerguard.server.hosting.threads import Threads
from bearerguard.server.http.parameters import MAX_BYTES

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Waiting logins cost little in the event loop; the last of 100 waits some seconds.
_WAITING_LOGINS = 100
_CLOSE = (b"connection", b"close")


class AsgiHost:
    """An ASGI app around another. Made by `AuthorizationServer.asgi_app`."""

    def __init__(
        self,
        engine: Engine,
        api: ASGIApp | None,
        proxies: Proxies,
        certificates: CertificateSource | None,
        *,
        threads: int,
    ) -> None:
        self._certificates = certificates
        self._engine = engine
        self._proxies = proxies
        self.api: ASGIApp = api or self._alone
        self._threads = Threads(engine.handle, threads)
        # Password checks take long: they have threads of their own and do not delay token requests.
        self._logins = Threads(
            engine.handle,
            engine.password_places,
            waiting=_WAITING_LOGINS,
            busy=engine.busy,
        )
        # So has what may wait for an issuer elsewhere, for each of these.
        self._upstreams = {
            name: Threads(
                engine.handle,
                engine.password_places,
                waiting=_WAITING_LOGINS,
                busy=engine.busy,
            )
            for name in engine.upstream_places
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Respond, or pass the request on."""
        path = None
        if scope["type"] == "http":
            if self._engine.health.is_stopping and scope.get("http_version", "1.1") < "2":
                send = _closing(send)
            path = self._engine.served_path(scope.get("root_path", ""), scope["path"])
        if path is None:
            await self.api(scope, receive, send)
            return
        body = await asgi_body(receive, MAX_BYTES)
        if body is None:
            return  # the client has disconnected
        if len(body) > MAX_BYTES:
            await _send(send, self._engine.too_large(path, scope["method"]))
            return
        query = scope.get("query_string", b"").decode("latin-1")
        client = scope.get("client")
        headers = scope["headers"]
        forwarded_for = [value for name, value in headers if name.lower() == b"x-forwarded-for"]
        certificate, problem = self._certificate(scope)
        request = Request(
            scope["method"],
            f"{path}?{query}" if query else path,
            headers,
            body,
            peer=self._proxies.client(client[0] if client else "", forwarded_for),
            certificate=certificate,
            certificate_problem=problem,
        )
        # A thread costs more than such a request: its processors switch back and forth.
        if self._engine.is_live(path) or self._engine.is_brief(path, request):
            await _send(send, self._engine.handle(request))
            return
        await self._engine.prepare(request)
        await _send(send, await self._threads_for(request.method, path).run(request))

    def _threads_for(self, method: str, path: str) -> Threads:
        if (place := self._engine.upstream_place(path)) is not None:
            return self._upstreams[place]
        return self._logins if self._engine.is_login(method, path) else self._threads

    async def _alone(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app behind a server that stands alone."""
        if scope["type"] == "http":
            accepted = (value for name, value in scope["headers"] if name.lower() == b"accept")
            accept = b",".join(accepted).decode("latin-1")
            root, path = scope.get("root_path", ""), scope["path"]
            await _send(send, self._engine.alone(root, path, scope["method"], accept))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1000})
        elif scope["type"] == "lifespan":
            while (await receive())["type"] == "lifespan.startup":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})

    def _certificate(self, scope: Scope) -> tuple[ClientCertificate | None, str]:
        """Return the certificate of the TLS client, or None and what is wrong with it."""
        if self._certificates is None:
            return None, ""

        def values(name: str) -> list[bytes]:
            field = name.encode()
            return [value for key, value in scope["headers"] if key.lower() == field]

        tls = (scope.get("extensions") or {}).get("tls")
        return self._certificates.look(
            partial(of_connection, tls), partial(scope_peer, scope), values
        )


async def _send(send: Send, response: Response) -> None:
    headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1"))
        for name, value in response.headers
    ]
    if response.status != HTTPStatus.NO_CONTENT and not any(
        name == b"content-length" for name, _ in headers
    ):
        headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


def _closing(send: Send) -> Send:
    """Return `send` with a header that ends the connection; HTTP/2 has none (RFC 9113 §8.2.2)."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
        await send(message)

    return sending
