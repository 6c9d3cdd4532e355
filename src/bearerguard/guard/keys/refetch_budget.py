"""When keys may be fetched again: the budget for unknown key ids, and the backoff after failures.

A token with an unknown `kid` may cause a fetch, so anybody can cause one: the budget bounds how
many (a token bucket). Pure arithmetic: the time is an argument, in seconds. A race between event
loops may at worst allow one fetch too many, so there is no lock.
"""

from __future__ import annotations

# Two made-up key ids must not hold up a real key rotation (JWKS-01).
_BURST = 3
_FIRST_PAUSE = 1.0


class RefetchBudget:
    """Allows three fetches at once, and one more in every `interval` seconds."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._full_at = 0.0

    def take(self, now: float) -> bool:
        """Take one fetch from the budget; False if it is empty."""
        if self.wait(now) > 0:
            return False
        self._full_at = max(now, self._full_at) + self._interval
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until a fetch is allowed; a clock set back never prolongs them."""
        whole = _BURST * self._interval
        self._full_at = min(self._full_at, now + whole)
        return max(0.0, self._full_at - now - whole + self._interval)


class Backoff:
    """The pause after a failure: 1 s, doubled by each further failure up to `longest` seconds."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._until = 0.0
        self.failures: int = 0

    def failed(self, now: float) -> float:
        """Count a failure; return the seconds to pause."""
        pause = min(self._longest, _FIRST_PAUSE * float(1 << min(self.failures, 30)))
        self.failures += 1
        self._until = now + pause
        return pause

    def succeeded(self) -> None:
        """Reset the count of failures."""
        self.failures, self._until = 0, 0.0

    def wait(self, now: float) -> float:
        """Return the seconds still to pause."""
        return min(self._longest, max(0.0, self._until - now))
