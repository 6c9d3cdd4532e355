"""The numbering of a shared log: what lets a reader see that entries are missing.

Owns what the mark and an entry hold before they are sealed. A log has an epoch, and each entry of
an epoch a number, one more than that of the entry before. The mark says which number was given
last, and until when what was numbered so far matters: entries that are trimmed later than that
are missed by nobody. Knows no store and no secret; the time is given.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from bearerguard.guard.revocation_list import Revocation

# How much longer an entry stays than anybody needs it: clocks differ.
MARGIN = 600.0
_MARK = struct.Struct(">16sdQdd?")
_ENTRY = struct.Struct(">16sQdd?")
_EPOCH_BYTES = 16


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
            entries.append(_ENTRY.pack(self.epoch, number, until, now, open_ended) + each.encode())
            until = max(until, min(each.expires_at, now + kept - MARGIN))
        return replace(self, keep=kept, number=number, until=until), entries


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of the log.

    Attributes:
        epoch: of which log it is.
        number: its number there.
        until: when all that have a smaller number are over.
        revocation: what was revoked.
    """

    epoch: bytes = field(repr=False)
    number: int
    until: float
    revocation: Revocation

    @classmethod
    def decode(cls, octets: bytes, keep: float) -> Entry:
        """Return what `Mark.extended` made; raises ValueError for anything else.

        `keep` is for how long the log keeps entries: a revocation lasts as long as the tokens
        of whoever has the longest, which its writer may not know.
        """
        if len(octets) < _ENTRY.size:
            raise ValueError("this is no entry")
        epoch, number, until, made, open_ended = _ENTRY.unpack_from(octets)
        found = Revocation.decode(octets[_ENTRY.size :])
        since = found.before
        if since is None:
            since = made if open_ended else 0.0
        lasts = since + keep - MARGIN
        if lasts > found.expires_at:
            found = replace(found, expires_at=lasts)
        return cls(epoch, number, until, found)


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
