"""CORS: pages of which origins may read a response (Fetch standard, §3.2). Never with cookies.

Any page may read the metadata and the JWKS. The token and the revocation endpoint are for the
origins that clients registered. The authorization endpoint is for none: browsers navigate there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from bearerguard.runtime.messages import Request, Response

_MAX_AGE = ("Access-Control-Max-Age", "600")
_USUAL_HEADERS = "Authorization, Content-Type, DPoP"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_PREFLIGHT_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_MAX_NAMES = 64
_MAX_NAME = 128
_MAX_FIELD = 4096


def preflight(request: Request, methods: str, allow_origin: str | None) -> Response:
    """Return the response to an OPTIONS request; `allow_origin` is the allowed origin, or None."""
    headers = [("Allow", f"{methods}, OPTIONS"), ("Vary", _PREFLIGHT_VARY)]
    if allow_origin is not None and request.values(b"access-control-request-method"):
        headers += [
            ("Access-Control-Allow-Origin", allow_origin),
            ("Access-Control-Allow-Methods", methods),
            ("Access-Control-Allow-Headers", _allowed_headers(request)),
            _MAX_AGE,
        ]
    return Response(204, tuple(headers))


def _allowed_headers(request: Request) -> str:
    """Return the header names that a page wants to send, as far as they are well-formed.

    Any may be sent; unknown ones such as `traceparent` are ignored here. `*` is not enough: it does
    not include Authorization.
    """
    value = b",".join(request.values(b"access-control-request-headers"))
    if len(value) > _MAX_FIELD:
        return _USUAL_HEADERS
    names = (name.strip(" \t") for name in value.decode("latin-1").split(","))
    wanted = [name for name in names if len(name) <= _MAX_NAME and _TOKEN.fullmatch(name)]
    return ", ".join(dict.fromkeys(wanted[:_MAX_NAMES])) or _USUAL_HEADERS


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
