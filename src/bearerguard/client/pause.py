"""Pausing after a failure: longer each time, so that a server in trouble is left alone."""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.errors import BearerGuardError

_FIRST, _LONGEST = 1.0, 60.0


class Pause:
    """Remembers the last failure for as long as nothing is to be tried again."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._until = 0.0
        self._failure: BearerGuardError | None = None

    def failure(self) -> BearerGuardError | None:
        """Return the failure while the pause lasts."""
        failure = self._failure
        return failure if failure is not None and self._monotonic() < self._until else None

    def begin(self, failure: BearerGuardError) -> None:
        """Begin a pause; twice as long as the last one, or as long as was asked for."""
        self._seconds = min(max(_FIRST, self._seconds * 2), _LONGEST)
        asked = float(getattr(failure, "retry_after", 0.0))
        self._until = self._monotonic() + max(self._seconds, min(asked, _LONGEST))
        self._failure = failure

    def end(self) -> None:
        """Forget all failures: something succeeded."""
        self._seconds, self._failure = 0.0, None
