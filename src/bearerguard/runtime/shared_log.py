"""The effects of a log that workers share: one appends, all read, and listeners are notified.

All workers read the entries in the same order. A notification only saves the wait until the next
read. A log may have a mark, which is replaced with each append in the same transaction: it
describes what the log must hold, so that a reader detects missing entries.
Knows neither what the entries mean nor where the log is kept. The handlers of all these effects
raise `StoreFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bearerguard.runtime.flow import Effect


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of the log, oldest entry first, each with its position.

    Attributes:
        mark: the mark of the log, None when there is none.
        entries: pairs of position and content. A position is text that the store makes.
        intact: False when the log no longer has the entry at which the read began.
        more: whether there are entries after these.
        first: the oldest entry of the log, None if the store does not say.
        length: the number of entries in the log, counted after `mark` and `first` were read;
            None if the store does not say.
    """

    mark: bytes | None
    entries: tuple[tuple[str, bytes], ...] = field(repr=False)
    intact: bool
    more: bool
    first: bytes | None = field(default=None, repr=False)
    length: int | None = None


@dataclass(frozen=True, slots=True)
class ReadLog(Effect[LogPage]):
    """Read the mark, and then the entries after a position; None reads from the beginning."""

    after: str | None


@dataclass(frozen=True, slots=True)
class AppendLog(Effect[bool | None]):
    """Append entries, keep them for at least `keep` seconds, and notify all who listen.

    The reply comes when the store has acknowledged all entries and has sent the notification; the
    store may fail after that. The notification holds the entries; without `notify`, it only says
    that there is something to read. A `mark` replaces the log's mark if that is still `instead_of`;
    else nothing is appended, and the reply is False.
    """

    entries: tuple[bytes, ...] = field(repr=False)
    keep: float
    notify: bool = True
    mark: bytes | None = field(default=None, repr=False)
    instead_of: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MarkLog(Effect[None]):
    """Set the mark, if the present one is still `instead_of` (None: if there is none).

    Listeners are notified that there is something to read.
    """

    mark: bytes
    instead_of: bytes | None


@dataclass(frozen=True, slots=True)
class CutLog(Effect[None]):
    """Remove the entries before a position."""

    before: str


@dataclass(frozen=True, slots=True)
class NotifyLog(Effect[int]):
    """Notify listeners that there is something to read; the reply is how many listen."""


@dataclass(frozen=True, slots=True)
class ListenLog(Effect[tuple[bytes, ...]]):
    """Wait at most `wait` seconds for a notification; the reply is the entries in it.

    The first call starts to listen and returns at once, so that a read after it misses nothing.
    A store without notifications sleeps for `wait` seconds and returns no entries.
    """

    wait: float
