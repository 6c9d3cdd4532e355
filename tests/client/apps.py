"""An API with its own authorization server, as one process over HTTP, that counts.

`LIFETIME` is the lifetime of its tokens in seconds. `/tokens` returns the number of token requests
since `/reset`; `/revoke` refuses the tokens used so far, as if each had been revoked.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bearerguard.server import AuthorizationServer, Lifetimes, SigningKeys

server = AuthorizationServer(
    os.environ["ISSUER"],
    store=os.environ["STORE"],
    scopes={"read": "Read", "write": "Write"},
    signing=SigningKeys(algorithm="ES256"),
    lifetimes=Lifetimes(access_token=float(os.environ.get("LIFETIME", "3600"))),
)
count = {"tokens": 0}
refused: set[str] = set()
seen: set[str] = set()
CHALLENGES = {
    "/scope": (403, 'Bearer realm="api", error="insufficient_scope", scope="write admin"'),
    "/login": (
        401,
        'Bearer error="insufficient_user_authentication", acr_values="gold silver", max_age="5"',
    ),
    "/always": (401, 'Bearer realm="api", error="invalid_token"'),
}


def respond(path: str, token: str) -> tuple[int, str, bytes]:
    if path == "/tokens":
        return 200, "", json.dumps(count).encode()
    if path == "/reset":
        count["tokens"] = 0
        return 200, "", b""
    if path == "/revoke":
        refused.update(seen)
        return 200, "", b""
    if path in CHALLENGES:
        return (*CHALLENGES[path], b"")
    seen.add(token)
    if token in refused or not server.introspect(token)["active"]:
        return 401, 'Bearer realm="api", error="invalid_token"', b"refused"
    return 200, "", token.encode()


async def api(scope: Any, receive: Any, send: Any) -> None:
    given = dict(scope["headers"]).get(b"authorization", b"").decode()
    while (await receive()).get("more_body"):
        pass
    status, challenge, body = respond(scope["path"], given.removeprefix("Bearer "))
    headers = [(b"www-authenticate", challenge.encode())] if challenge else []
    if scope["path"] == "/away":
        status, headers = 302, [(b"location", os.environ["AWAY"].encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


hosted = server.asgi_app(api)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/oauth/token":
        count["tokens"] += 1
    await hosted(scope, receive, send)
