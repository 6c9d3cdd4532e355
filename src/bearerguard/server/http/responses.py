"""The server's direct answers: JSON, never stored by anybody unless meant to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.http.oauth_error import OAuthError

_NEVER_STORED = (("Cache-Control", "no-store"), ("Pragma", "no-cache"))
RETRY_SECONDS = "2"


def private(content: Mapping[str, Any], *headers: tuple[str, str], status: int = 200) -> Response:
    """Return JSON that no cache keeps (RFC 6749 §5.1)."""
    return _json(content, status, (*_NEVER_STORED, *headers))


def public(content: Mapping[str, Any], max_age: int) -> Response:
    """Return JSON that every cache and every page may keep for `max_age` seconds."""
    caching = ("Cache-Control", f"public, max-age={max_age}")
    return _json(content, 200, (caching, ("Access-Control-Allow-Origin", "*")))


def signed(token: str, media_type: str) -> Response:
    """Return a JWT as an answer that no cache keeps."""
    return Response(200, (("Content-Type", media_type), *_NEVER_STORED), token.encode())


def empty(status: int, *headers: tuple[str, str]) -> Response:
    """Return an answer without content."""
    return Response(status, (*_NEVER_STORED, *headers))


def refusal(error: OAuthError) -> Response:
    """Return an error as RFC 6749 §5.2 has it."""
    content = {"error": error.error, "error_description": error.description}
    return private(content, *error.headers, status=error.status)


def unavailable() -> Response:
    """Return what says that the server has trouble, and the request may be tried again."""
    content = {
        "error": "temporarily_unavailable",
        "error_description": "The server cannot answer at the moment",
    }
    return private(content, ("Retry-After", RETRY_SECONDS), status=503)


def too_large() -> Response:
    """Return what says that the request is too long to be read."""
    return refusal(OAuthError("invalid_request", "The request is too large", status=413))


def check_method(request: Request, *allowed: str) -> None:
    """Raise `OAuthError`, which names the methods that an endpoint has, for another one."""
    if request.method not in allowed:
        raise OAuthError(
            "invalid_request",
            "The method is not allowed here",
            reason="wrong_method",
            status=405,
            headers=(("Allow", ", ".join(allowed)),),
            method=request.method,
        )


def not_found() -> Response:
    """Return what says that nothing is here."""
    return private({"error": "not_found"}, status=404)


def _json(
    content: Mapping[str, Any], status: int, headers: tuple[tuple[str, str], ...]
) -> Response:
    lines = (("Content-Type", "application/json"), ("X-Content-Type-Options", "nosniff"), *headers)
    return Response(status, lines, json.dumps(dict(content)).encode())
