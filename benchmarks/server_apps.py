"""The apps that the part `server` starts: one ASGI app, bare and behind each guard.

A server imports this module in a process of its own and makes the app that its command line
names; `BENCHMARK_JWKS` is the file with the issuer's keys.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from bearerguard import Guard, Issuer
from bearerguard.asgi import BearerMiddleware
from benchmarks.peers.asgi import BODY, START, ASGIApp
from benchmarks.peers.asgi import bare as _bare
from benchmarks.peers.starlette_pyjwt import protect
from benchmarks.token_issuer import AUDIENCE, ISSUER

# Fewer than there are cold tokens, so that each was forgotten before it comes again.
COLD_CACHE = 100

_ADDED = (
    (b"cache-control", b"private"),
    (b"access-token-expires-in", b"21599"),
    (b"access-token-expires-at", b"@1795580920"),
)


def _jwks() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["BENCHMARK_JWKS"]).read_text())
    return found


def _guard(**options: Any) -> Guard:
    return Guard(Issuer(ISSUER, audience=AUDIENCE, keys=_jwks()), **options)


def bare() -> ASGIApp:
    """Return the app alone."""
    return _bare


def bare_headers() -> ASGIApp:
    """Return the app alone, with as many and as long headers as `warm` adds."""
    own: Any = START["headers"]
    start = {**START, "headers": [*own, *_ADDED]}

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start)
        await send(BODY)

    return app


def pyjwt() -> ASGIApp:
    """Return the app behind Starlette's middleware, which calls PyJWT for every request."""
    return protect(_bare, _jwks()["keys"][0], ISSUER)


def warm() -> ASGIApp:
    """Return the app behind our middleware with its defaults, expiry headers included."""
    return BearerMiddleware(_bare, guard=_guard())


def plain() -> ASGIApp:
    """Return the app behind our middleware, which adds nothing to a response."""
    return BearerMiddleware(_bare, guard=_guard(expiry_headers=None, cache_control=None))


def cold() -> ASGIApp:
    """Return the same with so small a cache that every token must be verified."""
    return BearerMiddleware(_bare, guard=_guard(cache_size=COLD_CACHE))
