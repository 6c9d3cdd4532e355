"""An API behind its own authorization server, where Ada is signed in; counts token requests."""

from __future__ import annotations

import os
from typing import Any

from bearerguard import Guard, scopes
from bearerguard.asgi import BearerMiddleware
from bearerguard.server import AuthorizationServer, Lifetimes, PeopleOptions, SigningKeys, User

ISSUER = os.environ["ISSUER"]
server = AuthorizationServer(
    ISSUER,
    store=os.environ["STORE"],
    scopes={"read": "Read your recordings", "write": "Change your recordings"},
    people=PeopleOptions(
        current_user=lambda _request: User("ada", "Ada"), login_url=f"{ISSUER}/login"
    ),
    signing=SigningKeys(algorithm="ES256"),  # made faster than RSA keys
    lifetimes=Lifetimes(access_token=float(os.environ.get("LIFETIME", "3600"))),
)
asked = {"token": 0}


async def api(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    body = f"{scope['user'].subject} may {scope['method']}".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


guard = Guard(server.issuer(audience=ISSUER, leeway=0))
reading = BearerMiddleware(api, guard=guard, require=scopes("read"))
writing = BearerMiddleware(api, guard=guard, require=scopes("write"))


async def routed(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/asked":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(asked["token"]).encode()})
    elif scope["type"] == "http" and scope["method"] == "POST":
        await writing(scope, receive, send)
    else:
        await reading(scope, receive, send)


_inner = server.asgi_app(routed)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/oauth/token":
        asked["token"] += 1
    await _inner(scope, receive, send)
