"""Formatters for log lines, with a time and structured fields, and an observer that logs.

Loggers: `bearerguard` for a guard's events, `bearerguard.server` for those of an authorization
server, `bearerguard.decisions` and `bearerguard.fetches` for `LogObserver`. A line about an event
has the attributes `code`, `issuer`, `details` (a mapping) and `event` (the `Event`).
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

from bearerguard.guard.observers import DecisionRecord, FetchRecord
from bearerguard.runtime.reporting.events import Event

__all__ = ["JsonFormatter", "LogObserver", "TextFormatter"]

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
