"""Which pages of other origins may read an answer (Fetch standard, §3.2). Never with cookies.

The metadata and the JWKS are everybody's. The token and the revocation endpoint answer the
origins that clients registered; the authorization endpoint none, because people go there.
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
_MAX_LINE = 4096


def preflight(request: Request, methods: str, allow_origin: str | None) -> Response:
    """Answer an OPTIONS request; `allow_origin` is the origin that may ask, or None."""
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
    """Return the header names that a page wants to send, if they are such.

    A page may send any: what it sends beside the usual ones (`traceparent`, `X-Requested-With`,
    `MCP-Protocol-Version`) is ignored here. `*` would not do: it leaves out Authorization.
    """
    line = b",".join(request.values(b"access-control-request-headers"))
    if len(line) > _MAX_LINE:
        return _USUAL_HEADERS
    names = (name.strip(" \t") for name in line.decode("latin-1").split(","))
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
    """Let the pages of `origin` read a response that differs by origin."""
    headers = [("Vary", "Origin")]
    if origin is not None:
        headers += [
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Expose-Headers", "WWW-Authenticate, Retry-After, DPoP-Nonce"),
        ]
    return replace(response, headers=(*response.headers, *headers))
