"""The server's JSON responses. No cache keeps them, except public ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError

_NEVER_STORED = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
RETRY_SECONDS = "2"


def private(content: Mapping[str, Any], *headers: tuple[str, str], status: int = 200) -> Response:
    """Return JSON that no cache keeps (RFC 6749 §5.1)."""
    return _json(content, status, (*_NEVER_STORED, *headers))


def public(content: Mapping[str, Any], max_age: int) -> Response:
    """Return JSON that any page may read and any cache may keep for `max_age` seconds."""
    caching = ("Cache-Control", f"public, max-age={max_age}")
    return _json(content, 200, (caching, ("Access-Control-Allow-Origin", "*")))


def signed(token: str, media_type: str) -> Response:
    """Return a JWT that no cache keeps (RFC 9701 §5)."""
    return Response(200, (("Content-Type", media_type), *_NEVER_STORED), token.encode())


def empty(status: int, *headers: tuple[str, str]) -> Response:
    """Return a response without a body."""
    return Response(status, (*_NEVER_STORED, *headers))


def refusal(error: OAuthError) -> Response:
    """Return an error response (RFC 6749 §5.2)."""
    content = {"error": error.error, "error_description": error.description}
    return private(content, *error.headers, status=error.status)


def unavailable() -> Response:
    """Return 503: the server has a problem, and the request may be repeated."""
    content = {
        "error": names.TEMPORARILY_UNAVAILABLE,
        "error_description": "The server cannot answer at the moment",
    }
    return private(content, ("Retry-After", RETRY_SECONDS), status=503)


def too_large() -> Response:
    """Return 413: the body is too long."""
    return refusal(OAuthError(names.INVALID_REQUEST, "The request is too large", status=413))


def check_method(request: Request, *allowed: str) -> None:
    """Raise `OAuthError` (405) unless the endpoint has the request's method."""
    if request.method not in allowed:
        raise OAuthError(
            names.INVALID_REQUEST,
            "The method is not allowed here",
            reason="wrong_method",
            status=405,
            headers=(("Allow", ", ".join(allowed)),),
            method=request.method,
        )


def not_found() -> Response:
    """Return 404."""
    return private({"error": "not_found"}, status=404)


def _json(
    content: Mapping[str, Any], status: int, headers: tuple[tuple[str, str], ...]
) -> Response:
    typed = (("Content-Type", names.JSON), ("X-Content-Type-Options", "nosniff"), *headers)
    return Response(status, typed, json.dumps(dict(content)).encode())
