"""MCP servers: `protect` for any ASGI app, `GuardTokenVerifier` for the SDKs' own authentication.

`docs/mcp.md` shows both in use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.mcp.context import get_principal
from bearerguard.mcp.protection import protect
from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.mcp.token_verifier import GuardTokenVerifier, UnavailableMiddleware

__all__ = ["GuardTokenVerifier", "UnavailableMiddleware", "get_principal", "protect"]

# An app of its own needs no SDK, and is protected without it.
__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(
    __name__,
    dict.fromkeys(("GuardTokenVerifier", "UnavailableMiddleware"), "token_verifier"),
)
