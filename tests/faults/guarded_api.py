"""An API for uvicorn (`app`) and gunicorn (`wsgi`) that trusts an issuer over HTTP.

ISSUER and AUDIENCE name the issuer, REFRESH is for how many seconds its keys are fresh, COOLDOWN
for how many an unknown key may cause no further fetch, TIMEOUT how long a fetch may take.
INTROSPECTION is the API's secret, with which it introspects opaque tokens. With WARM, the keys are
fetched when the module is imported, as gunicorn's --preload does before it forks.
"""

from __future__ import annotations

import os
from typing import Any

from bearerguard import Guard, HttpTransport, Introspection, Issuer, KeyPolicy
from bearerguard.asgi import BearerMiddleware as AsgiMiddleware
from bearerguard.wsgi import BearerMiddleware as WsgiMiddleware

guard = Guard(
    Issuer(
        os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
        introspection=Introspection("api", client_secret=os.environ["INTROSPECTION"])
        if "INTROSPECTION" in os.environ
        else None,
        key_policy=KeyPolicy(
            refresh=float(os.environ.get("REFRESH", "300")),
            cooldown=float(os.environ.get("COOLDOWN", "30")),
        ),
    ),
    transport=HttpTransport(timeout=float(os.environ.get("TIMEOUT", "2"))),
)
if os.environ.get("WARM"):
    guard.warm()


async def _asgi(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    headers = [(b"content-length", b"2"), (b"x-pid", b"%d" % os.getpid())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"in"})


def _wsgi(_environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "2"), ("X-Pid", str(os.getpid()))])
    return [b"in"]


app = AsgiMiddleware(_asgi, guard=guard)
wsgi = WsgiMiddleware(_wsgi, guard=guard)
