"""The recordings API in FastAPI. Start it with `uvicorn app:app`."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import FastAPI, Security, WebSocket
from fastapi.middleware.cors import CORSMiddleware

from bearerguard import EXPOSED_HEADERS, Guard, Principal
from bearerguard.fastapi import BearerSecurity

guard = Guard.from_env()
bearer = BearerSecurity(guard, scopes={"read": "Read recordings", "write": "Add recordings"})
Reader = Annotated[Principal, Security(bearer, scopes=["read"])]
Writer = Annotated[Principal, Security(bearer, scopes=["write"])]
recordings = [{"id": 1, "title": "Dawn chorus"}]

app = FastAPI(title="Recordings")
bearer.init_app(app)
app.add_middleware(
    CORSMiddleware,
    allow_origins=["*"],
    allow_methods=["GET", "POST"],
    allow_headers=["Authorization", "Content-Type"],
    expose_headers=EXPOSED_HEADERS,
)


@app.get("/api/v1/recordings")
async def list_recordings(_reader: Reader) -> dict[str, Any]:
    return {"recordings": recordings}


@app.post("/api/v1/recordings", status_code=201)
async def add_recording(writer: Writer) -> dict[str, Any]:
    recording = {"id": len(recordings) + 1, "title": f"Uploaded by {writer.identity}"}
    recordings.append(recording)
    return recording


@app.websocket("/api/v1/live")
async def live(websocket: WebSocket, reader: Reader) -> None:
    await websocket.accept()
    await websocket.send_text(f"{recordings[0]['title']}, for {reader.identity}")
    await websocket.close()


@app.get("/health")
async def health() -> dict[str, Any]:
    return guard.health()
