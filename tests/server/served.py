"""A server in front of an API, as a process of its own; what it is comes from the environment.

`app` is ASGI, `wsgi` is WSGI. A user is signed in by the cookie `user`, as an app's own login.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bearerguard.server import AuthorizationServer, Lifetimes, PeopleOptions, SigningKeys
from tests.server.cookie_login import current_user

server = AuthorizationServer(
    os.environ["ISSUER"],
    store=os.environ["STORE"],
    scopes={"read": "Read your recordings", "write": "Change your recordings"},
    people=PeopleOptions(current_user=current_user, login_url="http://127.0.0.1/login"),
    lifetimes=Lifetimes(
        refresh_grace=float(os.environ.get("GRACE", "10")),
        code=float(os.environ.get("CODE_LIFETIME", "60")),
    ),
    signing=SigningKeys(algorithm=os.environ.get("ALGORITHM", "ES256")),  # type: ignore[arg-type]
    dpop=os.environ.get("DPOP", "allowed"),  # type: ignore[arg-type]
    dpop_nonces="DPOP_NONCES" in os.environ,
    require_par="REQUIRE_PAR" in os.environ,
)


async def api(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        print("api: started", flush=True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": "from the api"})
        await send({"type": "websocket.close", "code": 1000})
    else:
        body = json.dumps({"api": scope["path"]}).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def wsgi_api(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({"api": environ["SCRIPT_NAME"] + environ["PATH_INFO"]}).encode()]


app = server.asgi_app(api)
wsgi = server.wsgi_app(wsgi_api)
