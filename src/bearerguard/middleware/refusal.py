"""What a face answers to a request that is refused: a whole response (RFC 6750 §3, RFC 9457)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from http import HTTPStatus

from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.protocol.http.expiry import EXPOSED_HEADERS, ExpiryHeaders
from bearerguard.runtime.messages import Response

_PROBLEM = "application/problem+json"  # RFC 9457


def refusal(
    guard: Guard,
    decision: Deny | Unavailable,
    *,
    method: str = "GET",
    with_origin: bool = False,
    optional: bool = False,
) -> Response:
    """Return the response that refuses a request (RFC 6750 §3, RFC 9457).

    `with_origin` says that the request had an Origin, `optional` that it might have passed
    without a token.
    """
    media_type, body = (guard.denial_body or _problem)(decision)
    headers = [
        ("Content-Type", media_type),
        ("Content-Length", str(len(body))),
        ("Cache-Control", "no-store"),
    ]
    if isinstance(decision, Unavailable):
        headers.append(("Retry-After", str(decision.retry_after)))
    else:
        headers += [("WWW-Authenticate", each.build()) for each in decision.challenges]
        headers += _expiry(guard, decision)
    if optional:
        headers.append(("Vary", "Authorization"))
    if with_origin:
        headers.append(("Access-Control-Expose-Headers", ", ".join(exposed(guard.expiry_headers))))
    return Response(decision.status, tuple(headers), b"" if method == "HEAD" else body)


def exposed(expiry: ExpiryHeaders) -> tuple[str, ...]:
    """Return what a browser script must be able to read, with the expiry headers in use."""
    standard = ExpiryHeaders().names()
    return (
        *(name for name in EXPOSED_HEADERS if name not in standard),
        *expiry.names(),
    )


def _problem(decision: Deny | Unavailable) -> tuple[str, bytes]:
    problem = {
        "type": "about:blank",
        "title": HTTPStatus(decision.status).phrase,
        "status": decision.status,
        "detail": decision.reason.description,
    }
    if isinstance(decision, Deny):
        problem |= {"error": decision.error} if decision.error else {}
        problem |= {"scope": decision.scope} if decision.scope else {}
    return _PROBLEM, json.dumps(problem).encode()


def _expiry(guard: Guard, decision: Deny) -> Iterable[tuple[str, str]]:
    names = guard.expiry_headers
    if decision.expired:
        return () if names.expires_in is None else ((names.expires_in, "0"),)
    expires_at = decision.principal.expires_at
    return () if expires_at is None else names.fields(expires_at, guard.clock())
