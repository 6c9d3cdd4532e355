"""A bounded map: two generations of a plain dict, of which the older is dropped as a whole.

Needs no lock: a race between threads costs at most some entries.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Generations(Generic[K, V]):
    """At most `size` values, 2 if `size` is smaller; those not used lately are dropped first.

    `on_drop` is called with each value that is dropped to make room.
    """

    def __init__(self, size: int, *, on_drop: Callable[[V], None] | None = None) -> None:
        self._on_drop = on_drop
        self._generation_size = max(1, size // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def __len__(self) -> int:
        return len(self._young | self._old)

    def get(self, key: K) -> V | None:
        """Return the value, keeping it young, or None."""
        value = self._young.get(key)
        if value is None:
            value = self._old.get(key)
            if value is not None:
                self.put(key, value)
        return value

    def put(self, key: K, value: V) -> None:
        """Store a value."""
        young = self._young
        young[key] = value
        if len(young) >= self._generation_size:
            gone, self._old, self._young = self._old, young, {}
            if self._on_drop is not None:
                for old_key, old in gone.items():
                    if old_key not in young:
                        self._on_drop(old)

    def drop(self, key: K) -> None:
        """Remove a value, without calling `on_drop`."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def values(self) -> list[V]:
        """Return all values, in no order."""
        return list((self._old | self._young).values())

    def clear(self) -> None:
        """Remove all values."""
        self._young, self._old = {}, {}
