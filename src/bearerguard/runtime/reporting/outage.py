"""An outage: the consecutive failures of one service, until it works again.

Knows no log and no event.
"""

from __future__ import annotations

from collections.abc import Callable


class Outage:
    """Counts the consecutive failures of one service, for the event that reports its recovery.

    Args:
        monotonic: returns seconds that clock changes do not affect.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._failures = 0
        self._since = 0.0

    def failed(self) -> None:
        """Note a failure."""
        if not self._failures:
            self._since = self._monotonic()
        self._failures += 1

    def succeeded(self) -> str:
        """Note a success; return how long the outage lasted, "" if there was none."""
        failures, self._failures = self._failures, 0
        if not failures:
            return ""
        seconds = max(0.0, self._monotonic() - self._since)
        return f"restored after {seconds:.0f} s and {failures} failure{'s'[: failures > 1]}"
