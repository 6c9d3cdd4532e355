"""The process whose instructions are counted: makes everything ready, then forks its cases.

usage: python -m benchmarks.counted    (under callgrind; prints `name count pid` lines)

Each case is run by children of this process, once N and once 2 N times: what both cost to
start cancels in the difference, and the interpreter starts once. No clock is read but by the
guard itself.
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
from benchmarks.ours import silent_guard
from benchmarks.peers.asgi import ASGIApp
from benchmarks.peers.asgi import bare as asgi_bare
from benchmarks.peers.wsgi import bare as wsgi_bare
from benchmarks.world import World

COUNT = 100
# The interpreter specialises what runs often (PEP 659): counted is what it settles on.
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
    """Return what is counted: the floor, each app alone, and behind our faces."""
    # HS256 signs alike in every run; how a token is signed does not matter once it is known.
    world = World("HS256")
    token = world.token()
    guard, silent = world.guard(), silent_guard(world)
    octets = token.encode()
    return {
        "floor": floor(token).run,
        "asgi bare": asgi(asgi_bare, octets),
        "asgi silent": asgi(ASGIMiddleware(asgi_bare, guard=silent), octets),
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
