"""An API for gunicorn: a guard that follows the revocations in a Redis.

gunicorn tests.faults.many_api:app, with REDIS_URL, JWKS, ISSUER, AUDIENCE and SECRET set.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from bearerguard import Guard, Issuer, Revocations, wsgi
from bearerguard.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Iterable

_ISSUER = Issuer(
    os.environ["ISSUER"],
    audience=os.environ["AUDIENCE"],
    keys=json.loads(os.environ["JWKS"]),
)
_STORE = RedisStore(os.environ["REDIS_URL"], secret=os.environ["SECRET"])


def api(_environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"in"]


app = wsgi.BearerMiddleware(api, guard=Guard(_ISSUER, revocations=Revocations(_STORE)))
