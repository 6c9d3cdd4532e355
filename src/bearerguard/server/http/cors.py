"""CORS: pages of which origins may read a response (Fetch standard, §3.2). Never with cookies.

Any page may read the metadata and the JWKS. The token and the revocation endpoint are for the
origins that clients registered. The authorization endpoint is for none: browsers navigate there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bearerguard.protocol.http import cors
from bearerguard.runtime.messages import Request, Response


def preflight(request: Request, methods: str, allow_origin: str | None) -> Response:
    """Return the response to an OPTIONS request; `allow_origin` is the allowed origin, or None."""
    return cors.preflight(methods, allow_origin, request.header)


def registered_origin(request: Request, is_origin: Callable[[str], bool]) -> str | None:
    """Return the request's origin if a client registered it."""
    origins = request.values(b"origin")
    if len(origins) != 1:
        return None
    origin = origins[0].decode("ascii", "replace")
    return origin if is_origin(origin) else None


def readable(response: Response, origin: str | None) -> Response:
    """Return the response, readable for pages of `origin`."""
    headers = [("Vary", "Origin")]
    if origin is not None:
        headers += [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, DPoP-Nonce"),
        ]
    return replace(response, headers=(*response.headers, *headers))
