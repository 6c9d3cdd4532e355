"""The recordings API in Starlette. Start it with `uvicorn app:app`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from bearerguard import EXPOSED_HEADERS, Guard
from bearerguard.starlette import BearerMiddleware, require_scopes

guard = Guard.from_env()
recordings = [{"id": 1, "title": "Dawn chorus"}]


@asynccontextmanager
async def lifespan(_app: Starlette) -> AsyncIterator[None]:
    async with guard:
        await guard.awarm()
        yield


class Recordings(HTTPEndpoint):
    @require_scopes("read")
    async def get(self, _request: Request) -> JSONResponse:
        return JSONResponse({"recordings": recordings})

    @require_scopes("write")
    async def post(self, request: Request) -> JSONResponse:
        recording = {"id": len(recordings) + 1, "title": f"Uploaded by {request.user.identity}"}
        recordings.append(recording)
        return JSONResponse(recording, status_code=201)


async def health(_request: Request) -> JSONResponse:
    state = guard.health()
    return JSONResponse(state, status_code=200 if state["ready"] else 503)


app = Starlette(
    lifespan=lifespan,
    routes=[Route("/api/v1/recordings", Recordings), Route("/health", health)],
    middleware=[
        Middleware(
            CORSMiddleware,
            allow_origins=["*"],
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type"],
            expose_headers=EXPOSED_HEADERS,
        ),
        Middleware(BearerMiddleware, guard=guard, exclude=("/health",)),
    ],
)
