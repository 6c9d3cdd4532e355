"""The two programs of the soak: an authorization server, and an API that trusts it over HTTP.

uvicorn tests.faults.soak_apps:server, with ISSUER and STORE; it starts with a client for each kind
of load. uvicorn tests.faults.soak_apps:api, with ISSUER, API_ID and API_SECRET besides.
"""

from __future__ import annotations

import json
import os
from typing import Any

from bearerguard import Guard, HttpTransport, Introspection, Issuer, KeyPolicy, scopes
from bearerguard.asgi import BearerMiddleware
from bearerguard.server import AuthorizationServer, Lifetimes, PeopleOptions, Resource, SigningKeys
from tests.server.cookie_login import current_user

#: The API, by the kind of tokens that it takes.
JWT, OPAQUE = "https://jwt.soak.example", "https://opaque.soak.example"
#: Seconds. Short, so that caches and tables reach their size within minutes.
LIFETIME = 30.0


def make_server(issuer: str, store: str, **options: Any) -> AuthorizationServer:
    return AuthorizationServer(
        issuer,
        store=store,
        scopes={"read": "Read your recordings", "write": "Change your recordings"},
        people=PeopleOptions(current_user=current_user, login_url="http://127.0.0.1/login"),
        signing=SigningKeys(algorithm="ES256"),
        resources=[Resource(JWT), Resource(OPAQUE, tokens="opaque")],
        lifetimes=Lifetimes(access_token=LIFETIME, refresh_grace=2),
        **options,
    )


def _make_guard() -> Guard:
    how = Introspection(
        os.environ["API_ID"], client_secret=os.environ["API_SECRET"], cache_ttl=2, negative_ttl=2
    )
    issuer = Issuer(
        os.environ["ISSUER"],
        audience=[JWT, OPAQUE],
        introspection=how,
        # Some fetches a minute instead of one in five.
        key_policy=KeyPolicy(refresh=5, cooldown=1),
    )
    return Guard(issuer, transport=HttpTransport(timeout=5), cache_size=2_000)


async def _recordings(scope: Any, receive: Any, send: Any) -> None:
    body = json.dumps({"for": scope["user"].identity}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def __getattr__(name: str) -> Any:
    """Make the program that uvicorn asks for, and not the other."""
    if name == "server":
        return make_server(os.environ["ISSUER"], os.environ["STORE"]).asgi_app()
    if name == "api":
        return BearerMiddleware(_recordings, guard=_make_guard(), require=scopes("read"))
    raise AttributeError(name)
