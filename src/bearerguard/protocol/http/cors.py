"""The response to a CORS preflight (Fetch, §3.2.2 and §4.8)."""

from __future__ import annotations

import re
from collections.abc import Callable

from bearerguard.runtime.messages import Response

_MAX_AGE = ("Access-Control-Max-Age", "600")
_USUAL_HEADERS = "Authorization, Content-Type, DPoP"
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2
_VARY = "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
_MAX_NAMES = 64
_MAX_NAME = 128
_MAX_FIELD = 4096


def preflight(
    methods: str, allow_origin: str | None, header: Callable[[str], str | None]
) -> Response:
    """Return the response to an OPTIONS request.

    Args:
        methods: those that the path has, such as `GET, HEAD`.
        allow_origin: the allowed origin, `*` for all, None for none.
        header: returns the value of a header field by its lower-case name, None for none.
    """
    headers = [("Allow", f"{methods}, OPTIONS"), ("Vary", _VARY)]
    if allow_origin is not None and header("access-control-request-method"):
        headers += [
            ("Access-Control-Allow-Origin", allow_origin),
            ("Access-Control-Allow-Methods", methods),
            (
                "Access-Control-Allow-Headers",
                _allowed(header("access-control-request-headers") or ""),
            ),
            _MAX_AGE,
        ]
    return Response(204, tuple(headers))


def _allowed(requested: str) -> str:
    """Return the header names that a page wants to send, as far as they are well-formed.

    Any may be sent; unknown ones such as `traceparent` are ignored here. `*` is not enough: it does
    not include Authorization.
    """
    if len(requested) > _MAX_FIELD:
        return _USUAL_HEADERS
    names = (name.strip(" \t") for name in requested.split(","))
    wanted = [name for name in names if len(name) <= _MAX_NAME and _TOKEN.fullmatch(name)]
    return ", ".join(dict.fromkeys(wanted[:_MAX_NAMES])) or _USUAL_HEADERS
