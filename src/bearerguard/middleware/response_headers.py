"""What the guard adds to an app's response: how long the token lives, and who may keep it.

One rule book for both faces: ASGI's headers are bytes and WSGI's are text, so it is written
over either.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, AnyStr, Generic, TypeAlias

from bearerguard.guard.guard import Guard
from bearerguard.middleware.refusal import exposed
from bearerguard.principal import Principal
from bearerguard.protocol.http.expiry import seconds_left

Lines: TypeAlias = list[Any]


class Telling:
    """What responses tell of one token.

    `present` is (since, until, lines): the lines are true after the one moment, up to the
    other, in Unix seconds; it is replaced whole. `expires_at` is None for what is not told.
    """

    __slots__ = ("expires_at", "present")

    def __init__(self, expires_at: float | None, present: tuple[float, float, Lines]) -> None:
        self.expires_at = expires_at
        self.present = present


_ALWAYS = (-math.inf, math.inf)
_NOT_YET: tuple[float, float, Lines] = (math.inf, -math.inf, [])


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
        self._expiry = guard.expiry_headers
        names = self._expiry.names()
        self.is_due = bool(names) or guard.cache_control is not None
        self._default: Lines = []
        if guard.cache_control is not None:
            self._default = [(name("Cache-Control"), encode(guard.cache_control))]
        self._cache_control: AnyStr = encode("cache-control")
        self._expiry_names: frozenset[AnyStr] = frozenset(encode(each.lower()) for each in names)
        self.ours: frozenset[AnyStr] = self._expiry_names | {self._cache_control}
        self.lengths = frozenset(map(len, self.ours))  # most names differ in that already
        self._shared: tuple[AnyStr, ...] = (encode("public"), encode("s-maxage"))
        self._comma: AnyStr = encode(",")
        self._star: AnyStr = encode("*")
        # Few different ones are in use at a time: tokens live for an hour, give or take.
        self._passing = _Made(4096, self._make_passing)
        self._lasting = _Made(1024, self._make_lasting)

    def telling(self, principal: Principal) -> Telling:
        """Return what responses to the bearer of a token tell of it, nothing to `ANONYMOUS`."""
        if not principal.is_authenticated:
            return Telling(None, (*_ALWAYS, []))
        if principal.expires_at is None:
            return Telling(None, (*_ALWAYS, self._default))
        return Telling(principal.expires_at, _NOT_YET)

    def merge(
        self,
        lines: list[tuple[AnyStr, AnyStr]],
        *,
        with_origin: bool,
        optional: bool,
    ) -> None:
        """Add what concerns a script of another origin, and caches where tokens are optional."""
        if optional:
            self._merge(lines, "Vary", ("Authorization",))
        if with_origin:
            self._merge(lines, "Access-Control-Expose-Headers", exposed(self._expiry))

    def renewed(self, telling: Telling, now: float) -> Lines:
        """Return the lines of this moment, and have them told until the seconds left change."""
        expires_at: Any = telling.expires_at  # without one, the lines are always true
        left: int = max(0, int(expires_at - now))
        lines = [*self._default, *self._passing[left], *self._lasting[expires_at]]
        until = float(expires_at - left) if left else math.inf
        telling.present = (float(expires_at - left - 1), until, lines)
        return lines

    def unsaid(self, told: Lines, lines: list[tuple[AnyStr, AnyStr]]) -> Lines:
        """Return what of `told` an app leaves to us whose lines say something of it already."""
        if any(
            word in each
            for each in _members(lines, self._cache_control, self._comma)
            for word in self._shared
        ):
            return []  # one response for many must not tell one token's expiry
        present = {name.lower() for name, _ in lines}
        count = len(self._default)
        if not self._expiry_names.isdisjoint(present):
            told = told[:count]
        return told[count:] if self._cache_control in present else told

    def _make_passing(self, seconds: float) -> Lines:
        """Return the line that tells the seconds left, if it is told."""
        name = self._expiry.expires_in
        return [] if name is None else [(self._name(name), self._encode(seconds_left(seconds, 0)))]

    def _make_lasting(self, expires_at: float) -> Lines:
        """Return the line that all responses to tokens of this expiry get, if any."""
        name, value = self._expiry.expires_at, self._expiry.format_at
        return [] if name is None else [(self._name(name), self._encode(value(expires_at)))]

    def _merge(self, lines: list[tuple[AnyStr, AnyStr]], field: str, names: Iterable[str]) -> None:
        """Add `names` to a field that lists names, keeping those it has."""
        known = _members(lines, self._encode(field.lower()), self._comma)
        if field == "Vary" and self._star in known:
            return
        missing = [name for name in names if self._encode(name.lower()) not in known]
        if missing:
            lines.append((self._name(field), self._encode(", ".join(missing))))


class _Made(dict[float, Lines]):
    """Header lines that were made before, by what they tell; at most `size` of them."""

    def __init__(self, size: int, make: Callable[[float], Lines]) -> None:
        super().__init__()
        self._size = size
        self._make = make

    def __missing__(self, told: float) -> Lines:
        if len(self) >= self._size:
            self.clear()
        lines = self[told] = self._make(told)
        return lines


def _members(lines: Iterable[tuple[Any, Any]], field: object, comma: Any) -> set[Any]:
    """Return the members of all lines of a field that is a list, in lower case."""
    return {
        member.strip().lower()
        for name, value in lines
        if name.lower() == field
        for member in value.split(comma)
    }
