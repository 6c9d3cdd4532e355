"""An API by Quart, for a real server. Its settings come from the environment."""

from __future__ import annotations

from quart import Quart, jsonify, websocket

from bearerguard import Guard
from bearerguard.quart import BearerGuard, current_principal, require_scopes

app = Quart(__name__)
BearerGuard(app, guard=Guard.from_env(), exclude=("/health",))


@app.get("/who")
async def who():
    return jsonify(current_principal.identity)


@app.post("/recordings")
@require_scopes("write")
def add_recording():
    return jsonify(current_principal.identity), 201


@app.websocket("/echo")
@require_scopes("write")
async def echo() -> None:
    await websocket.send(current_principal.identity)
    await websocket.send(await websocket.receive())


@app.get("/health")
async def health():
    return "well"
