"""How often a client's authentication failed lately, in this process.

Secrets have 256 random bits, so that guessing is hopeless; this bounds what guessing costs us.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from cachetools import TTLCache

from bearerguard.runtime.process_lock import ProcessLock

_WINDOW = 60.0
_ALLOWED = 20
# An attacker may invent names, and long ones: those that are remembered are bounded, and so is
# what each of them takes.
_MAX_REMEMBERED = 10_000


class Failures:
    """Counts failures per client."""

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._clock = elapsed  # one that nobody sets
        self._lock = ProcessLock()
        self._counts = TTLCache[bytes, list[float]](_MAX_REMEMBERED, _WINDOW, timer=elapsed)

    def count(self, client_id: str) -> int:
        """Count a failure; return 0, or the seconds after which there is a place again."""
        now = self._clock()
        name = hashlib.sha256(client_id.encode("utf-8", "surrogatepass")).digest()
        with self._lock:
            recent = [at for at in self._counts.get(name, ()) if now - at < _WINDOW]
            recent = [*recent, now][-_ALLOWED - 1 :]
            self._counts[name] = recent
        if len(recent) <= _ALLOWED:
            return 0
        return max(1, math.ceil(recent[0] + _WINDOW - now))
