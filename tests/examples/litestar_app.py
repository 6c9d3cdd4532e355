"""An API by Litestar, for a real server. Its settings come from the environment."""

from __future__ import annotations

from litestar import Litestar, Request, WebSocket, get, post, websocket
from litestar.datastructures import State

from bearerguard import Guard, Principal
from bearerguard.litestar import BearerPlugin, require_scopes


@get("/who")
async def who(request: Request[Principal, Principal, State]) -> list[str]:
    return [request.user.identity]


@post("/recordings", guards=[require_scopes("write")], sync_to_thread=True)
def add_recording(request: Request[Principal, Principal, State]) -> list[str]:
    return [request.user.identity]


@websocket("/echo", guards=[require_scopes("write")])
async def echo(socket: WebSocket[Principal, Principal, State]) -> None:
    await socket.accept()
    await socket.send_text(socket.user.identity)
    await socket.send_text(await socket.receive_text())
    await socket.close()


@get("/health")
async def health() -> str:
    return "well"


plugin = BearerPlugin(Guard.from_env(), exclude=("/health",))
app = Litestar([who, add_recording, echo, health], plugins=[plugin])
