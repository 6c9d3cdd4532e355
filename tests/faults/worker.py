"""One worker process of an API: a guard that shares revocations, behind a real server.

python -m tests.faults.worker asgi|wsgi PORT REDIS_URL < jwks.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from typing import Any

import uvicorn
import waitress  # type: ignore[import-untyped]

from bearerguard import Guard, Issuer, RevocationFailed, Revocations, asgi, wsgi
from bearerguard.redis import RedisStore

ISSUER, AUDIENCE = "https://issuer.test", "https://api.test"
SECRET = "a secret of the workers, not a real one"
OPEN = ("/health", "/revoke/*")


def main(kind: str, port: str, redis_url: str) -> None:
    guard = Guard(
        Issuer(ISSUER, audience=AUDIENCE, keys=json.load(sys.stdin)),
        revocations=Revocations(RedisStore(redis_url, secret=SECRET)),
    )
    guard.warm()
    if kind == "asgi":
        middleware = asgi.BearerMiddleware(AsgiApp(guard), guard=guard, exclude=OPEN)
        uvicorn.run(middleware, host="127.0.0.1", port=int(port), log_level="warning")
    else:
        wsgi_face = wsgi.BearerMiddleware(WsgiApp(guard), guard=guard, exclude=OPEN)
        waitress.serve(wsgi_face, host="127.0.0.1", port=int(port), threads=8)


class AsgiApp:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status, body = 200, b""
        if scope["path"] == "/health":
            body = health(self._guard)
        elif scope["path"].startswith("/revoke/"):
            try:
                await self._guard.arevoke(token_id=scope["path"].removeprefix("/revoke/"))
            except RevocationFailed:
                status = 503
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [length]})
        await send({"type": "http.response.body", "body": body})


class WsgiApp:
    def __init__(self, guard: Guard) -> None:
        self._guard = guard

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        status, body, path = "200 OK", b"", environ["PATH_INFO"]
        if path == "/health":
            body = health(self._guard)
        elif path.startswith("/revoke/"):
            try:
                self._guard.revoke(token_id=path.removeprefix("/revoke/"))
            except RevocationFailed:
                status = "503 Service Unavailable"
        start_response(status, [("Content-Length", str(len(body)))])
        return [body]


def health(guard: Guard) -> bytes:
    return json.dumps(guard.health()).encode()


if __name__ == "__main__":
    main(*sys.argv[1:])
