"""The effects of a log that workers share: what one appends, all read, and some hear at once.

The log is the truth, in one order for all; the bell only saves the wait until the next
read. A log has a mark, which is replaced with each append, in the same transaction: it says what
the log must hold, so that its reader sees what is missing.
Knows neither what the entries mean nor where the log is kept. All of these raise
`StoreFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bearerguard.runtime.flow import Effect


@dataclass(frozen=True, slots=True)
class LogPage:
    """A part of the log, oldest entry first, each with its position.

    Attributes:
        mark: the mark of the log, None when nobody has set one.
        entries: pairs of position and content.
        intact: False when the log no longer has the entry at which reading began.
        more: whether there are entries after these.
        first: the oldest entry of the log, if the store tells.
        length: the number of entries in the log, if the store tells; counted after `mark` and
            `first` were read.
    """

    mark: bytes | None
    entries: tuple[tuple[str, bytes], ...] = field(repr=False)
    intact: bool
    more: bool
    first: bytes | None = field(default=None, repr=False)
    length: int | None = None


@dataclass(frozen=True, slots=True)
class ReadLog(Effect[LogPage]):
    """Read the mark, and then the entries after a position, or from the beginning."""

    after: str | None


@dataclass(frozen=True, slots=True)
class AppendLog(Effect[bool | None]):
    """Append entries, which are kept for at least `keep` seconds, and ring the bell with them.

    Returns when the store has acknowledged all of them, and has sent what the bell says to all
    who listen: it may die then. Without `ring` the bell says nothing but that there is
    something to read. With a `mark`, that becomes the log's, if the present one is still
    `instead_of`; else nothing is appended, and the answer is False.
    """

    entries: tuple[bytes, ...] = field(repr=False)
    keep: float
    ring: bool = True
    mark: bytes | None = field(default=None, repr=False)
    instead_of: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class MarkLog(Effect[None]):
    """Set the mark, if the present one is still `instead_of` (None: if there is none).

    The bell says then that there is something to read.
    """

    mark: bytes
    instead_of: bytes | None


@dataclass(frozen=True, slots=True)
class CutLog(Effect[None]):
    """Remove the entries before a position."""

    before: str


@dataclass(frozen=True, slots=True)
class RingLog(Effect[int]):
    """Have the bell say that there is something to read; return how many listen."""


@dataclass(frozen=True, slots=True)
class ListenLog(Effect[tuple[bytes, ...]]):
    """Return the entries heard, waiting at most `wait` seconds for the bell.

    The first call begins to listen and returns at once: what is read after it misses nothing.
    """

    wait: float
