"""A worker of the fleet: one API behind both faces, which also revokes on demand.

Started by ordinary servers, as `worker:asgi` or `worker:wsgi`. A revocation is answered
with 204 when it is certain and 503 when it is not.
"""

from __future__ import annotations

import json
import os
from http import HTTPStatus
from pathlib import Path
from typing import Any

from bearerguard import Guard, Issuer
from bearerguard.asgi import BearerMiddleware as AsgiBearer
from bearerguard.errors import RevocationFailed
from bearerguard.guard.revocation import Revocations
from bearerguard.redis import RedisStore
from bearerguard.wsgi import BearerMiddleware as WsgiBearer

_REVOKE = "/revoke/"

guard = Guard(
    Issuer(
        os.environ["ISSUER"],
        audience=os.environ["AUDIENCE"],
        keys=json.loads(Path(os.environ["KEYS"]).read_text()),
    ),
    revocations=Revocations(RedisStore(os.environ["STORE"], secret=os.environ["STORE_SECRET"])),
)


async def _asgi(scope: Any, _receive: Any, send: Any) -> None:
    status = HTTPStatus.OK
    if scope["path"].startswith(_REVOKE):
        try:
            await guard.arevoke(token_id=scope["path"].removeprefix(_REVOKE))
            status = HTTPStatus.NO_CONTENT
        except RevocationFailed:
            status = HTTPStatus.SERVICE_UNAVAILABLE
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _wsgi(environ: Any, start_response: Any) -> list[bytes]:
    status = HTTPStatus.OK
    if environ["PATH_INFO"].startswith(_REVOKE):
        try:
            guard.revoke(token_id=environ["PATH_INFO"].removeprefix(_REVOKE))
            status = HTTPStatus.NO_CONTENT
        except RevocationFailed:
            status = HTTPStatus.SERVICE_UNAVAILABLE
    headers = [] if status == HTTPStatus.NO_CONTENT else [("Content-Length", "0")]
    start_response(f"{status} {status.phrase}", headers)
    return [b""]


asgi = AsgiBearer(_asgi, guard=guard, exclude=(_REVOKE + "*",))
wsgi = WsgiBearer(_wsgi, guard=guard, exclude=(_REVOKE + "*",))
