"""The headers that a guard adds to an app's response: the token's expiry, and who may cache it.

ASGI's headers are bytes and WSGI's are str; these rules are generic over both. The format of the
expiry headers is in `protocol.http.expiry`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, AnyStr, Generic, TypeAlias

from bearerguard.guard.decision import Deny
from bearerguard.guard.guard import Guard
from bearerguard.principal import Principal
from bearerguard.protocol.http.expiry import EXPOSED_HEADERS, ExpiryHeaders, seconds_left

Headers: TypeAlias = list[tuple[AnyStr, AnyStr]]

# How many header names are cached, and their longest length: clients and apps may send any.
MAX_NAMES, MAX_NAME_LENGTH = 500, 64

_ALWAYS = (-math.inf, math.inf)
_NEVER = (math.inf, -math.inf)


class TokenHeaders(Generic[AnyStr]):
    """The headers that responses to one token get.

    `current` is (after, until, headers): these are correct while after < now <= until, in Unix
    seconds. It is replaced whole. `expires_at` is infinite if no header depends on it.
    """

    __slots__ = ("current", "expires_at")

    current: tuple[float, float, Headers[AnyStr]]
    expires_at: float

    def __init__(self, expires_at: float, current: tuple[float, float, Headers[AnyStr]]) -> None:
        self.expires_at = expires_at
        self.current = current


class ResponseHeaders(Generic[AnyStr]):
    """Adds the guard's headers to the responses of an app.

    Args:
        guard: whose options `expiry_headers` and `cache_control` choose the headers.
        encode: encodes a header's value for the adapter's protocol.
        name: encodes a header's name.

    Attributes:
        names: the names of the headers that a response to a token may get, in lower case.
        is_empty: whether such a response gets none.
        complete: takes the headers of a token and those of an app's response, and returns both
            in a new list. Headers that the app has set stay as they are.
    """

    is_empty: bool
    _encode: Callable[[str], AnyStr]
    _name: Callable[[str], AnyStr]
    _always: Headers[AnyStr]
    _cache_control: AnyStr
    _expiry_names: frozenset[AnyStr]
    names: frozenset[AnyStr]
    complete: Callable[[TokenHeaders[AnyStr], Iterable[tuple[AnyStr, AnyStr]]], Headers[AnyStr]]
    _shared: tuple[AnyStr, ...]
    _comma: AnyStr
    _star: AnyStr
    _seconds_left: _Cached[AnyStr]
    _moments: _Cached[AnyStr]

    def __init__(
        self,
        guard: Guard,
        *,
        encode: Callable[[str], AnyStr],
        name: Callable[[str], AnyStr],
    ) -> None:
        self._encode = encode
        self._name = name
        self._guard = guard
        self._expiry = guard.expiry_headers
        names = self._expiry.names()
        self.is_empty = not names and guard.cache_control is None
        self._always = []
        if guard.cache_control is not None:
            self._always = [(name("Cache-Control"), encode(guard.cache_control))]
        self._cache_control = encode("cache-control")
        self._expiry_names = frozenset(encode(each.lower()) for each in names)
        self.names = self._expiry_names | {self._cache_control}
        self._shared = (encode("public"), encode("s-maxage"))
        self._comma = encode(",")
        self._star = encode("*")
        # Few different values are in use at a time: most tokens live for about an hour.
        self._seconds_left = _Cached(4096, self._of_seconds_left)
        self._moments = _Cached(1024, self._of_moment)
        self._prepare()
        guard.on_state_replaced(self._prepare)

    def _prepare(self) -> None:
        self.complete = self._completing()

    def of_token(self, principal: Principal) -> TokenHeaders[AnyStr]:
        """Return the headers for the responses to one token; none for `ANONYMOUS`."""
        if not principal.is_authenticated:
            return TokenHeaders(math.inf, (*_ALWAYS, []))
        if principal.expires_at is None:
            return TokenHeaders(math.inf, (*_ALWAYS, self._always))
        return TokenHeaders(principal.expires_at, (*_NEVER, []))

    def _completing(
        self,
    ) -> Callable[[TokenHeaders[AnyStr], Iterable[tuple[AnyStr, AnyStr]]], Headers[AnyStr]]:
        """Return `complete`: a closure, since each response calls it and attributes are slow."""
        clock, names, other_names = self._guard.clock, self.names, set[AnyStr]()

        def complete(
            token: TokenHeaders[AnyStr], headers: Iterable[tuple[AnyStr, AnyStr]]
        ) -> Headers[AnyStr]:
            after, until, added = token.current
            now = clock()
            if not after < now <= until:
                added = self._renewed(token, now)
            if type(headers) is not list:
                headers = list(headers)
            for name, _ in headers:
                # As in asgi.py: all other names, however an app spells them.
                if name not in other_names:
                    if name.lower() in names:
                        added = self._without_those_set(added, headers)
                        break
                    if len(other_names) < MAX_NAMES and len(name) <= MAX_NAME_LENGTH:
                        other_names.add(name)
            return headers + added

        return complete

    def add_to_lists(self, headers: Headers[AnyStr], *, has_origin: bool, optional: bool) -> None:
        """Add to the headers that are lists of names: `Vary`, `Access-Control-Expose-Headers`.

        `has_origin`: whether the request had an Origin; `optional`: whether it may have passed
        without a token.
        """
        if optional:
            self._add_to_list(headers, "Vary", ("Authorization",))
        if has_origin:
            self._add_to_list(headers, "Access-Control-Expose-Headers", exposed(self._expiry))

    def _renewed(self, token: TokenHeaders[AnyStr], now: float) -> Headers[AnyStr]:
        """Make the headers of this moment; they are current until the seconds left change."""
        expires_at: float = token.expires_at
        left: int = max(0, int(expires_at - now))
        headers = self._always + self._seconds_left[left] + self._moments[expires_at]
        until = float(expires_at - left) if left else math.inf
        token.current = (float(expires_at - left - 1), until, headers)
        return headers

    def _without_those_set(
        self, added: Headers[AnyStr], headers: Headers[AnyStr]
    ) -> Headers[AnyStr]:
        """Return `added` without the headers that the app has already set."""
        if any(
            word in member
            for member in _members(headers, self._cache_control, self._comma)
            for word in self._shared
        ):
            return []  # a response in a shared cache must not carry one token's expiry
        present = {name.lower() for name, _ in headers}
        count = len(self._always)
        if not self._expiry_names.isdisjoint(present):
            added = added[:count]
        return added[count:] if self._cache_control in present else added

    def _of_seconds_left(self, seconds: float) -> Headers[AnyStr]:
        name = self._expiry.expires_in
        return [] if name is None else [(self._name(name), self._encode(seconds_left(seconds, 0)))]

    def _of_moment(self, expires_at: float) -> Headers[AnyStr]:
        name, value = self._expiry.expires_at, self._expiry.format_at
        return [] if name is None else [(self._name(name), self._encode(value(expires_at)))]

    def _add_to_list(self, headers: Headers[AnyStr], field: str, members: Iterable[str]) -> None:
        """Add members to a header that is a list, keeping those it has."""
        present = _members(headers, self._encode(field.lower()), self._comma)
        if field == "Vary" and self._star in present:
            return
        missing = [each for each in members if self._encode(each.lower()) not in present]
        if missing:
            headers.append((self._name(field), self._encode(", ".join(missing))))


class _Cached(dict[float, list[tuple[AnyStr, AnyStr]]]):
    """Headers that were made before, by the number in them; at most `size`."""

    _make: Callable[[float], Headers[AnyStr]]

    def __init__(self, size: int, make: Callable[[float], Headers[AnyStr]]) -> None:
        super().__init__()
        self._size = size
        self._make = make

    def __missing__(self, number: float) -> Headers[AnyStr]:
        if len(self) >= self._size:
            self.clear()
        headers = self[number] = self._make(number)
        return headers


def exposed(expiry: ExpiryHeaders) -> tuple[str, ...]:
    """Return the members of `Access-Control-Expose-Headers`: what a browser's script may read."""
    standard = ExpiryHeaders().names()
    return (
        *(name for name in EXPOSED_HEADERS if name not in standard),
        *expiry.names(),
    )


def of_refusal(guard: Guard, decision: Deny) -> tuple[tuple[str, str], ...]:
    """Return the expiry headers of a refusal: 0 seconds for an expired token, else the token's."""
    names = guard.expiry_headers
    if decision.expired:
        return () if names.expires_in is None else ((names.expires_in, "0"),)
    expires_at = decision.principal.expires_at
    return () if expires_at is None else names.fields(expires_at, guard.clock())


def _members(headers: Iterable[tuple[Any, Any]], field: object, comma: Any) -> set[Any]:
    """Return the members of a header that is a list, in lower case."""
    return {
        member.strip().lower()
        for name, value in headers
        if name.lower() == field
        for member in value.split(comma)
    }
