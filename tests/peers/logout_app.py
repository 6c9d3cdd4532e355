"""An API that receives logout tokens, by ASGI and by WSGI; started by uvicorn and by waitress."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from bearerguard import Guard, Issuer, Revocations, asgi, wsgi
from bearerguard.backchannel import BackchannelLogout
from bearerguard.redis import RedisStore

store = RedisStore(os.environ["REDIS"], secret="a secret of this test's own, long enough")
guard = Guard(
    Issuer(os.environ["ISSUER"], audience="urn:api:ES256"), revocations=Revocations(store)
)
logout = BackchannelLogout(guard, client_id="web")


async def _asgi_api(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["user"].identity.encode()})


def _wsgi_api(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["bearerguard.principal"].identity.encode()]


async def _asgi_routes(scope: Any, receive: Any, send: Any) -> None:
    chosen = logout.asgi if scope.get("path") == "/logout" else _asgi_api
    await chosen(scope, receive, send)


def _wsgi_routes(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    chosen: Any = logout.wsgi if environ["PATH_INFO"] == "/logout" else _wsgi_api
    found: Iterable[bytes] = chosen(environ, start_response)
    return found


asgi_app = asgi.BearerMiddleware(_asgi_routes, guard=guard, exclude=("/logout",))
wsgi_app = wsgi.BearerMiddleware(_wsgi_routes, guard=guard, exclude=("/logout",))
