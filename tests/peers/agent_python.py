"""An agent that knows nothing but an MCP server's URL: `agent_python.py SDK URL`.

SDK is `mcp` (the installed one, of whichever version), `fastmcp`, `mcp-remote` or `bearerguard`.
Prints `AUTHORIZE link` when a person has to log in, and at its end, as JSON, what it got.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import parse_qsl, urlsplit

SDK, URL = sys.argv[1:3]
links: list[str] = []


class Callback(BaseHTTPRequestHandler):
    """The redirect URI of an agent on a person's machine."""

    answers: asyncio.Queue[dict[str, str]]
    loop: asyncio.AbstractEventLoop

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.end_headers()
        self.wfile.write(b"Back in the agent.")
        found = dict(parse_qsl(urlsplit(self.path).query))
        if "state" in found:
            self.loop.call_soon_threadsafe(self.answers.put_nowait, found)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def show(link: str) -> None:
    links.append(link)
    sys.stdout.write(f"AUTHORIZE {link}\n")
    sys.stdout.flush()


class Kept:
    """Tokens and the registration, in memory."""

    tokens: Any = None
    client: Any = None

    async def get_tokens(self) -> Any:
        return self.tokens

    async def set_tokens(self, tokens: Any) -> None:
        self.tokens = tokens

    async def get_client_info(self) -> Any:
        return self.client

    async def set_client_info(self, client: Any) -> None:
        self.client = client


def provider(kept: Kept, redirect_uri: str) -> Any:
    """Return the SDK's own authentication."""
    from mcp.client.auth import OAuthClientProvider
    from mcp.shared.auth import OAuthClientMetadata

    async def opened(link: str) -> None:
        show(link)

    async def answered() -> Any:
        found = await Callback.answers.get()
        try:
            from mcp.client.auth import AuthorizationCodeResult
        except ImportError:  # before 2.0
            return found["code"], found.get("state")
        return AuthorizationCodeResult(
            code=found["code"], state=found.get("state"), iss=found.get("iss")
        )

    metadata = OAuthClientMetadata.model_validate(
        {
            "client_name": "Agent in Python",
            "redirect_uris": [redirect_uri],
            "grant_types": ["authorization_code", "refresh_token"],
            "response_types": ["code"],
            "token_endpoint_auth_method": "none",
        }
    )
    return OAuthClientProvider(
        server_url=URL,
        client_metadata=metadata,
        storage=kept,
        redirect_handler=opened,
        callback_handler=answered,
    )


async def called(session: Any, tool: str, **arguments: str) -> str:
    result = await session.call_tool(tool, arguments)
    text: str = result.content[0].text
    if getattr(result, "is_error", None) or getattr(result, "isError", None):
        raise RuntimeError(text)
    return text


async def used(session: Any, spoil: Any) -> dict[str, Any]:
    """Read, delete after a step-up, and read again after the access token has expired."""
    seen: dict[str, Any] = {"sdk": SDK}
    seen["tools"] = [tool.name for tool in (await session.list_tools()).tools]
    seen["read"] = await called(session, "list_recordings")
    seen["logins"] = len(links)
    try:
        seen["write"] = await called(session, "delete_recording", title="Dawn chorus")
    except Exception as error:
        seen["refused"] = str(error)
    seen["steppedUp"] = len(links)
    spoil()
    seen["again"] = await called(session, "list_recordings")
    seen["loginsAtTheEnd"] = len(links)
    return seen


async def main() -> dict[str, Any]:
    Callback.answers = asyncio.Queue()
    Callback.loop = asyncio.get_running_loop()
    listener = HTTPServer(("127.0.0.1", 0), Callback)
    threading.Thread(target=listener.serve_forever, daemon=True).start()
    redirect_uri = f"http://127.0.0.1:{listener.server_port}/callback"
    if SDK == "bearerguard":
        return await with_ours()
    if SDK == "fastmcp":
        return await with_fastmcp()
    if SDK == "mcp-remote":
        return await with_mcp_remote()
    return await with_sdk(redirect_uri)


async def with_sdk(redirect_uri: str) -> dict[str, Any]:
    kept = Kept()
    auth = provider(kept, redirect_uri)

    def spoil() -> None:
        auth.context.token_expiry_time = 1.0

    try:
        import httpx2
        from mcp import Client
        from mcp.client.streamable_http import streamable_http_client
    except ImportError:  # 1.x
        from mcp import ClientSession
        from mcp.client.streamable_http import (  # type: ignore[attr-defined]
            streamablehttp_client,
        )

        async with (
            streamablehttp_client(URL, auth=auth) as (read, write, _),
            ClientSession(read, write) as session,
        ):
            await session.initialize()
            return await used(session, spoil)
    async with (
        httpx2.AsyncClient(auth=auth, timeout=60) as http,
        Client(streamable_http_client(URL, http_client=http), cache=None) as client,
    ):
        return await used(client, spoil)


async def with_fastmcp() -> dict[str, Any]:
    from fastmcp import Client
    from fastmcp.client.auth import OAuth

    class Shown(OAuth):
        async def redirect_handler(self, authorization_url: str) -> None:
            show(authorization_url)

    auth = Shown(callback_host="127.0.0.1")

    def spoil() -> None:
        auth.context.token_expiry_time = 1.0

    class Listed:
        """fastmcp's client returns lists where the SDK returns results."""

        def __init__(self, client: Any) -> None:
            self._client = client

        async def list_tools(self) -> Any:
            return type("Tools", (), {"tools": await self._client.list_tools()})

        async def call_tool(self, name: str, arguments: dict[str, Any]) -> Any:
            return await self._client.call_tool(name, arguments)

    async with Client(URL, auth=auth) as client:
        return await used(Listed(client), spoil)


async def with_mcp_remote() -> dict[str, Any]:
    """Use the proxy by which agents without a network reach remote servers."""
    from mcp import Client, StdioServerParameters
    from mcp.client.stdio import stdio_client

    proxy = Path(__file__).parent / "node_modules" / "mcp-remote" / "dist" / "proxy.js"
    with TemporaryDirectory() as kept:
        environ = {"MCP_REMOTE_CONFIG_DIR": kept, "PATH": os.environ["PATH"], "HOME": kept}
        reading, writing = os.pipe()
        threading.Thread(target=show_links, args=(reading,), daemon=True).start()
        server = StdioServerParameters(command="node", args=[str(proxy), URL], env=environ)
        with os.fdopen(writing, "w") as errlog:
            async with Client(stdio_client(server, errlog=errlog), cache=None) as client:

                def spoil() -> None:
                    for path in Path(kept).rglob("*tokens.json"):
                        found = json.loads(path.read_text()) | {"access_token": "expired"}
                        path.write_text(json.dumps(found))

                return await used(client, spoil)


def show_links(reading: int) -> None:
    """Show the links that a proxy prints."""
    with os.fdopen(reading) as lines:
        for line in lines:
            sys.stderr.write(line)
            if line.startswith("http") and "/oauth/authorize" in line:
                show(line.strip())


async def with_ours() -> dict[str, Any]:
    import httpx2
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client

    from bearerguard.client import (
        ApiLogin,
        BearerAuth,
        ClientRegistration,
        MemoryStorage,
        TokenManager,
    )

    storage = MemoryStorage()
    app = ClientRegistration(name="Agent with bearerguard")
    source = ApiLogin(URL, app=app, storage=storage, open_browser=show)
    manager = TokenManager(source, storage=storage)

    def spoil() -> None:
        manager.renew(manager.lease())

    async with (
        httpx2.AsyncClient(auth=BearerAuth(manager, login=True), timeout=60) as http,
        Client(streamable_http_client(URL, http_client=http), cache=None) as client,
    ):
        return await used(client, spoil)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main())) + "\n")
