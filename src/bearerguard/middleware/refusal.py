"""The response to a refused request: status, challenges and body (RFC 6750 §3, RFC 9457).

Which challenge a refusal has is decided in `guard.decision`, its expiry header in
`expiry_headers`.
"""

from __future__ import annotations

import json
from http import HTTPStatus

from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.middleware.expiry_headers import exposed, of_refusal
from bearerguard.runtime.messages import Response

PROBLEM_MEDIA_TYPE = "application/problem+json"  # RFC 9457


def refusal(
    guard: Guard,
    decision: Deny | Unavailable,
    *,
    method: str = "GET",
    has_origin: bool = False,
    optional: bool = False,
) -> Response:
    """Return the response that refuses a request.

    `has_origin`: whether the request had an Origin; `optional`: whether it may have passed
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
        headers += of_refusal(guard, decision)
    if optional:
        headers.append(("Vary", "Authorization"))
    if has_origin:
        headers.append(("Access-Control-Expose-Headers", ", ".join(exposed(guard.expiry_headers))))
    return Response(decision.status, tuple(headers), b"" if method == "HEAD" else body)


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
    return PROBLEM_MEDIA_TYPE, json.dumps(problem).encode()
