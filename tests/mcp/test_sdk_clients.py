"""The clients of the MCP SDK and of fastmcp against a protected server."""

from __future__ import annotations

import anyio
import fastmcp
import httpx2
import pytest
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import TextResourceContents

from bearerguard.testing import LocalIssuer


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_client_of_the_sdk_calls_what_it_may_call(
    url: str, issuer: LocalIssuer, mode: str
) -> None:
    token = issuer.token(scopes=["read", "private"], subject="ada")

    async def use() -> None:
        statuses: list[int] = []

        async def note(response: httpx2.Response) -> None:
            statuses.append(response.status_code)

        headers, hooks = {"Authorization": f"Bearer {token}"}, {"response": [note]}
        async with (
            httpx2.AsyncClient(headers=headers, event_hooks=hooks, timeout=10) as http,
            Client(streamable_http_client(url, http_client=http), mode=mode) as client,
        ):
            tools = await client.list_tools()
            assert "delete_recording" in {tool.name for tool in tools.tools}
            seen = await client.call_tool("whoami")
            assert seen.structured_content is not None
            assert seen.structured_content["token"]["subject"] == "ada"
            read = await client.read_resource("recordings://private/dawn")
            (content,) = read.contents
            assert isinstance(content, TextResourceContents)
            assert content.text == "private dawn"
            with pytest.raises(MCPError):
                await client.call_tool("delete_recording", {"title": "Dawn chorus"})
            assert statuses[-1] == 403

    anyio.run(use)


def test_the_client_of_fastmcp_calls_what_it_may_call(url: str, issuer: LocalIssuer) -> None:
    token = issuer.token(scopes=["read"], subject="ada")

    async def use() -> None:
        async with fastmcp.Client(url, auth=token) as client:
            called = await client.call_tool("list_recordings")
            assert called.structured_content == {"result": ["Dawn chorus"]}
            with pytest.raises(MCPError):
                await client.call_tool("delete_recording", {"title": "Dawn chorus"})

    anyio.run(use)
