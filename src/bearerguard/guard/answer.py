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
from bearerguard.protocol.expiry import EXPOSED_HEADERS, ExpiryHeaders, seconds_left

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


class _Lines(dict[float, tuple[Any, ...]]):
    """Header lines that were made before, by what they tell; at most `size` of them."""

    def __init__(self, size: int, make: Callable[[float], tuple[Any, ...]]) -> None:
        super().__init__()
        self._size = size
        self._make = make

    def __missing__(self, told: float) -> tuple[Any, ...]:
        if len(self) >= self._size:
            self.clear()
        lines = self[told] = self._make(told)
        return lines


class Completion(Generic[AnyStr]):
    """Adds to an app's response headers what the guard owes its client.

    `encode` makes a value, `name` a field name, as the face's protocol has them. `is_due`
    is False when a response with a token, and to no script of another origin, gets nothing.
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
        names = self._expiry.names()
        self.is_due = bool(names) or guard.cache_control is not None
        self._default: list[tuple[AnyStr, AnyStr]] = []
        if guard.cache_control is not None:
            self._default.append((name("Cache-Control"), encode(guard.cache_control)))
        self._cache_control: AnyStr = encode("cache-control")
        self._expiry_names: frozenset[AnyStr] = frozenset(encode(each.lower()) for each in names)
        self._ours: frozenset[AnyStr] = self._expiry_names | {self._cache_control}
        self._lengths = frozenset(map(len, self._ours))  # most names differ in that already
        self._shared: tuple[AnyStr, ...] = (encode("public"), encode("s-maxage"))
        self._comma: AnyStr = encode(",")
        self._star: AnyStr = encode("*")
        # Few different ones are in use at a time: tokens live for an hour, give or take.
        self._passing = _Lines(4096, self._make_passing)
        self._lasting = _Lines(1024, self._make_lasting)

    def complete(
        self,
        headers: Iterable[tuple[AnyStr, AnyStr]],
        principal: Principal,
        with_origin: bool,  # noqa: FBT001 - by position: called for each response
        optional: bool,  # noqa: FBT001
    ) -> list[tuple[AnyStr, AnyStr]]:
        """Return the header lines with those that are missing; what the app set stands.

        `private` keeps shared caches off (RFC 9111 §3.5); expiry is told at this moment.
        """
        lines: Any = headers if type(headers) is list else list(headers)
        over: Any = principal.expires_at
        lengths = self._lengths
        for name, _ in lines:
            if len(name) in lengths and name.lower() in self._ours:
                lines = [*lines, *self._missing(lines, principal)]
                break
        else:
            if over is not None:
                told: tuple[Any, ...] = self._passing[(over - self._clock()) // 1]
                lines = [*lines, *told, *self._lasting[over]]
            else:
                lines = [*lines, *(self._default if principal.is_authenticated else ())]
        if optional:
            self._merge(lines, "Vary", ("Authorization",))
        if with_origin:
            self._merge(lines, "Access-Control-Expose-Headers", exposed(self._expiry))
        completed: list[tuple[AnyStr, AnyStr]] = lines
        return completed

    def _missing(
        self, lines: list[tuple[AnyStr, AnyStr]], principal: Principal
    ) -> Iterable[tuple[Any, Any]]:
        """Return what to add to the lines of an app that said something of it itself."""
        over: Any = principal.expires_at
        present = {name.lower() for name, _ in lines}
        if not principal.is_authenticated:
            return ()
        if any(
            word in each
            for each in _members(lines, self._cache_control, self._comma)
            for word in self._shared
        ):
            return ()  # one response for many must not tell one token's expiry
        default: Iterable[Any] = () if self._cache_control in present else self._default
        if over is None or not self._expiry_names.isdisjoint(present):
            return default
        told: tuple[Any, ...] = self._passing[(over - self._clock()) // 1][len(self._default) :]
        return (*default, *told, *self._lasting[over])

    def _make_passing(self, seconds: float) -> tuple[Any, ...]:
        """Return the lines to begin with: those that change while a token's time runs out."""
        name = self._expiry.expires_in
        told: tuple[Any, ...] = (
            () if name is None else ((self._name(name), self._encode(seconds_left(seconds, 0))),)
        )
        return (*self._default, *told)

    def _make_lasting(self, expires_at: float) -> tuple[Any, ...]:
        """Return the lines that all responses to tokens of this expiry get."""
        name, value = self._expiry.expires_at, self._expiry.format_at
        return () if name is None else ((self._name(name), self._encode(value(expires_at))),)

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
