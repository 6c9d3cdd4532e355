"""The numbering of a shared log: what lets a reader see that entries are missing.

Owns what the mark and an entry hold before they are sealed. A log has an epoch, and each entry of
an epoch a number, one more than that of the entry before. The mark says which number was given
last, and until when what was numbered so far matters: entries that are trimmed later than that
are missed by nobody. Knows no store and no secret; the time is given.
"""

from __future__ import annotations

import math
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, get_args

from bearerguard.guard.revocation.revocation_list import Kind, Revocation

# How much longer an entry stays than anybody needs it: clocks differ.
MARGIN = 600.0
_MARK = struct.Struct(">16sdQdd?")
# Epoch, number, until, made, open ended; kind, before (NaN for none), expires_at, and the length
# of the issuer, which the value follows. A log of a million is read at the start of each worker.
_ENTRY = struct.Struct(">16sQdd?BddI")
_EPOCH_BYTES = 16
_KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Mark:
    """What a log must hold.

    Attributes:
        epoch: which log it is: another one begins where entries were lost.
        keep: for how many seconds entries stay in it, as the longest life of a token of all
            the APIs that share it demands.
        number: that of the last entry; 0 for none.
        until: when all of them are over, in Unix seconds.
        began: when the epoch did, in Unix seconds.
        again: whether it is another epoch than one before, so that workers append to it again
            what they know.
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
        """Return it as octets that are to be sealed."""
        return _MARK.pack(self.epoch, self.keep, self.number, self.until, self.began, self.again)

    @classmethod
    def decode(cls, octets: bytes) -> Mark:
        """Return what `encode` made; raises ValueError for anything else."""
        if len(octets) != _MARK.size:
            raise ValueError("this is no mark")
        return cls(*_MARK.unpack(octets))

    def extended(
        self, revocations: Sequence[Revocation], keep: float, now: float
    ) -> tuple[Mark, list[bytes]]:
        """Return the mark after these, and their entries; `keep` is what the writer demands."""
        number, until, kept = self.number, self.until, max(self.keep, keep)
        entries: list[bytes] = []
        for each in revocations:
            number += 1
            # As long as a token may live, for all that the writer knows: others know longer lives.
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


class Entry(NamedTuple):
    """An entry of the log.

    Attributes:
        epoch: of which log it is.
        number: its number there.
        until: when all that have a smaller number are over.
        revocation: what was revoked.
    """

    epoch: bytes
    number: int
    until: float
    revocation: Revocation


def entry(octets: bytes, keep: float) -> Entry:
    """Return what `Mark.extended` made, which nobody else can have sealed.

    `keep` is for how long the log keeps entries: a revocation lasts as long as the tokens
    of whoever has the longest, which its writer may not know.
    """
    epoch, number, until, made, open_ended, kind, date, over, length = _ENTRY.unpack_from(octets)
    before = None if date != date else date  # noqa: PLR0124 - what is not itself is NaN
    lasts = keep - MARGIN + (date if before is not None else made if open_ended else 0.0)
    end = _ENTRY.size + length
    issuer = sys.intern(octets[_ENTRY.size : end].decode())
    value = octets[end:].decode()
    over = max(over, lasts)
    return Entry(epoch, number, until, Revocation(_KINDS[kind], issuer, value, before, over))


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker stands in the log; swapped whole, as several threads may read.

    Attributes:
        position: that of the last entry read, None at the beginning.
        epoch: of the mark, None before the first.
        keep: that of the mark.
        number: that of the last entry of the epoch.
        first: the position of the first entry of the epoch.
        older: whether entries of other epochs stand before it.
        foreign: how many entries up to there are none of the epoch's: of other epochs, put in
            once more, or not to be read.
    """

    position: str | None = None
    epoch: bytes | None = field(default=None, repr=False)
    keep: float = 0.0
    number: int = 0
    first: str | None = None
    older: bool = False
    foreign: int = 0
