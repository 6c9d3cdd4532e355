"""The recordings API and its authorization server in one process. `uvicorn app:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearerguard import Guard
from bearerguard.server import AuthorizationServer
from bearerguard.starlette import BearerMiddleware, require_scopes

url = os.environ.get("BEARERGUARD_SERVER_ISSUER", "http://127.0.0.1:8000")
server = AuthorizationServer(
    url,
    store=os.environ.get("BEARERGUARD_SERVER_STORE", "sqlite:///recordings.db"),
    scopes={"read": "See your recordings", "write": "Add recordings"},
)
guard = Guard(server.issuer(audience=url))
recordings = [{"id": 1, "title": "Dawn chorus"}]


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with guard:
        yield
    server.close()


class Recordings(HTTPEndpoint):
    @require_scopes("read")
    async def get(self, request: Request) -> JSONResponse:
        return JSONResponse({"recordings": recordings, "for": request.user.identity})

    @require_scopes("write")
    async def post(self, request: Request) -> JSONResponse:
        recording = {"id": len(recordings) + 1, "title": f"Uploaded by {request.user.identity}"}
        recordings.append(recording)
        return JSONResponse(recording, status_code=201)


api = Starlette(
    lifespan=lifespan,
    routes=[Route("/api/v1/recordings", Recordings)],
    middleware=[Middleware(BearerMiddleware, guard=guard)],
)
app = server.asgi_app(api)
