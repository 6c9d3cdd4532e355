"""The log of `bearerguard serve`: standard error, written by a thread that delays no request."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

from bearerguard.logs import BackgroundHandler, JsonFormatter, TextFormatter


def formatter(log_format: str | None) -> logging.Formatter:
    """Return the formatter of a `--log-format`, text by default."""
    return JsonFormatter() if log_format == "json" else TextFormatter()


def begin(log_format: str) -> BackgroundHandler:
    """Log to standard error from now on."""
    output = logging.StreamHandler()
    output.setFormatter(formatter(log_format))
    handler = BackgroundHandler(output)
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("alembic").setLevel(logging.WARNING)  # its steps
    if hasattr(os, "register_at_fork"):  # not on Windows
        # A child would inherit the lock of an output that the thread is writing to.
        os.register_at_fork(before=handler.flush)
    return handler


@contextmanager
def written_at_the_end(handler: BackgroundHandler) -> Generator[None]:
    """Write what waits when the block ends, also by SIGTERM. For each process that serves."""

    def end(number: int, _frame: FrameType | None) -> None:
        # uvicorn restores this handler after its own graceful stop, and raises the signal again.
        # Python writes nothing at an exit by a signal.
        handler.close()
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        handler.flush()
        signal.signal(signal.SIGTERM, before)
