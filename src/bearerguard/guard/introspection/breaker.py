"""A circuit breaker: an endpoint that is down costs its callers no waiting.

Plain arithmetic over a given time, in seconds, and no lock: a race may at worst let one
more call through.
"""

from __future__ import annotations

from bearerguard.guard.keys.refetch import BackOff

# One lost connection is no outage; three failures in a row are.
_THRESHOLD = 3
# How long a probe takes, as far as those who are refused meanwhile are told.
_PROBE_SECONDS = 1.0


class Breaker:
    """Closed until three failures in a row; then open for 1 s, doubled up to `longest`.

    When the time is over, one caller probes; the others are refused until it is back, or
    has been away for `patience`. Whoever was let in tells how it went, by `succeeded`,
    `failed`, `objected` or `abandoned`.
    """

    def __init__(self, longest: float, patience: float) -> None:
        self._back_off = BackOff(longest)
        self._patience = patience
        self._probing_since: float | None = None
        self.failures = 0
        # Which closed period, or which probe, a call belongs to: a herd that fails together
        # after the breaker opened is one failure.
        self.era = 0

    @property
    def is_open(self) -> bool:
        """Whether the endpoint counts as down."""
        return self.failures >= _THRESHOLD

    def wait(self, now: float) -> float:
        """Return the seconds after which to ask again, 0 when a call would be let in."""
        if not self.is_open:
            return 0.0
        pause = self._back_off.wait(now)
        if pause > 0 or self._probing_since is None:
            return pause
        away = now - self._probing_since
        # A clock set back, or a probe lost in a fork, never keeps it open.
        return _PROBE_SECONDS if 0 <= away < self._patience else 0.0

    def enter(self, now: float) -> int:
        """Let the caller in, as `wait` allowed; return the era, which `failed` wants to know."""
        if self.is_open:
            self._probing_since = now
        return self.era

    def succeeded(self) -> None:
        """Close it."""
        self.failures, self._probing_since = 0, None
        self._back_off.succeeded()

    def failed(self, now: float, era: int) -> float:
        """Count a failure of a call from `era`; return the seconds after which to ask again."""
        if era != self.era:
            return self.wait(now)
        self.failures += 1
        self._probing_since = None
        if not self.is_open:
            return 0.0
        self.era += 1
        return self._back_off.failed(now)

    def objected(self, era: int) -> None:
        """Learn that it answers again, though it answered a call from `era` with an objection.

        Else who brings objections about would be every probe, and keep it open. One more failure
        opens it again, for longer.
        """
        if era == self.era and self.is_open:
            self.failures = _THRESHOLD - 1
        self._probing_since = None

    def abandoned(self) -> None:
        """Learn nothing: the caller gave up, and another may probe at once."""
        self._probing_since = None
