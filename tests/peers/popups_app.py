"""A guarded API with its authorization server, and apps that sign in there; served by uvicorn."""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from bearerguard import Guard
from bearerguard.server import AuthorizationServer
from bearerguard.starlette import BearerMiddleware, require_scopes
from tests.peers.popups_pages import API, pages

PAGES = os.environ["PAGES"]
server = AuthorizationServer(
    API,
    store=os.environ["STORE"],
    secret="a secret of this test's own, long enough",
    scopes={"read": "See your recordings"},
)
server.users.add("ada", "correct horse battery", name="Ada Lovelace")
for client_id, path in (("swagger", "/ui/swagger/oauth2-redirect.html"), ("spa", "/ui/back")):
    server.clients.add(
        "Field Notes",
        client_id=client_id,
        public=True,
        redirect_uris=[f"{API}{path}", f"{PAGES}{path}"],
        origins=[API, PAGES],
        scopes=["read"],
    )
guard = Guard(server.issuer())


@require_scopes("read")
async def recordings(request: Request) -> JSONResponse:
    return JSONResponse({"recordings": ["Dawn chorus"], "for": request.user.identity})


api = Starlette(
    routes=[Route("/recordings", recordings)],
    middleware=[
        Middleware(CORSMiddleware, allow_origins=[PAGES], allow_headers=["*"]),
        Middleware(BearerMiddleware, guard=guard),
    ],
)
app = server.asgi_app(Starlette(routes=[Mount("/api", api), Mount("/", pages)]))
