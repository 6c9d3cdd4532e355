"""What a face answers: a refusal as a whole response, an app's response completed.

One rule book for both faces: ASGI's headers are bytes and WSGI's are text, so what
completes a response is written over either.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, AnyStr, Generic

from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.messages import Response
from bearerguard.principal import Principal
from bearerguard.protocol.expiry import EXPOSED_HEADERS, ExpiryHeaders

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


class Completion(Generic[AnyStr]):
    """Adds to an app's response headers what the guard owes its client.

    `encode` makes a value, `name` a field name, as the face's protocol has them.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        encode: Callable[[str], AnyStr],
        name: Callable[[str], AnyStr],
    ) -> None:
        self._encode: Callable[[str], AnyStr] = encode
        self._name: Callable[[str], AnyStr] = name
        self._clock = guard.clock
        self._expiry = guard.expiry_headers
        self._expiry_names: frozenset[AnyStr] = frozenset(
            encode(each.lower()) for each in self._expiry.names()
        )
        self._private: tuple[AnyStr, AnyStr] = (name("Cache-Control"), encode("private"))
        self._cache_control: AnyStr = encode("cache-control")
        self._shared: tuple[AnyStr, ...] = (encode("public"), encode("s-maxage"))
        self._comma: AnyStr = encode(",")
        self._star: AnyStr = encode("*")

    def complete(
        self,
        headers: Iterable[tuple[AnyStr, AnyStr]],
        principal: Principal,
        *,
        with_origin: bool,
        optional: bool,
    ) -> list[tuple[AnyStr, AnyStr]]:
        """Return the header lines with those that are missing; what the app set stands.

        `private` keeps shared caches off (RFC 9111 §3.5); expiry is told at this moment.
        """
        lines = list(headers)
        if principal.is_authenticated:
            self._complete_authenticated(lines, principal.expires_at)
        if optional:
            self._merge(lines, "Vary", ("Authorization",))
        if with_origin:
            self._merge(lines, "Access-Control-Expose-Headers", exposed(self._expiry))
        return lines

    def _complete_authenticated(
        self, lines: list[tuple[AnyStr, AnyStr]], expires_at: float | None
    ) -> None:
        present = {name.lower() for name, _ in lines}
        if self._cache_control not in present:
            lines.append(self._private)
        elif any(
            word in each
            for each in _members(lines, self._cache_control, self._comma)
            for word in self._shared
        ):
            return  # one response for many clients must not tell one token's expiry
        if expires_at is not None and self._expiry_names.isdisjoint(present):
            for name, value in self._expiry.fields(expires_at, self._clock()):
                lines.append((self._name(name), self._encode(value)))

    def _merge(self, lines: list[tuple[AnyStr, AnyStr]], field: str, names: Iterable[str]) -> None:
        """Add `names` to a field that lists names, keeping those it has."""
        known = _members(lines, self._encode(field.lower()), self._comma)
        if field == "Vary" and self._star in known:
            return
        missing = [name for name in names if self._encode(name.lower()) not in known]
        if missing:
            lines.append((self._name(field), self._encode(", ".join(missing))))


def _members(lines: Iterable[tuple[Any, Any]], field: object, comma: Any) -> set[Any]:
    """Return the members of all lines of a field that is a list, in lower case."""
    return {
        member.strip().lower()
        for name, value in lines
        if name.lower() == field
        for member in value.split(comma)
    }
