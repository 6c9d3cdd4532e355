"""An app of no framework, and calls of it without a server."""

from __future__ import annotations

import json
from typing import Any

import anyio

from bearerguard.mcp import get_principal


def message(method: str, **params: Any) -> dict[str, Any]:
    """Return a request of JSON-RPC."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


class App:
    """An app of no framework: records what it received, and responds 200."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.callers: list[Any] = []
        self.users: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.callers.append(get_principal())
        self.users.append(scope["user"])
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message["body"]
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def call(
    app: Any,
    body: Any = b"",
    headers: dict[str, str] | None = None,
    *,
    token: str | None = None,
    method: str = "POST",
    path: str = "/mcp",
    kind: str = "http",
    messages: list[Any] | None = None,
) -> list[Any]:
    """Call an app with a request of two chunks; return the messages that it sent."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    waiting = (
        messages
        if messages is not None
        else [
            {"type": "http.request", "body": content[:9], "more_body": True},
            {"type": "http.request", "body": content[9:]},
        ]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    fields = {**({} if token is None else {"Authorization": f"Bearer {token}"}), **(headers or {})}
    raw = [(name.lower().encode(), value.encode("latin-1")) for name, value in fields.items()]
    scope = {"type": kind, "method": method, "path": path, "headers": raw}
    anyio.run(app, scope, receive, send)
    return sent


def status(sent: list[Any]) -> int:
    found: int = sent[0]["status"]
    return found
