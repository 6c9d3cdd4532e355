"""A circuit breaker: callers do not wait for an endpoint that is down.

Pure arithmetic: the time is an argument, in seconds. There is no lock: a race may at worst let one
more call through.
"""

from __future__ import annotations

from bearerguard.guard.keys.refetch_budget import Backoff

# One lost connection is no outage; three failures in a row are.
_THRESHOLD = 3
# The seconds after which callers refused during a probe may retry.
_PROBE_SECONDS = 1.0


class Breaker:
    """Closed until three failures in a row; then open for 1 s, doubled up to `longest` seconds.

    After that time one caller probes the endpoint; the others are refused until the probe ends,
    or has taken `patience` seconds. Each admitted call reports its result: `succeeded`,
    `failed`, `objected` or `abandoned`.
    """

    def __init__(self, longest: float, patience: float) -> None:
        self._backoff = Backoff(longest)
        self._patience = patience
        self._probing_since: float | None = None
        self.failures: int = 0
        # The closed period, or the probe, that a call belongs to: concurrent calls that fail after
        # the breaker opened count as one failure.
        self.era: int = 0

    @property
    def is_open(self) -> bool:
        """Whether the endpoint is considered down."""
        return self.failures >= _THRESHOLD

    def wait(self, now: float) -> float:
        """Return the seconds after which to retry, 0 if a call would be admitted."""
        if not self.is_open:
            return 0.0
        pause = self._backoff.wait(now)
        if pause > 0 or self._probing_since is None:
            return pause
        away = now - self._probing_since
        # A clock set back, or a probe lost in a fork, never keeps it open.
        return _PROBE_SECONDS if 0 <= away < self._patience else 0.0

    def enter(self, now: float) -> int:
        """Admit a call, as `wait` allowed; return its era, an argument of `failed`."""
        if self.is_open:
            self._probing_since = now
        return self.era

    def succeeded(self) -> None:
        """Close the breaker."""
        self.failures, self._probing_since = 0, None
        self._backoff.succeeded()

    def failed(self, now: float, era: int) -> float:
        """Count a failure of a call of `era`; return the seconds after which to retry."""
        if era != self.era:
            return self.wait(now)
        self.failures += 1
        self._probing_since = None
        if not self.is_open:
            return 0.0
        self.era += 1
        return self._backoff.failed(now)

    def objected(self, era: int) -> None:
        """Note that the endpoint responds again, though it objected to the token of this call.

        Otherwise a client that causes objections could keep the breaker open by sending every
        probe. One more failure opens it again, for longer.
        """
        if era == self.era and self.is_open:
            self.failures = _THRESHOLD - 1
        self._probing_since = None

    def abandoned(self) -> None:
        """Note that the caller gave up: another may probe at once."""
        self._probing_since = None
