"""An MCP server of recordings with its own authorization server. `uvicorn app:app`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from mcp.server.mcpserver import MCPServer

from bearerguard import Guard, scopes
from bearerguard.mcp import get_principal, protect
from bearerguard.server import AuthorizationServer, ClientMetadataDocuments, Registration

url = os.environ.get("BEARERGUARD_SERVER_ISSUER", "http://127.0.0.1:8000")
server = AuthorizationServer(
    url,
    store=os.environ.get("BEARERGUARD_SERVER_STORE", "sqlite:///recordings.db"),
    scopes={"read": "See your recordings", "write": "Delete recordings"},
    resources=[f"{url}/mcp"],
    client_metadata=ClientMetadataDocuments(),
    registration=Registration(),
)
guard = Guard(server.issuer(audience=f"{url}/mcp"), implies={"write": "read"})
recordings = ["Dawn chorus", "Night train"]


@asynccontextmanager
async def lifespan(_mcp: MCPServer[Any]) -> AsyncIterator[None]:
    async with guard:
        yield
    server.close()


mcp = MCPServer("Recordings", lifespan=lifespan)


@mcp.tool()
def list_recordings() -> list[str]:
    """List the titles of all recordings."""
    return recordings


@mcp.tool()
def delete_recording(title: str) -> str:
    """Delete a recording by its title."""
    if title in recordings:
        recordings.remove(title)
    return f"{title} was deleted for {get_principal().identity}"


api = protect(
    mcp.streamable_http_app(),
    guard=guard,
    require=scopes("read"),
    tools={"delete_recording": scopes("write")},
)
app = server.asgi_app(api)
