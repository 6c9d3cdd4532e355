"""Which pages of other origins may read an answer (Fetch standard, §3.2). Never with cookies.

The metadata and the JWKS are everybody's. The token and the revocation endpoint answer the
origins that clients registered; the authorization endpoint none, because people go there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from bearerguard.messages import Request, Response

_MAX_AGE = ("Access-Control-Max-Age", "600")


def preflight(request: Request, methods: str, allow_origin: str | None) -> Response:
    """Answer an OPTIONS request; `allow_origin` is the origin that may ask, or None."""
    headers = [("Allow", f"{methods}, OPTIONS"), ("Vary", "Origin")]
    if allow_origin is not None and request.values(b"access-control-request-method"):
        headers += [
            ("Access-Control-Allow-Origin", allow_origin),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", "Authorization, Content-Type, DPoP"),
            _MAX_AGE,
        ]
    return Response(204, tuple(headers))


def registered_origin(request: Request, is_origin: Callable[[str], bool]) -> str | None:
    """Return the request's origin if a client registered it."""
    origins = request.values(b"origin")
    if len(origins) != 1:
        return None
    origin = origins[0].decode("ascii", "replace")
    return origin if is_origin(origin) else None


def readable(response: Response, origin: str | None) -> Response:
    """Let the pages of `origin` read a response that differs by origin."""
    headers = [("Vary", "Origin")]
    if origin is not None:
        headers += [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, DPoP-Nonce"),
        ]
    return replace(response, headers=(*response.headers, *headers))
