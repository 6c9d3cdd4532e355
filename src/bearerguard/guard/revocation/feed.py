"""The feed of revocations: reading the log that workers share, and writing to it.

Owns how far this worker has read, how entries are sealed, and what to do when entries are missing
because the store lost them or they were removed: the worker that notices begins a new epoch
(`epoch`), and then all workers together append again what they know, once. All of it is flows;
knows no store, no thread and no guard.

How soon a revocation arrives, in the worst case (`follower` has the figures of a store that fails):

- While the store answers, a notification arrives at once. If one is missed, the revocation arrives
  with the next read, which begins 0.5 s later at most.
- A store that lost its data is appended to again, the newest entries first, 0.1 s at most after a
  worker noticed. Each chunk sends one notification, so a worker that missed it reads at once.
- Between chunks, and between the pages of a long log, notifications are processed: a revocation
  made meanwhile waits for one chunk and one page at most, some 30 ms of processor time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from random import SystemRandom
from typing import NamedTuple, TypeAlias

from bearerguard.guard.revocation.epoch import Cursor, LogEntry, Mark, decode_entry
from bearerguard.guard.revocation.revocation_list import Key, Revocation, decode, encode
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import Sealer, Secret
from bearerguard.runtime.shared_log import (
    AppendLog,
    CutLog,
    ListenLog,
    LogPage,
    MarkLog,
    NotifyLog,
    ReadLog,
)

Add: TypeAlias = Callable[[Iterable[Revocation]], None]
"""Adds revocations to the list of this process."""

_PURPOSE = "revocations"
_ENTRY, _MARK = b"entry ", b"mark "
# Entries in one transaction of the store: a longer one holds up the other workers.
_CHUNK = 500
# Workers that notice a loss at the same moment start within this many seconds. After the newest
# entries, each has its own order, so that fewer of them seal the same entries in vain.
_JITTER = 0.1
# It has no state that a forked child would share, or that a program seeds.
_random = SystemRandom()
# For how long a worker that starts after a loss waits for the others to append again. They
# notice the loss by a notification at once, or without one within half a second.
_SETTLING = 1.5
# How often one read may start over, and how often other workers may append first.
_BEGINNINGS, _ATTEMPTS = 20, 200


class _SealedMark(NamedTuple):
    """A mark, and its octets in the store."""

    sealed: bytes
    mark: Mark


@dataclass(slots=True)
class _Scan:
    """One read of the log, by one thread.

    Attributes:
        cursor: how far it has read.
        found: the revocations found, of all epochs.
        present: the revocations of the present epoch.
        unreadable: how many entries could not be opened.
        beginnings: how often it started over.
        whole: whether it started at the oldest entry.
        known: the number up to which all entries were read earlier.
    """

    cursor: Cursor
    found: list[Revocation] = field(default_factory=list)
    present: list[Revocation] = field(default_factory=list)
    unreadable: int = 0
    beginnings: int = 0
    whole: bool = False
    known: int = 0

    def begin(self, mark: Mark) -> None:
        """Start over at the oldest entry."""
        is_same = mark.epoch == self.cursor.epoch
        self.known = max(self.known, self.cursor.number) if is_same else 0
        self.cursor = Cursor(epoch=mark.epoch, keep=mark.keep)
        self.present, self.unreadable, self.whole = [], 0, True

    def count_beginning(self, why: str) -> None:
        """Count that it starts over; raises `StoreFailed` when it did so too often."""
        self.beginnings += 1
        if self.beginnings > _BEGINNINGS:
            raise StoreFailed(f"the shared store {why}")


def _ignore(_revocations: Iterable[Revocation]) -> None:
    pass


class Feed:
    """One worker's view of the log.

    Args:
        secrets: the secrets under which entries are sealed, newest first, the same in all
            workers; none for a log that only trusted processes can write.
        keep: for how many seconds an entry must stay in the log.
        name: the name of the log: an entry sealed for one log opens in no other.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        secrets: Sequence[Secret],
        keep: float,
        *,
        name: str = "",
        clock: Callable[[], float] = time.time,
    ) -> None:
        # A log that no stranger can write is not sealed, and has neither mark nor numbers.
        self._is_plain = not secrets
        if secrets:
            self._sealer = Sealer(*secrets, purpose=_PURPOSE)
            self._newest = Sealer(secrets[0], purpose=_PURPOSE)
        self._entry_name, self._mark_name = (kind + name.encode() for kind in (_ENTRY, _MARK))
        self._keep = keep
        self._cursor = Cursor()
        self._known: _SealedMark | None = None  # the mark as it was last read
        self._first: tuple[bytes, LogEntry | None] = b"", None  # the oldest entry
        self._short = 0  # how many missing entries are known to have expired
        self._has_renewed = False
        self._losses = self._restored = 0
        self._is_new = True  # it has not read the whole log yet
        self._settled_at = -math.inf
        self.clock = clock
        self.reports: list[tuple[str, str]] = []
        """The events to report, code and detail; the caller removes what it has reported."""

    @property
    def lost(self) -> bool:
        """Whether the store lost entries since `restore` last succeeded."""
        return self._losses != self._restored

    @property
    def settling(self) -> bool:
        """Whether other workers still append again what the store lost."""
        return time.monotonic() < self._settled_at

    def publish(self, revocations: Sequence[Revocation], *, notify: bool = True) -> Flow[None]:
        """Append revocations to the log; returns when the store has acknowledged them."""
        if self._is_plain:
            for start in range(0, len(revocations), _CHUNK):
                chunk = encode(revocations[start : start + _CHUNK])
                yield from ask(AppendLog((chunk,), self._keep, notify))
            return
        rest, size, attempts = revocations, _CHUNK, 0
        known = self._known or (yield from self._present_mark())
        while rest:
            appended = yield from self._append(rest[:size], known, notify=notify)
            if appended is not None:
                rest, known = rest[size:], appended
                continue
            # Another worker appended meanwhile. A smaller chunk is sealed sooner.
            size, attempts = max(1, size // 4), attempts + 1
            if attempts == _ATTEMPTS:
                raise StoreFailed("other workers keep appending to the shared store")
            known = yield from self._present_mark()

    def add_notified(self, notified: Iterable[bytes], add: Add) -> None:
        """Add the entries of a notification at once; the log has them too."""
        if self._is_plain:
            with suppress(ValueError):  # the read that follows reports it
                add([each for content in notified for each in decode(content)])
            return
        entries = [self._opened(each, self._cursor.keep) for each in notified]
        add([each.revocation for each in entries if each is not None])

    def catch_up(self, add: Add, add_notified: Add | None = None) -> Flow[None]:
        """Read what was appended since the last read; the first one reads the whole log.

        Between the pages, the entries of notifications go to `add_notified`, for the thread that
        listens. The pages are added all at once, as each addition copies a list. Raises
        `StoreFailed` unless everything was read and opened.
        """
        if not self._is_plain:
            yield from self._read_on(_Scan(self._cursor), add, add_notified)
            return
        found: list[Revocation] = []
        try:
            yield from self._plain_pages(found, add_notified)
        finally:
            add(found)

    def _read_on(
        self, scan: _Scan, add: Add, add_notified: Add | None, note: Add = _ignore
    ) -> Flow[_SealedMark]:
        """Read to the end; return the mark there.

        `note` gets the revocations of the present epoch.
        """
        try:
            return (yield from self._pages(scan, add_notified))
        finally:
            note(scan.present)
            add(scan.found)

    def _plain_pages(self, found: list[Revocation], add_notified: Add | None) -> Flow[None]:
        position, more = self._cursor.position, True
        while more:
            page = yield from ask(ReadLog(position))
            try:
                found += [each for _, content in page.entries for each in decode(content)]
            except ValueError:
                raise StoreFailed("the log of revocations cannot be read") from None
            if page.entries:
                position = page.entries[-1][0]
            self._cursor, more = Cursor(position), page.more
            if add_notified is not None:
                yield from self._listen(0, add_notified)

    def _pages(self, scan: _Scan, add_notified: Add | None) -> Flow[_SealedMark]:
        """Read page by page; return the mark that names the last entry read."""
        while True:
            page = yield from ask(ReadLog(scan.cursor.position))
            known = yield from self._current_mark(page.mark, scan.cursor, page)
            if known is None:
                scan.count_beginning("keeps nothing")
                continue
            if self._has_changed(page, known.mark, scan.cursor):
                was_begun = scan.cursor.position is not None
                self._check_epoch(known.mark, scan.cursor)
                scan.begin(known.mark)
                if was_begun:
                    scan.count_beginning("changes all the time")
                    continue
            at_end, missing = self._read_page(page, known.mark, scan)
            if missing:
                scan.count_beginning("loses what is appended")
                yield from self._begin_after_loss(known, missing, scan.unreadable)
            elif at_end:
                self._finish(scan, known.mark, page)
                return known
            if add_notified is not None:
                yield from self._listen(0, add_notified)

    def _has_changed(self, page: LogPage, mark: Mark, cursor: Cursor) -> bool:
        """Whether the log is another one, or changed other than by appending.

        Perhaps it was trimmed: reading it from the beginning shows what is missing.
        """
        if mark.epoch != cursor.epoch:
            return True
        if cursor.position is None:
            return False
        if not page.intact or mark.keep > cursor.keep:
            return True
        first = self._oldest(page, mark)
        is_beheaded = first is not None and first.number > 1 and first.until > self.clock()
        return is_beheaded or self._shortness(page, mark, cursor) > self._short

    def _oldest(self, page: LogPage, mark: Mark) -> LogEntry | None:
        """Return the oldest entry, if it belongs to the epoch."""
        if page.first is None:
            return None
        if page.first != self._first[0]:
            self._first = page.first, self._opened(page.first, 0)
        first = self._first[1]
        return first if first is not None and first.epoch == mark.epoch else None

    def _shortness(self, page: LogPage, mark: Mark, cursor: Cursor) -> int:
        """Return how many entries between the oldest and the last are missing."""
        first = self._oldest(page, mark)
        if first is None or page.length is None:
            return 0
        return max(0, mark.number - first.number + 1 + cursor.foreign - page.length)

    def _check_epoch(self, mark: Mark, cursor: Cursor) -> None:
        """Count a loss if the mark has another epoch than `cursor`."""
        if mark.epoch == cursor.epoch:
            return
        self._short = 0
        if cursor.epoch is not None:
            self._losses += 1
        if self._is_new and mark.again and abs(self.clock() - mark.began) < _SETTLING:
            self._settled_at = time.monotonic() + _SETTLING

    def _read_page(
        self, page: LogPage, mark: Mark, scan: _Scan
    ) -> tuple[bool, list[tuple[int, int]]]:
        """Read a page; return whether it is the last one, and the ranges of missing numbers."""
        before = max(scan.known, scan.cursor.number)
        missing = self._read_entries(page, mark, scan)
        number = scan.cursor.number
        if mark.number < before:
            return False, [(mark.number + 1, before)]  # an older mark was put back
        # Entries beyond the mark's number were appended after it was read; read once more.
        at_end = not page.more and number <= mark.number
        if at_end and number < mark.number and mark.until > self.clock():
            missing.append((number + 1, mark.number))
        is_further = scan.cursor.epoch != self._cursor.epoch or number >= self._cursor.number
        if not missing and not scan.unreadable and is_further:
            self._cursor = scan.cursor
        return at_end, missing

    def _read_entries(self, page: LogPage, mark: Mark, scan: _Scan) -> list[tuple[int, int]]:
        """Read the entries of a page; return the ranges of numbers missing among them."""
        cursor, now = scan.cursor, self.clock()
        number, first, older, foreign = cursor.number, cursor.first, cursor.older, cursor.foreign
        missing: list[tuple[int, int]] = []
        for position, content in page.entries:
            opened = self._opened(content, mark.keep)
            if opened is None:
                foreign += 1
                scan.unreadable += 1
                continue
            epoch, its_number, until, revocation = opened
            scan.found.append(revocation)
            if epoch != mark.epoch:
                foreign += 1
                older = older or first is None
                continue
            scan.present.append(revocation)
            if its_number <= number:
                foreign += 1  # a repeated entry
                continue
            first = first or position
            if its_number > number + 1 and until > now:
                missing.append((number + 1, its_number - 1))
            number = its_number
        at = page.entries[-1][0] if page.entries else cursor.position
        scan.cursor = Cursor(at, mark.epoch, mark.keep, number, first, older, foreign)
        return missing

    def _finish(self, scan: _Scan, mark: Mark, page: LogPage) -> None:
        """Note that the log was read to its end."""
        cursor = self._cursor = replace(scan.cursor, number=mark.number)
        if scan.whole:
            self._short = self._shortness(page, mark, cursor)
        if self._is_new and cursor.older:
            self._losses += 1  # no worker has appended those again yet
        self._is_new = self.settling
        if scan.unreadable:
            detail = (
                f"{scan.unreadable} entries in the shared store were not written by these"
                " workers and were skipped; no entry of these workers is missing: find out who"
                " else writes to the store"
            )
            self.reports.append(("revocations_unreadable", detail))

    def _begin_after_loss(
        self, known: _SealedMark, missing: Sequence[tuple[int, int]], unreadable: int
    ) -> Flow[None]:
        """Begin a new epoch, in which all workers append again what they know."""
        is_known_here = known.mark.epoch == self._cursor.epoch
        is_known_here = is_known_here and missing[-1][1] <= self._cursor.number
        if unreadable and not is_known_here:
            raise StoreFailed(
                f"{unreadable} revocations cannot be read with secret=: pass all the secrets"
                " in use, newest first; if those entries are not yours, delete the log"
            )
        count = sum(last - first + 1 for first, last in missing)
        detail = (
            f"the shared store lacks up to {count} revocations, in the numbers {missing[0][0]} to"
            f" {missing[-1][1]}: somebody removed them, or the store lost them; the workers append"
            " again what they know"
        )
        self.reports.append(("revocations_lost", detail))
        mark = Mark.new(max(self._keep, known.mark.keep), self.clock(), again=True)
        yield from ask(MarkLog(self._sealed(mark), known.sealed))

    def restore(self, held: Callable[[], Sequence[Revocation]], add: Add) -> Flow[int | None]:
        """Append the revocations that `held` returns and the log lacks; return how many.

        None means that the store lost its data once more meanwhile: call it again. A worker
        appends only to a log that it has read to the end, so no two append the same.
        """
        losses, appended = self._losses, 0
        start = time.monotonic() + _random.uniform(0, _JITTER)
        while (wait := start - time.monotonic()) > 0:
            yield from self._listen(wait, add)
        present: dict[Key, Revocation] = {}

        def note(revocations: Iterable[Revocation]) -> None:
            for each in revocations:
                known = present.get(each.key)
                present[each.key] = each if known is None else known.merged(each)

        def is_missing(revocation: Revocation) -> bool:
            known = present.get(revocation.key)
            return known is None or not known.includes(revocation)

        # From the beginning, but with the epoch that was read last.
        scan = _Scan(Cursor(epoch=self._cursor.epoch, keep=self._cursor.keep))
        known = yield from self._read_on(scan, add, add, note)
        for chunk in _chunks([each for each in held() if is_missing(each)]):
            while self._losses == losses:
                missing = [each for each in chunk if is_missing(each)]
                if not missing:
                    break
                # Most workers know these already, and they may be many: no notification.
                done = yield from self._append(missing, known, notify=False)
                appended += 0 if done is None else len(missing)
                news = _Scan(self._cursor)
                known = yield from self._read_on(news, add, add, note)
        if self._losses != losses:
            return None  # `present` may describe the log before the loss
        cursor = self._cursor
        if cursor.older and cursor.first is not None and not scan.unreadable:
            # The older entries were read, and are appended to the present epoch.
            yield from ask(CutLog(cursor.first))
        self._restored = losses
        return appended

    def _append(
        self, revocations: Sequence[Revocation], known: _SealedMark, *, notify: bool
    ) -> Flow[_SealedMark | None]:
        """Append to the log if it still has this mark; return its next mark, else None."""
        mark, entries = known.mark.extended(revocations, self._keep, self.clock())
        seal, sealed = self._sealer.seal, self._sealed(mark)
        octets = tuple(seal(each, self._entry_name) for each in entries)
        done = yield from ask(AppendLog(octets, mark.keep, notify, sealed, known.sealed))
        if done is False:
            return None
        self._known = _SealedMark(sealed, mark)
        return self._known

    def _present_mark(self) -> Flow[_SealedMark]:
        """Return the present mark, to append after it."""
        for _ in range(_BEGINNINGS):
            cursor = self._cursor
            page = yield from ask(ReadLog(cursor.position))
            known = yield from self._current_mark(page.mark, cursor, page)
            if known is None:
                continue
            mark = known.mark
            if mark.epoch != cursor.epoch or mark.number >= cursor.number:
                return known
            yield from self._begin_after_loss(known, [(mark.number + 1, cursor.number)], 0)
        raise StoreFailed("the shared store keeps nothing")

    def _listen(self, wait: float, add: Add) -> Flow[None]:
        notified = yield from ask(ListenLog(wait))
        self.add_notified(notified, add)

    def _current_mark(
        self, sealed: bytes | None, cursor: Cursor, page: LogPage
    ) -> Flow[_SealedMark | None]:
        """Return the mark of a log, None if it had to be set or renewed."""
        if sealed is None:
            yield from self._set_mark(cursor, page)
            return None
        known = self._known
        if known is None or known.sealed != sealed:
            known = self._known = _SealedMark(sealed, self._opened_mark(sealed))
        mark = known.mark
        is_to_renew = not self._has_renewed and not self._is_newest(sealed)
        self._has_renewed = True
        if mark.keep < self._keep or is_to_renew:
            mark = replace(mark, keep=max(mark.keep, self._keep))
            yield from ask(MarkLog(self._sealed(mark), sealed))
            return None
        return known

    def _set_mark(self, cursor: Cursor, page: LogPage) -> Flow[None]:
        """Set the first mark of a log, or a new one after the mark was removed."""
        others = yield from ask(NotifyLog())
        is_left = cursor.epoch is None and bool(page.entries)
        if is_left:
            detail = (
                "the shared store lacks the mark of its revocations, and perhaps some of them:"
                " somebody removed it, or the store lost it; the workers append again what they"
                " know"
            )
            self.reports.append(("revocations_lost", detail))
        again = is_left or others > 0 or cursor.epoch is not None
        yield from ask(MarkLog(self._sealed(Mark.new(self._keep, self.clock(), again=again)), None))

    def _sealed(self, mark: Mark) -> bytes:
        return self._sealer.seal(mark.encode(), self._mark_name)

    def _opened_mark(self, sealed: bytes) -> Mark:
        try:
            return Mark.decode(self._sealer.open(sealed, self._mark_name))
        except ValueError:
            raise StoreFailed(
                "secret= is not that of the other workers: pass the same to all of them, or all"
                " the secrets in use, newest first; a log of another version needs another"
                " prefix="
            ) from None

    def _is_newest(self, sealed: bytes) -> bool:
        """Whether the newest secret sealed it."""
        try:
            self._newest.open(sealed, self._mark_name)
        except ValueError:
            return False
        return True

    def _opened(self, content: bytes, keep: float) -> LogEntry | None:
        """Return an entry, None if it cannot be opened."""
        try:
            return decode_entry(self._sealer.open(content, self._entry_name), keep)
        except ValueError:
            return None


def _chunks(revocations: Sequence[Revocation]) -> list[Sequence[Revocation]]:
    """Return chunks: the newest first, which others may not know yet, the rest in random order."""
    newest_first = revocations[::-1]
    chunks = [newest_first[at : at + _CHUNK] for at in range(0, len(newest_first), _CHUNK)]
    rest = chunks[1:]
    _random.shuffle(rest)
    return [*chunks[:1], *rest]
