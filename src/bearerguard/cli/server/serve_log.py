"""The log of `bearerguard serve`: standard error, written by a thread that delays no request."""

from __future__ import annotations

import logging
import signal
from types import FrameType

from bearerguard.logs import BackgroundHandler, JsonFormatter, TextFormatter


def begin(log_format: str) -> None:
    """Log to standard error from now on; what waits is written before the process ends."""
    output = logging.StreamHandler()
    output.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    handler = BackgroundHandler(output)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps

    def end(number: int, _frame: FrameType | None) -> None:
        # uvicorn restores this handler after its own graceful stop, and raises the signal again.
        # Python writes nothing at an exit by a signal.
        handler.close()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    if handler in logging.getLogger().handlers:
        signal.signal(signal.SIGTERM, end)
