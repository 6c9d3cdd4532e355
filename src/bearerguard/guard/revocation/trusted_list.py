"""The list of revocations that requests rest on, and until when it may be believed.

What was once found not to be revoked is not looked up again until one of the two changes for
the worse; whoever remembers so is told right after.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from bearerguard.guard.revocation.revocation_list import RevocationList

if TYPE_CHECKING:
    from bearerguard.guard.tokens.token_cache import TokenCache


class Belief:
    """The list at this moment, and the caches that rest on it."""

    def __init__(self, trusted_until: float) -> None:
        self._current = RevocationList()
        self._trusted_until = trusted_until
        self._resting: dict[int, weakref.ref[TokenCache]] = {}

    @property
    def current(self) -> RevocationList:
        """The list; replaced whole when it changes in a way that matters."""
        return self._current

    @property
    def trusted_until(self) -> float:
        """Until when it may be believed, by the guard's clock in Unix seconds."""
        return self._trusted_until

    def bear(self, tokens: TokenCache) -> None:
        """Have a cache rest on the list, for as long as somebody has it."""
        # Threads may do so at once: each of these steps is one of the dict's own.
        resting, key = self._resting, id(tokens)
        resting[key] = weakref.ref(tokens, lambda _gone: resting.pop(key, None))

    def _replace(self, current: RevocationList) -> None:
        if current is not self._current:
            self._current = current
            self._release()

    def _trust(self, until: float) -> None:
        before, self._trusted_until = self._trusted_until, until
        if until <= before:
            self._release()

    def _release(self) -> None:
        caches = [each() for each in list(self._resting.values())]
        for tokens in [each for each in caches if each is not None]:
            tokens.release()
