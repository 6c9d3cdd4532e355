"""Calls of an MCP server, as clients of this revision and of earlier ones send them."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx2

from bearerguard.testing import LocalIssuer
from tests.mcp.bare import message

MODERN, LEGACY = "2026-07-28", "2025-11-25"
_ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
_HTTP = httpx2.Client()
_META = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}


class McpClient:
    """Sends messages of either revision to one server, with the token of one caller."""

    def __init__(self, url: str, token: str, revision: str = LEGACY) -> None:
        self.url = url
        self.headers = {**_ACCEPT, "Authorization": f"Bearer {token}"}
        self.revision = revision
        self.session: str | None = None

    def post(self, content: Any, headers: dict[str, str] | None = None) -> httpx2.Response:
        more = {"MCP-Protocol-Version": self.revision} if self.revision else {}
        if self.session is not None:
            more["Mcp-Session-Id"] = self.session
        sent = {**self.headers, **more, **(headers or {})}
        return _HTTP.post(self.url, content=json.dumps(content).encode(), headers=sent)

    def send(self, method: str, **params: Any) -> httpx2.Response:
        """Send a request as a client of the revision does."""
        if self.revision != MODERN:
            return self.post(message(method, **params))
        headers = {"Mcp-Method": method}
        name = params.get("name", params.get("uri"))
        if name is not None:
            headers["Mcp-Name"] = header_value(name)
        return self.post(message(method, _meta=_META, **params), headers)

    def call(self, tool: str, **arguments: Any) -> httpx2.Response:
        return self.send("tools/call", name=tool, arguments=arguments)

    def request(self, method: str) -> httpx2.Response:
        """Send a request without a message, for the session."""
        assert self.session is not None
        headers = {**self.headers, "Mcp-Session-Id": self.session}
        return _HTTP.request(method, self.url, headers=headers)

    def open(self) -> httpx2.Response:
        """Open a session, as revisions before 2026-07-28 have it."""
        client = {"name": "test", "version": "1"}
        response = self.send(
            "initialize", protocolVersion=LEGACY, capabilities={}, clientInfo=client
        )
        if response.status_code == 200:
            self.session = response.headers.get("mcp-session-id")
            self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return response


def client(url: str, issuer: LocalIssuer, *scopes: str, **more: Any) -> McpClient:
    revision = more.pop("revision", LEGACY)
    return McpClient(url, issuer.token(scopes=scopes, **more), revision)


def header_value(text: str) -> str:
    if text.isascii() and text.isprintable() and text == text.strip():
        return text
    return f"=?base64?{base64.b64encode(text.encode()).decode()}?="


def result(response: httpx2.Response) -> Any:
    """Return the result of a call, sent as JSON or as a stream of events."""
    assert response.status_code == 200, response.text
    text = response.text
    if response.headers["content-type"].startswith("text/event-stream"):
        text = next(line[6:] for line in text.splitlines() if line.startswith("data: {"))
    content = json.loads(text)
    assert "result" in content, content
    return content["result"]


def structured(response: httpx2.Response) -> Any:
    content = result(response)["structuredContent"]
    return content.get("result", content)
