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
# A framework sets these itself where a refusal passes through its error handlers.
_BODY_HEADERS = frozenset({"content-type", "content-length"})
# The headers that an error handler's own response must still have (RFC 9110 §11.6.1).
_REQUIRED_HEADERS = frozenset({"www-authenticate", "cache-control", "retry-after", "dpop-nonce"})


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
        headers += decision.headers
    if optional:
        headers.append(("Vary", "Authorization"))
    if has_origin:
        headers.append(("Access-Control-Expose-Headers", ", ".join(exposed(guard.expiry_headers))))
    return Response(decision.status, tuple(headers), b"" if method == "HEAD" else body)


def joined_headers(response: Response) -> dict[str, str]:
    """Return the headers of a refusal without those of its body, one value for each name.

    For frameworks whose exceptions have a dict of headers: values of one name are joined by commas
    (RFC 9110 §5.3).
    """
    headers: dict[str, str] = {}
    for name, value in response.headers:
        if name.lower() not in _BODY_HEADERS:
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def kept_headers(response: Response) -> dict[str, list[str]]:
    """Return the headers of a refusal that an error handler's own response must still have."""
    kept: dict[str, list[str]] = {}
    for name, value in response.headers:
        if name.lower() in _REQUIRED_HEADERS:
            kept.setdefault(name, []).append(value)
    return kept


def may_replace(response: Response | None, status: int) -> bool:
    """Whether a response of this status may be sent where a request was refused.

    `response` is the refusal that the extension raised, None if the framework did not call it. An
    error handler may redirect a browser to a login, or respond 404; it must not turn a refusal into
    a success or a server error.
    """
    if response is None:
        return False
    is_no_success = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_no_success or status == response.status


def problem(decision: Deny | Unavailable) -> dict[str, str | int]:
    """Return the members of a refusal's body (RFC 9457); what the challenge names, where known."""
    members: dict[str, str | int] = {
        "type": "about:blank",
        "title": HTTPStatus(decision.status).phrase,
        "status": decision.status,
        "detail": decision.reason.description,
    }
    if isinstance(decision, Deny):
        members |= {"error": decision.error} if decision.error else {}
        members |= {"scope": decision.scope} if decision.scope else {}
        if decision.acr_values:
            members["acr_values"] = " ".join(decision.acr_values)
        if decision.max_age is not None:
            members["max_age"] = decision.max_age
    return members


def _problem(decision: Deny | Unavailable) -> tuple[str, bytes]:
    return PROBLEM_MEDIA_TYPE, json.dumps(problem(decision)).encode()
