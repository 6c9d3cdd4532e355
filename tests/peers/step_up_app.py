"""An API whose transfers need a recent login, with a server of its own; started by uvicorn."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearerguard import Guard, scopes, step_up
from bearerguard.server import AuthorizationServer, SigningKeys
from bearerguard.starlette import BearerMiddleware, require

server = AuthorizationServer(
    os.environ["ORIGIN"],
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    scopes={"read": "See your account", "write": "Make transfers"},
    signing=SigningKeys(algorithm="ES256"),
)
server.users.add("ada", "correct horse battery", name="Ada Lovelace")
server.clients.add(
    "Bank on the phone",
    client_id="phone",
    public=True,
    redirect_uris=["http://127.0.0.1/callback"],
    scopes=["read", "write"],
)
guard = Guard(server.issuer())


def login(request: Request) -> dict[str, object]:
    principal = request.user
    return {"acr": principal.acr, "auth_time": principal.auth_time}


@require(scopes("read"))
async def account(request: Request) -> JSONResponse:
    return JSONResponse(login(request))


@require(scopes("write") & step_up(max_age=60))
async def transfer(request: Request) -> JSONResponse:
    return JSONResponse(login(request))


@require(scopes("read") & step_up(acr="phr"))
async def vault(request: Request) -> JSONResponse:
    return JSONResponse(login(request))


api = Starlette(
    routes=[
        Route("/account", account),
        Route("/transfers", transfer, methods=["POST"]),
        Route("/vault", vault),
    ]
)
app = server.asgi_app(BearerMiddleware(api, guard=guard))
