"""The epoch of the shared log and the numbers of its entries: how a reader detects a loss.

A log has an epoch, a random name. Each entry of an epoch has a number, one more than the entry
before. The log's mark holds the epoch, the last number, and until when the entries so far are
needed; one that is trimmed after that time is no loss. When entries are missing, a worker begins a
new epoch, and all workers append again what they know (`feed`).

Owns the content of the mark and of an entry before they are sealed. Knows no store and no
secret; the time is an argument.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, get_args

from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.protocol.revocation import Kind

# An entry is kept this many seconds longer than needed, as clocks differ.
MARGIN = 600.0
_MARK = struct.Struct(">16sdQdd?")
# Epoch, number, until, made, open ended; kind, before (NaN for none), expires_at, the length of
# the issuer. Issuer and value follow. Binary, as each worker reads the whole log when it starts.
_ENTRY = struct.Struct(">16sQdd?BddI")
_EPOCH_BYTES = 16
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of a log, stored beside it and replaced with each append.

    Attributes:
        epoch: the name of the epoch; a new one begins when entries were lost.
        keep: for how many seconds entries stay in the log: enough for the longest-lived tokens of
            all the APIs that share it.
        number: the number of the last entry; 0 for none.
        until: when all entries have expired, in Unix seconds.
        began: when the epoch began, in Unix seconds.
        again: whether another epoch came before, so that workers append again what they know.
    """

    epoch: bytes = field(repr=False)
    keep: float
    number: int = 0
    until: float = 0.0
    began: float = 0.0
    again: bool = False

    @classmethod
    def new(cls, keep: float, now: float, *, again: bool) -> Mark:
        """Return the mark of a new epoch."""
        return cls(os.urandom(_EPOCH_BYTES), keep, began=now, again=again)

    def encode(self) -> bytes:
        """Return the mark as octets, to be sealed."""
        return _MARK.pack(self.epoch, self.keep, self.number, self.until, self.began, self.again)

    @classmethod
    def decode(cls, octets: bytes) -> Mark:
        """Return the mark that `encode` wrote; raises ValueError for anything else."""
        if len(octets) != _MARK.size:
            raise ValueError("not the mark of a log")
        return cls(*_MARK.unpack(octets))

    def extended(
        self, revocations: Sequence[Revocation], keep: float, now: float
    ) -> tuple[Mark, list[bytes]]:
        """Return the next mark, and the entries of `revocations`, to be sealed.

        `keep` is for how many seconds this writer needs entries, `now` is in Unix seconds.
        """
        number, until, kept = self.number, self.until, max(self.keep, keep)
        entries: list[bytes] = []
        for each in revocations:
            number += 1
            # Open ended: it lasts as long as a token may live, and other APIs' tokens may live
            # longer.
            open_ended = each.kind != "token" or each.expires_at >= now + keep - 2 * MARGIN
            issuer = each.issuer.encode()
            head = _ENTRY.pack(
                self.epoch,
                number,
                until,
                now,
                open_ended,
                _KINDS.index(each.kind),
                math.nan if each.before is None else each.before,
                each.expires_at,
                len(issuer),
            )
            entries.append(head + issuer + each.value.encode())
            until = max(until, min(each.expires_at, now + kept - MARGIN))
        return replace(self, keep=kept, number=number, until=until), entries


class LogEntry(NamedTuple):
    """An entry of the log.

    Attributes:
        epoch: the epoch in which it was appended.
        number: its number in that epoch.
        until: when all entries with smaller numbers have expired, in Unix seconds.
        revocation: the revocation.
    """

    epoch: bytes
    number: int
    until: float
    revocation: Revocation


def decode_entry(octets: bytes, keep: float) -> LogEntry:
    """Return an entry that `Mark.extended` wrote. The octets were sealed, so they are trusted.

    `keep` is the mark's: a revocation lasts as long as any API's tokens may live, which its writer
    may not have known.
    """
    epoch, number, until, made, open_ended, kind, date, over, length = _ENTRY.unpack_from(octets)
    before = None if math.isnan(date) else date
    lasts = keep - MARGIN + (date if before is not None else made if open_ended else 0.0)
    end = _ENTRY.size + length
    issuer = sys.intern(octets[_ENTRY.size : end].decode())
    value = octets[end:].decode()
    over = max(over, lasts)
    return LogEntry(epoch, number, until, Revocation(_KINDS[kind], issuer, value, before, over))


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a worker has read the log; swapped whole, as several threads may read.

    Attributes:
        position: the position of the last entry read, None at the beginning.
        epoch: the mark's epoch, None before the first read.
        keep: the mark's `keep`.
        number: the number of the last entry of the epoch that was read.
        first: the position of the first entry of the epoch.
        older: whether entries of other epochs come before that.
        foreign: how many entries so far do not belong to the epoch: they are of another epoch,
            repeated, or unreadable.
    """

    position: str | None = None
    epoch: bytes | None = field(default=None, repr=False)
    keep: float = 0.0
    number: int = 0
    first: str | None = None
    older: bool = False
    foreign: int = 0
