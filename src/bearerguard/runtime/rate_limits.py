"""Limits that recover with time, and the interface of the stores that charge them.

A limit is one number for each key: when it has recovered fully (the generic cell rate algorithm).
A store knows keys and seconds, and not what they limit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from cachetools import TTLCache

from bearerguard.runtime.process_lock import ProcessLock

# The keys that a process remembers; beyond that, the one that was charged first is forgotten.
_MAX_KEYS = 10_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many attempts may be made for one key, and how fast the limit recovers.

    Attributes:
        attempts: how many attempts may be made in a burst.
        interval: seconds after which one more attempt may be made.
    """

    attempts: int
    interval: float

    @property
    def span(self) -> float:
        """Seconds until a used-up limit has recovered fully."""
        return self.attempts * self.interval

    def times(self, factor: int) -> RateLimit:
        """Return a limit that is `factor` times as high."""
        return RateLimit(self.attempts * factor, self.interval / factor)


@dataclass(frozen=True, slots=True)
class Charge:
    """One attempt, charged to the limit of one key.

    Attributes:
        key: identifies what is limited; a keyed digest, so that a store has no names.
        limit: the limit of this key.
    """

    key: str
    limit: RateLimit


class ThrottleStore(Protocol):
    """Where the state of limits is stored. All processes of a server share it.

    A method that gets no usable reply raises `StoreFailed`.
    """

    def charge(self, charges: Sequence[Charge]) -> float:
        """Charge all keys, or none if the limit of one is used up.

        The limits must not be exceeded by attempts that are charged at the same time. The keys
        differ.

        Returns:
            0, or the seconds until the next attempt at the first limit that is used up.
        """
        ...

    def release(self, *, reset: Sequence[str] = (), give_back: Sequence[Charge] = ()) -> None:
        """Let the limits of the keys `reset` recover fully, and undo the charges `give_back`."""
        ...

    def close(self) -> None:
        """Close connections; the store can be used again."""
        ...


class ProcessLimit:
    """A limit of many keys in the memory of this process, for what costs less than a shared store.

    Args:
        limit: how many attempts may be made for one key.
        elapsed: seconds that have passed since some fixed moment.
    """

    def __init__(self, limit: RateLimit, elapsed: Callable[[], float]) -> None:
        self._limit = limit
        self._elapsed = elapsed
        self._lock = ProcessLock()
        self._whole_at = TTLCache[str, float](_MAX_KEYS, limit.span, timer=elapsed)

    def charge(self, key: str) -> float:
        """Charge an attempt to a key.

        Returns:
            0, or the seconds until the next attempt if the limit is used up.
        """
        limit, now = self._limit, self._elapsed()
        latest = now + limit.span - limit.interval
        with self._lock:
            whole_at = max(now, self._whole_at.get(key, now))
            if whole_at > latest:
                return whole_at - latest
            self._whole_at[key] = whole_at + limit.interval
        return 0.0
