"""One worker process of an API that accepts bound tokens alone, and shares their replay store.

python -m tests.faults.dpop_worker PORT REDIS_URL < jwks.json
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn

from bearerguard import Guard, Issuer, asgi
from bearerguard.redis import RedisStore
from tests.faults.worker import AUDIENCE, ISSUER, SECRET


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]}
    )
    await send({"type": "http.response.body", "body": b""})


def main(port: str, redis_url: str) -> None:
    guard = Guard(
        Issuer(ISSUER, audience=AUDIENCE, keys=json.load(sys.stdin)),
        dpop="required",
        replay=RedisStore(redis_url, secret=SECRET),
    )
    middleware = asgi.BearerMiddleware(app, guard=guard)
    uvicorn.run(middleware, host="127.0.0.1", port=int(port), log_level="critical", lifespan="off")


if __name__ == "__main__":
    main(*sys.argv[1:])
