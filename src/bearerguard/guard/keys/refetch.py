"""When a fetch is due or allowed: an answer's freshness, a token bucket, a back-off after failures.

Plain arithmetic over a given time, in seconds. A race between event loops may at worst
grant one fetch too many, so there is no lock.
"""

from __future__ import annotations

import re

from bearerguard.runtime.messages import Response

_MAX_AGE = re.compile(r"(?:^|[\s,])max-age=\"?(\d{1,9})", re.IGNORECASE)
# A burst lets a real rotation through after two bogus kids (JWKS-01).
_BURST = 3
_FIRST_PAUSE = 1.0


class Bucket:
    """Grants three at once and one more in every `interval`."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._empty_until = 0.0  # the moment at which the bucket would be full again

    def take(self, now: float) -> bool:
        """Take one grant, if there is one."""
        if self.wait(now) > 0:
            return False
        self._empty_until = max(now, self._empty_until) + self._interval
        return True

    def wait(self, now: float) -> float:
        """Return the seconds until there is a grant; a clock set back never prolongs it."""
        full = _BURST * self._interval
        self._empty_until = min(self._empty_until, now + full)
        return max(0.0, self._empty_until - now - full + self._interval)


class BackOff:
    """After a failure: 1 s, doubled by each further one up to `longest`."""

    def __init__(self, longest: float) -> None:
        self._longest = longest
        self._until = 0.0
        self.failures = 0

    def failed(self, now: float) -> float:
        """Count a failure; return the seconds to pause."""
        pause = min(self._longest, _FIRST_PAUSE * float(1 << min(self.failures, 30)))
        self.failures += 1
        self._until = now + pause
        return pause

    def succeeded(self) -> None:
        """Forget the failures."""
        self.failures, self._until = 0, 0.0

    def wait(self, now: float) -> float:
        """Return the seconds still to pause."""
        return min(self._longest, max(0.0, self._until - now))


def max_age(answer: Response) -> float | None:
    """Return for how many seconds an answer is fresh, if it says so (RFC 9111 §5.2.2.1)."""
    found = _MAX_AGE.search(answer.header("cache-control") or "")
    return float(found[1]) if found else None
