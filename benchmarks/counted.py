"""The process whose instructions are counted: makes everything ready, then forks its cases.

usage: python -m benchmarks.counted    (under callgrind; prints `name count pid` lines)

Two children of this process run each case, N and 2 N times: what a start costs cancels in the
difference, and the interpreter starts once. Only the guard reads a clock.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
from collections.abc import Callable

from bearerguard.asgi import BearerMiddleware as ASGIMiddleware
from bearerguard.wsgi import BearerMiddleware as WSGIMiddleware
from benchmarks import calling_wsgi
from benchmarks.calling_asgi import receive, scope, send
from benchmarks.floor import floor
from benchmarks.peers.asgi import ASGIApp
from benchmarks.peers.asgi import bare as asgi_bare
from benchmarks.peers.wsgi import bare as wsgi_bare
from benchmarks.token_issuer import TokenIssuer

COUNT = 100
# The interpreter specialises code that runs often (PEP 659): it is counted after that.
_WARM_UP = 300


def asgi(app: ASGIApp, token: bytes) -> Callable[[int], None]:
    """Return requests to an ASGI app, driven without an event loop, as they never suspend."""

    def run(count: int) -> None:
        for _ in range(count):
            request = app(scope(token), receive, send).__await__()
            try:
                next(request)
            except StopIteration:
                continue
            raise RuntimeError("a warm request suspended")

    return run


def cases() -> dict[str, Callable[[int], object]]:
    """Return what is counted: the floor, and each app alone and behind our middleware."""
    # HS256 signs alike in every run; how a token is signed does not matter once it is known.
    issuer = TokenIssuer("HS256")
    token = issuer.token()
    guard, plain = issuer.guard(), issuer.plain_guard()
    octets = token.encode()
    return {
        "floor": floor(token).run,
        "asgi bare": asgi(asgi_bare, octets),
        "asgi plain": asgi(ASGIMiddleware(asgi_bare, guard=plain), octets),
        "asgi headers": asgi(ASGIMiddleware(asgi_bare, guard=guard), octets),
        "wsgi bare": calling_wsgi.case(wsgi_bare, token).run,
        "wsgi headers": calling_wsgi.case(WSGIMiddleware(wsgi_bare, guard=guard), token).run,
    }


def main() -> None:
    """Warm up all cases, then run each in two children."""
    logging.disable(logging.CRITICAL)
    ready = cases()
    for run in ready.values():
        run(_WARM_UP)
    gc.collect()
    # A collection would fall into some children and not into others.
    gc.disable()
    for name, run in ready.items():
        for count in (COUNT, 2 * COUNT):
            child = os.fork()
            if child == 0:
                run(count)
                os._exit(0)
            print(f"{child} {count} {name}", flush=True)
            _, status = os.waitpid(child, 0)
            if status != 0:
                sys.exit(f"{name}: a child ended with status {status}")


if __name__ == "__main__":
    main()
