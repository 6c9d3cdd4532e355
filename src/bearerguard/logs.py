"""Formatters for log lines, an observer that logs, and a handler that writes in the background.

Loggers: `bearerguard` for a guard's events, `bearerguard.server` for those of an authorization
server, `bearerguard.decisions` and `bearerguard.fetches` for `LogObserver`. A line about an event
has the attributes `code`, `issuer`, `details` (a mapping) and `event` (the `Event`).
"""

from __future__ import annotations

import copy
import json
import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from queue import SimpleQueue
from typing import Any

from bearerguard.guard.records import DecisionRecord, FetchRecord
from bearerguard.runtime.reporting.events import Event, JsonText

__all__ = ["BackgroundHandler", "JsonFormatter", "LogObserver", "TextFormatter"]

# The attributes of a record without `extra=`, and those that formatters add.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# uvicorn's `color_message` repeats the message with colours.
_LEFT_OUT = _USUAL | {"color_message"}


class _Timed(logging.Formatter):
    def formatTime(  # noqa: N802 - the library's name
        self,
        record: logging.LogRecord,
        datefmt: str | None = None,  # noqa: ARG002 - likewise
    ) -> str:
        """Return the time in UTC with milliseconds, as RFC 3339 has it."""
        moment = datetime.fromtimestamp(record.created, UTC)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class TextFormatter(_Timed):
    """Formats a record as one line: time, level, logger, message."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")


class JsonFormatter(_Timed):
    """Formats a record as one line of JSON.

    Its members are `time` (RFC 3339, UTC), `level`, `logger`, `message`, the fields of `extra=`,
    and `exception` or `stack` where the record has one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        fields: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        for name, value in vars(record).items():
            if name not in _LEFT_OUT and name not in fields and not isinstance(value, Event):
                fields[name] = value
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            fields["stack"] = self.formatStack(record.stack_info)
        return json.dumps(fields, default=str)


# Some 20 MB of lines.
_MOST_WAITING = 10_000
# How long a line may wait for others.
_COLLECT_SECONDS = 0.05
# How long an exit waits for an output that takes no more lines.
_FLUSH_SECONDS = 5.0
_REPORT_SECONDS = 10.0
# Arguments of a line that nobody changes before it is formatted.
_FIXED = (str, int, float, type(None), JsonText)


class BackgroundHandler(QueueHandler):
    """Passes records to another handler in a thread of its own.

    A slow or blocked output then delays nobody who logs. If too many records wait, further ones
    are lost: `lost` counts them, and as soon as the output works again, a line of the logger
    `bearerguard.logs` says how many they were. `close` waits at most 5 s until all is written;
    `logging.shutdown`, which Python calls at a normal exit, calls it.

    Args:
        handler: formats and writes the records.
        most: how many records may wait.
        monotonic: returns seconds that clock changes do not affect.

    Attributes:
        lost: how many records this process has lost.
    """

    def __init__(
        self,
        handler: logging.Handler,
        *,
        most: int = _MOST_WAITING,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        # This queue takes no lock that a signal's handler could find held by its own thread.
        self._waiting: SimpleQueue[Any] = SimpleQueue()
        super().__init__(self._waiting)
        self.lost: int = 0
        self._handler = handler
        self._most = most
        self._monotonic = monotonic
        self._pid = 0
        self._writer: _Writer | None = None
        self._is_closed = False

    def enqueue(self, record: logging.LogRecord) -> None:
        """Pass a record on, unless too many wait."""
        if self._is_closed:
            if self._writer is None:
                self._handler.handle(record)
            return
        # `Handler.handle` holds the handler's lock, so one thread at a time is here.
        if self._pid != os.getpid():
            # A forked child has no thread, and its parent writes what waits.
            self._pid, self._waiting = os.getpid(), SimpleQueue()
            self._writer = _Writer(self, self._waiting, self._handler, self._monotonic)
            self._writer.start()
        if self._waiting.qsize() >= self._most:
            self.lost += 1
        else:
            self._waiting.put_nowait(record)

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Format the message now if its arguments may change; else the thread does."""
        given = record.args
        if not isinstance(given, tuple) or not all(isinstance(each, _FIXED) for each in given):
            message = record.getMessage()
            record = copy.copy(record)
            record.msg, record.args = message, None
        return record

    def flush(self) -> None:
        """Wait until what was logged before is written, at most 5 s."""
        if self._writer is not None and self._pid == os.getpid():
            self._writer.flush(_FLUSH_SECONDS)

    def close(self) -> None:
        """Write what waits, and end the thread; later records are written at once."""
        if not self._is_closed:
            self._is_closed = True
            if self._pid != os.getpid() or self._writer is None or self._writer.end(_FLUSH_SECONDS):
                self._writer = None
        super().close()


class _Writer(QueueListener):
    """The thread that writes. A `threading.Event` in its queue is set when it is reached."""

    def __init__(
        self,
        owner: BackgroundHandler,
        waiting: SimpleQueue[Any],
        handler: logging.Handler,
        monotonic: Callable[[], float],
    ) -> None:
        super().__init__(waiting, handler, respect_handler_level=True)
        self._owner = owner
        self._waiting = waiting
        self._monotonic = monotonic
        self._reported = owner.lost
        self._reported_at = monotonic()
        self._is_stuck = False
        self._is_idle = True
        self._hurry = threading.Event()

    def dequeue(self, block: bool) -> Any:  # noqa: FBT001 - the library's
        """Return the next record; if none was left to write, a moment after it is there."""
        record = self._waiting.get(block)
        if self._is_idle and isinstance(record, logging.LogRecord):
            # The lines of a moment are written together. A thread that woke up for each would take
            # the interpreter's lock from the requests, which costs more than the line itself.
            self._hurry.wait(_COLLECT_SECONDS)
        self._is_idle = self._waiting.qsize() == 0
        return record

    def handle(self, record: Any) -> None:
        """Write a record, and how many were lost before."""
        if isinstance(record, threading.Event):
            self._report()
            self._hurry.clear()
            record.set()
            return
        super().handle(record)
        if self._waiting.qsize() == 0 or self._monotonic() - self._reported_at >= _REPORT_SECONDS:
            self._report()

    def flush(self, seconds: float) -> bool:
        """Wait until what waits now is written, and return whether it is.

        A blocked output is waited for once.
        """
        if not self._is_stuck:
            reached = threading.Event()
            self._hurry.set()
            self._waiting.put_nowait(reached)
            self._is_stuck = not reached.wait(seconds)
        return not self._is_stuck

    def end(self, seconds: float) -> bool:
        """Write what waits and end the thread; return False if the output is blocked."""
        is_written = self.flush(seconds)
        if is_written:
            self.stop()
        return is_written

    def _report(self) -> None:
        lost = self._owner.lost - self._reported
        if lost:
            self._reported += lost
            self._reported_at = self._monotonic()
            details = (JsonText({"lost": lost}),)
            super().handle(
                logging.LogRecord(
                    *(__name__, logging.WARNING, __file__, 0, "log_lines_lost %s", details, None)
                )
            )


class LogObserver:
    """Logs each decision and each fetch of a guard, with the record's fields as `extra=`.

    A refusal is logged as INFO, an outage and a failed fetch as WARNING, all else as DEBUG.
    """

    def __init__(self) -> None:
        self._decisions = logging.getLogger("bearerguard.decisions")
        self._fetches = logging.getLogger("bearerguard.fetches")

    def decided(self, record: DecisionRecord) -> None:
        """Log a decision."""
        level = logging.DEBUG
        if record.result != "allow":
            level = logging.INFO if record.result == "deny" else logging.WARNING
        if self._decisions.isEnabledFor(level):
            reason = f" ({record.reason})" if record.reason else ""
            self._decisions.log(
                level,
                "%s: %s%s in %.6f s",
                record.kind,
                record.result,
                reason,
                record.seconds,
                extra=_fields(record),
            )

    def fetched(self, record: FetchRecord) -> None:
        """Log a fetch."""
        level = logging.DEBUG if record.result == "ok" else logging.WARNING
        if self._fetches.isEnabledFor(level):
            error = f" ({record.error})" if record.error else ""
            self._fetches.log(
                level,
                "%s: %s%s in %.3f s",
                record.target,
                record.result,
                error,
                record.seconds,
                extra=_fields(record),
            )


def _fields(record: DecisionRecord | FetchRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in type(record).__slots__}
