"""The HTTP libraries, each with its `BearerAuth`: one way to send a request by any of them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import httpx2
import requests

from bearerguard.client import BearerAuth, TokenManager
from bearerguard.client import httpx as for_httpx
from bearerguard.client import requests as for_requests

NAMES = ["httpx2", "httpx2-async", "httpx", "httpx-async", "requests"]
_ASYNC: dict[str, tuple[Any, Any]] = {
    "httpx2-async": (httpx2.AsyncClient, BearerAuth),
    "httpx-async": (httpx.AsyncClient, for_httpx.BearerAuth),
}


@contextmanager
def caller(name: str, tokens: TokenManager, **options: Any) -> Generator[Callable[..., Any]]:
    """Return what sends a request, and follows redirects."""
    if name == "httpx2":
        auth = BearerAuth(tokens, **options)
        with httpx2.Client(auth=auth, follow_redirects=True) as client:
            yield client.request
    elif name == "httpx":
        old_auth = for_httpx.BearerAuth(tokens, **options)
        with httpx.Client(auth=old_auth, follow_redirects=True) as old:
            yield old.request
    elif name == "requests":
        with requests.Session() as session:
            session.auth = for_requests.BearerAuth(tokens, **options)
            yield session.request
    else:
        make, kind = _ASYNC[name]

        def call(*arguments: Any, **fields: Any) -> Any:
            async def main() -> Any:
                async with make(auth=kind(tokens, **options), follow_redirects=True) as client:
                    return await client.request(*arguments, **fields)

            return anyio.run(main, backend="trio" if "httpx2" in name else "asyncio")

        yield call
