"""An API with its own authorization server, in one process over HTTP, that counts what it is asked.

Every request is checked by a guard. `/seen` returns how many token requests and refusals there
were; `/revoke` revokes, at the server, every token that the API was shown.
`LIFETIME` is how long access tokens live, in seconds, `GRACE` how long a refresh can be repeated.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bearerguard import ANONYMOUS, Guard
from bearerguard.asgi import BearerMiddleware
from bearerguard.server import AuthorizationServer, Lifetimes, PeopleOptions, SigningKeys
from tests.server.cookie_login import current_user

ISSUER = os.environ["ISSUER"]


server = AuthorizationServer(
    ISSUER,
    store=os.environ["STORE"],
    scopes={"read": "Read your recordings", "write": "Change your recordings"},
    people=PeopleOptions(current_user=current_user, login_url="http://127.0.0.1/login"),
    signing=SigningKeys(algorithm="ES256"),
    lifetimes=Lifetimes(
        access_token=float(os.environ.get("LIFETIME", "3600")),
        refresh_grace=float(os.environ.get("GRACE", "10")),
    ),
)
guard = Guard(server.issuer(audience=ISSUER))
counted = {"tokens": 0, "refused": 0}
shown: set[str] = set()


async def api(scope: Any, receive: Any, send: Any) -> None:
    """Say who calls; the guard has let the request pass."""
    if scope["path"] == "/revoke":
        for token in shown:
            server.revoke(token)
        shown.clear()
    if scope["path"] == "/seen":
        body = json.dumps(counted).encode()
    else:
        principal = scope["state"]["principal"]
        caller = None if principal is ANONYMOUS else principal.client_id
        body = json.dumps({"recordings": [], "for": caller}).encode()
        headers = dict(scope["headers"])
        if b"authorization" in headers:
            shown.add(headers[b"authorization"].decode().partition(" ")[2])
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


hosted = server.asgi_app(BearerMiddleware(api, guard=guard, exclude=("/seen", "/revoke")))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Count, and pass on."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/oauth/token":
        counted["tokens"] += 1

    async def counting(message: Any) -> None:
        if message["type"] == "http.response.start" and message["status"] == 401:
            counted["refused"] += 1
        await send(message)

    await hosted(scope, receive, counting)
