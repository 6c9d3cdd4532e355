"""The last fetches from one source: when one succeeded, why one failed, and how long they took.

For `Guard.health`; the text of an error is left out, since it may quote a URL with a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bearerguard.guard.health import LastError

_REMEMBERED = 5


class FetchHistory:
    """The last fetches; each change replaces a whole value, so that any thread may read it.

    Attributes:
        last_success: when the last one succeeded, in Unix seconds; None if none did.
        last_error: the last failure, also if a success followed; None if none failed.
        latencies: how many seconds the last five took, the newest first.
    """

    __slots__ = ("last_error", "last_success", "latencies")

    def __init__(self) -> None:
        self.last_success: float | None = None
        self.last_error: LastError | None = None
        self.latencies: tuple[float, ...] = ()

    def succeeded(self, at: float, seconds: float) -> None:
        """Note a success."""
        self.last_success = at
        self._took(seconds)

    def failed(self, at: float, kind: str, seconds: float | None = None) -> None:
        """Note a failure."""
        from bearerguard.guard.health import LastError  # noqa: PLC0415 - most fetches succeed

        self.last_error = LastError(kind, at)
        if seconds is not None:
            self._took(seconds)

    def _took(self, seconds: float) -> None:
        self.latencies = (seconds, *self.latencies[: _REMEMBERED - 1])
