"""One MCP server, made with the SDK and with fastmcp: the same tools, resources and prompt."""

from __future__ import annotations

from typing import Any

import fastmcp
from fastmcp.server import dependencies
from mcp.server.auth.middleware import auth_context
from mcp.server.mcpserver import Context, MCPServer

from bearerguard.mcp import get_principal


def caller(token: Any, user: Any) -> dict[str, Any]:
    """Return what a tool finds out about its caller, in each of the ways that there are."""
    principal = get_principal()
    return {
        "token": None if token is None else token.model_dump(exclude={"claims", "token"}),
        "issuer": None if token is None else token.claims["iss"],
        "user": user.display_name,
        "scopes": sorted(user.scopes),
        "principal": [principal.issuer, principal.subject, principal.client_id],
    }


def whoami_of_sdk(ctx: Context[Any]) -> dict[str, Any]:
    request: Any = ctx.request_context.request
    return caller(auth_context.get_access_token(), request.user)


def whoami_of_fastmcp() -> dict[str, Any]:
    return caller(dependencies.get_access_token(), dependencies.get_http_request().user)


def sdk_server() -> MCPServer:
    server = MCPServer("recordings")
    server.tool("whoami")(whoami_of_sdk)
    _add(server)
    return server


def fastmcp_server() -> fastmcp.FastMCP[Any]:
    server = fastmcp.FastMCP[Any]("recordings")
    server.tool(whoami_of_fastmcp, name="whoami")
    _add(server)
    return server


def _add(server: Any) -> None:
    @server.tool()
    def list_recordings() -> list[str]:
        return ["Dawn chorus"]

    @server.tool()
    def delete_recording(title: str) -> str:
        return f"deleted {title}"

    @server.tool(name="aufnahme_löschen")
    def delete_in_german() -> str:
        return "gelöscht"

    @server.resource("recordings://public")
    def public() -> str:
        return "for all"

    @server.resource("recordings://private/{name}")
    def private(name: str) -> str:
        return f"private {name}"

    @server.prompt()
    def summarize() -> str:
        return "Summarize the recordings"
