"""The validity of a key: until when tokens that it verified need no further check of the key.

One value for each key, shared by all cached tokens that it verified: when the key ends, they do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol


class Validity(Protocol):
    """Until when a cached token needs no further check of what verified it."""

    @property
    def until(self) -> float:
        """In Unix seconds; may move at any time."""
        ...

    @property
    def key_id(self) -> str | None:
        """The `kid` of the key that verified it."""
        ...


class KeyValidity:
    """Until when a key is valid, in Unix seconds.

    The one mutable value that a cached token refers to. The key cache moves `until` at each
    refresh, and ends it when the issuer removes or replaces the key. `on_shortened` is called
    after each change to an earlier time. `key_id` is the key's `kid`, by which it can be revoked.
    """

    __slots__ = ("_on_shortened", "ended", "key_id", "until")

    def __init__(
        self,
        until: float,
        on_shortened: Callable[[], None] = lambda: None,
        *,
        key_id: str | None = None,
    ) -> None:
        self.until: float = until
        self.ended: bool = False
        self.key_id: str | None = key_id
        self._on_shortened = on_shortened

    def set_until(self, until: float) -> None:
        """Set the time, unless the key has ended, perhaps in another thread at this moment."""
        before, self.until = self.until, until
        if self.ended:
            self.end()
        elif until < before:
            self._on_shortened()

    def end(self) -> None:
        """End the validity permanently."""
        self.ended = True
        self.until = -math.inf
        self._on_shortened()
