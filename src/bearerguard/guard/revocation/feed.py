"""Following the log of revocations that workers share, and writing to it.

Owns where this worker stands in the log, what an entry looks like (sealed), and what to do
when the store lost entries, or somebody removed them: who notices begins another epoch
(`revocation_chain`), and then all workers together append again what they know, once. All of it
is flows; knows no store, no thread and no guard.

How soon, in the worst case (`follower` has the numbers of a store that fails):

- While the store answers, the bell is heard at once. One that is not heard costs what is left
  of a round, 0.5 s at most, and a read.
- A store that lost its data is appended to again, the newest first, 0.1 s at most after a worker
  noticed. Each chunk rings once, so who missed it reads at once.
- Between chunks, and between the pages of a long log, the bell is heard: what is revoked
  meanwhile waits for one of each, some 30 ms of a processor.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

from bearerguard.guard.revocation.chain import Entry, Mark, Place, entry
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
    ReadLog,
    RingLog,
)

Learn: TypeAlias = Callable[[Iterable[Revocation]], None]

_PURPOSE = "revocations"
_ENTRY, _MARK = b"entry ", b"mark "
# One transaction of the store: what is longer holds up the others.
_CHUNK = 500
# Workers that notice a loss at the same moment begin within so many seconds, and after the
# newest each goes in an order of its own: they seal less in vain.
_JITTER = 0.1
# For how long a worker that starts after a loss waits for what the others append again: they
# notice it at once if they hear the bell, and within half a second if they do not.
_SETTLING = 1.5
# How often one reading begins anew, and how often others may be faster at appending.
_BEGINNINGS, _ATTEMPTS = 20, 200


class _Known(NamedTuple):
    """A mark, and as it stands in the store."""

    sealed: bytes
    mark: Mark


@dataclass(slots=True)
class _Reading:
    """One reading, of one thread.

    Attributes:
        place: up to where.
        found: what was found, in whatever epoch.
        present: what is in the present epoch.
        unreadable: how many entries could not be read.
        beginnings: how often it began anew.
        whole: whether it began at the oldest entry.
        known: the number up to which all was read before.
    """

    place: Place
    found: list[Revocation] = field(default_factory=list)
    present: list[Revocation] = field(default_factory=list)
    unreadable: int = 0
    beginnings: int = 0
    whole: bool = False
    known: int = 0

    def begin(self, mark: Mark) -> None:
        """Begin at the oldest entry."""
        is_same = mark.epoch == self.place.epoch
        self.known = max(self.known, self.place.number) if is_same else 0
        self.place = Place(epoch=mark.epoch, keep=mark.keep)
        self.present, self.unreadable, self.whole = [], 0, True

    def count_beginning(self, why: str) -> None:
        """Note that it is to begin anew; raises `StoreFailed` when that was so too often."""
        self.beginnings += 1
        if self.beginnings > _BEGINNINGS:
            raise StoreFailed(f"the shared store {why}")


def _nobody(_revocations: Iterable[Revocation]) -> None:
    pass


class Feed:
    """One worker's place in the log.

    Args:
        secrets: what seals the entries, oldest to newest, the same in all workers; none
            for a log that is kept where tokens are issued.
        keep: for how many seconds an entry must stay in the log.
        name: of the log: what is sealed for one opens in no other.
    """

    def __init__(self, secrets: Sequence[Secret], keep: float, *, name: str = "") -> None:
        # Where no stranger writes there is no seal, and neither a mark of ours nor a number.
        self._is_plain = not secrets
        if secrets:
            self._sealer = Sealer(*secrets, purpose=_PURPOSE)
            self._newest = Sealer(secrets[-1], purpose=_PURPOSE)
        self._entry, self._marked = (kind + name.encode() for kind in (_ENTRY, _MARK))
        self._keep = keep
        self._place = Place()
        self._known: _Known | None = None  # the mark as it was last seen
        self._first: tuple[bytes, Entry | None] = b"", None  # the oldest entry
        self._short = 0  # so many fewer than there might be are in order
        self._has_renewed = False
        self._losses = self._restored = 0
        self._is_new = True  # it has not read a whole log yet
        self._settled_at = -math.inf
        self.clock: Callable[[], float] = time.time
        self.reports: list[tuple[str, str]] = []
        """What operators are to be told, code and detail; whoever does so takes them out."""

    @property
    def lost(self) -> bool:
        """Whether the store lost entries since `restore` last went through."""
        return self._losses != self._restored

    @property
    def settling(self) -> bool:
        """Whether others know what this worker cannot yet: they append it again."""
        return time.monotonic() < self._settled_at

    def publish(self, revocations: Sequence[Revocation], *, ring: bool = True) -> Flow[None]:
        """Append revocations to the log; returns when the store has acknowledged them."""
        if self._is_plain:
            for start in range(0, len(revocations), _CHUNK):
                chunk = encode(revocations[start : start + _CHUNK])
                yield from ask(AppendLog((chunk,), self._keep, ring))
            return
        rest, size, attempts = revocations, _CHUNK, 0
        known = self._known or (yield from self._present())
        while rest:
            appended = yield from self._append(rest[:size], known, ring=ring)
            if appended is not None:
                rest, known = rest[size:], appended
                continue
            # Somebody else appended meanwhile; fewer at a time are sooner ready.
            size, attempts = max(1, size // 4), attempts + 1
            if attempts == _ATTEMPTS:
                raise StoreFailed("others append to the shared store all the time")
            known = yield from self._present()

    def hear(self, heard: Iterable[bytes], learn: Learn) -> None:
        """Learn at once what the bell told; the log tells it too, and what is no entry."""
        entries = [self._opened(each, self._place.keep) for each in heard]
        learn([each.revocation for each in entries if each is not None])

    def catch_up(self, learn: Learn, hearing: Learn | None = None) -> Flow[None]:
        """Read what was appended since the last time, from the beginning the first time.

        Between the pages, `hearing` is told what the bell says: for a thread that listens.
        All pages are learned in one go: a list grows at the cost of a copy. Raises
        `StoreFailed` unless all of it was read and understood.
        """
        if not self._is_plain:
            yield from self._caught_up(_Reading(self._place), learn, hearing)
            return
        found: list[Revocation] = []
        try:
            yield from self._plain_pages(found, hearing)
        finally:
            learn(found)

    def _caught_up(
        self, reading: _Reading, learn: Learn, hearing: Learn | None, note: Learn = _nobody
    ) -> Flow[_Known]:
        """Read on; return the mark that says so much was appended.

        `note` is told what is in the present epoch.
        """
        try:
            return (yield from self._pages(reading, hearing))
        finally:
            note(reading.present)
            learn(reading.found)

    def _plain_pages(self, found: list[Revocation], hearing: Learn | None) -> Flow[None]:
        position, more = self._place.position, True
        while more:
            page = yield from ask(ReadLog(position))
            try:
                found += [each for _, content in page.entries for each in decode(content)]
            except ValueError:
                raise StoreFailed("the log of revocations cannot be read") from None
            if page.entries:
                position = page.entries[-1][0]
            self._place, more = Place(position), page.more
            if hearing is not None:
                yield from self._listen(0, hearing)

    def _pages(self, reading: _Reading, hearing: Learn | None) -> Flow[_Known]:
        """Read to the end; return the mark that says that this is it."""
        while True:
            page = yield from ask(ReadLog(reading.place.position))
            known = yield from self._entered(page.mark, reading.place, page)
            if known is None:
                reading.count_beginning("keeps nothing")
                continue
            if self._has_changed(page, known.mark, reading.place):
                was_begun = reading.place.position is not None
                self._enter(known.mark, reading.place)
                reading.begin(known.mark)
                if was_begun:
                    reading.count_beginning("changes all the time")
                    continue
            at_end, missing = self._take_in(page, known.mark, reading)
            if missing:
                reading.count_beginning("loses what is appended")
                yield from self._begin_after_loss(known, missing, reading.unreadable)
            elif at_end:
                self._end(reading, known.mark, page)
                return known
            if hearing is not None:
                yield from self._listen(0, hearing)

    def _has_changed(self, page: LogPage, mark: Mark, place: Place) -> bool:
        """Whether the log is another one, or changed in another way than by what was appended.

        It was trimmed, perhaps: reading it from the beginning shows what is missing.
        """
        if mark.epoch != place.epoch:
            return True
        if place.position is None:
            return False
        if not page.intact or mark.keep > place.keep:
            return True
        first = self._oldest(page, mark)
        is_beheaded = first is not None and first.number > 1 and first.until > self.clock()
        return is_beheaded or self._shortness(page, mark, place) > self._short

    def _oldest(self, page: LogPage, mark: Mark) -> Entry | None:
        """Return the oldest entry, if it is one of the epoch."""
        if page.first is None:
            return None
        if page.first != self._first[0]:
            self._first = page.first, self._opened(page.first, 0)
        first = self._first[1]
        return first if first is not None and first.epoch == mark.epoch else None

    def _shortness(self, page: LogPage, mark: Mark, place: Place) -> int:
        """Return how many entries fewer there are than those from the oldest to the last."""
        first = self._oldest(page, mark)
        if first is None or page.length is None:
            return 0
        return max(0, mark.number - first.number + 1 + place.foreign - page.length)

    def _enter(self, mark: Mark, place: Place) -> None:
        """Note which epoch it is, if that is another one than at `place`."""
        if mark.epoch == place.epoch:
            return
        self._short = 0
        if place.epoch is not None:
            self._losses += 1
        if self._is_new and mark.again and abs(self.clock() - mark.began) < _SETTLING:
            self._settled_at = time.monotonic() + _SETTLING

    def _take_in(
        self, page: LogPage, mark: Mark, reading: _Reading
    ) -> tuple[bool, list[tuple[int, int]]]:
        """Take in a page; return whether it is the last one, and what numbers are missing."""
        before = max(reading.known, reading.place.number)
        missing = self._read(page, mark, reading)
        number = reading.place.number
        if mark.number < before:
            return False, [(mark.number + 1, before)]  # an older mark was put back
        # What is more than the mark says was appended after it was read: the next one says so.
        at_end = not page.more and number <= mark.number
        if at_end and number < mark.number and mark.until > self.clock():
            missing.append((number + 1, mark.number))
        is_further = reading.place.epoch != self._place.epoch or number >= self._place.number
        if not missing and not reading.unreadable and is_further:
            self._place = reading.place
        return at_end, missing

    def _read(self, page: LogPage, mark: Mark, reading: _Reading) -> list[tuple[int, int]]:
        """Take in the entries of a page; return the numbers that are missing among them."""
        place, now = reading.place, self.clock()
        number, first, older, foreign = place.number, place.first, place.older, place.foreign
        missing: list[tuple[int, int]] = []
        for position, content in page.entries:
            opened = self._opened(content, mark.keep)
            if opened is None:
                foreign += 1
                reading.unreadable += 1
                continue
            epoch, its_number, until, revocation = opened
            reading.found.append(revocation)
            if epoch != mark.epoch:
                foreign += 1
                older = older or first is None
                continue
            reading.present.append(revocation)
            if its_number <= number:
                foreign += 1  # somebody put it in once more
                continue
            first = first or position
            if its_number > number + 1 and until > now:
                missing.append((number + 1, its_number - 1))
            number = its_number
        at = page.entries[-1][0] if page.entries else place.position
        reading.place = Place(at, mark.epoch, mark.keep, number, first, older, foreign)
        return missing

    def _end(self, reading: _Reading, mark: Mark, page: LogPage) -> None:
        """Note that all there is was read."""
        place = self._place = replace(reading.place, number=mark.number)
        if reading.whole:
            self._short = self._shortness(page, mark, place)
        if self._is_new and place.older:
            self._losses += 1  # nobody has come to appending that again
        self._is_new = self.settling
        if reading.unreadable:
            detail = (
                f"{reading.unreadable} entries in the shared store are none of ours; as none of"
                " ours is missing, they were passed over: somebody else writes to the store"
            )
            self.reports.append(("revocations_unreadable", detail))

    def _begin_after_loss(
        self, known: _Known, missing: Sequence[tuple[int, int]], unreadable: int
    ) -> Flow[None]:
        """Begin another epoch, which has everybody append again what they know."""
        is_known_here = known.mark.epoch == self._place.epoch
        is_known_here = is_known_here and missing[-1][1] <= self._place.number
        if unreadable and not is_known_here:
            raise StoreFailed(
                f"{unreadable} revocations cannot be read with secret=: pass all the secrets"
                " in use, oldest to newest; if those entries are not yours, delete the log"
            )
        count = sum(last - first + 1 for first, last in missing)
        detail = (
            f"the shared store lacks up to {count} revocations, in the numbers {missing[0][0]} to"
            f" {missing[-1][1]}: somebody removed them, or it lost them; the workers that know"
            " them append them again"
        )
        self.reports.append(("revocations_lost", detail))
        mark = Mark.new(max(self._keep, known.mark.keep), self.clock(), again=True)
        yield from ask(MarkLog(self._sealed(mark), known.sealed))

    def restore(self, held: Callable[[], Sequence[Revocation]], learn: Learn) -> Flow[int | None]:
        """Append what is held here and missing in the log; return how much that was.

        None says that the store lost its data once more meanwhile, and this is to be repeated.
        Nothing is appended but to a log that was read to its end, so no two append the same.
        """
        losses, appended = self._losses, 0
        start = time.monotonic() + random.uniform(0, _JITTER)  # noqa: S311 - no secret
        while (wait := start - time.monotonic()) > 0:
            yield from self._listen(wait, learn)
        present: dict[Key, Revocation] = {}

        def note(revocations: Iterable[Revocation]) -> None:
            for each in revocations:
                known = present.get(each.key)
                present[each.key] = each if known is None else known.merged(each)

        def is_missing(revocation: Revocation) -> bool:
            known = present.get(revocation.key)
            return known is None or not known.includes(revocation)

        # From the beginning, but as one who knows which log it was.
        reading = _Reading(Place(epoch=self._place.epoch, keep=self._place.keep))
        known = yield from self._caught_up(reading, learn, learn, note)
        for chunk in _in_turn([each for each in held() if is_missing(each)]):
            while self._losses == losses:
                missing = [each for each in chunk if is_missing(each)]
                if not missing:
                    break
                # Who has heard of them does not need to again, and they may be many.
                done = yield from self._append(missing, known, ring=False)
                appended += 0 if done is None else len(missing)
                news = _Reading(self._place)
                known = yield from self._caught_up(news, learn, learn, note)
        if self._losses != losses:
            return None  # what is `present` may be of the log before
        place = self._place
        if place.older and place.first is not None and not reading.unreadable:
            # All before was read, and is appended to the present epoch.
            yield from ask(CutLog(place.first))
        self._restored = losses
        return appended

    def _append(
        self, revocations: Sequence[Revocation], known: _Known, *, ring: bool
    ) -> Flow[_Known | None]:
        """Append to the log that has this mark; return the next, None if it has another one."""
        mark, entries = known.mark.extended(revocations, self._keep, self.clock())
        seal, sealed = self._sealer.seal, self._sealed(mark)
        octets = tuple(seal(each, self._entry) for each in entries)
        done = yield from ask(AppendLog(octets, mark.keep, ring, sealed, known.sealed))
        if done is False:
            return None
        self._known = _Known(sealed, mark)
        return self._known

    def _present(self) -> Flow[_Known]:
        """Return the present mark, for one who appends."""
        for _ in range(_BEGINNINGS):
            place = self._place
            page = yield from ask(ReadLog(place.position))
            known = yield from self._entered(page.mark, place, page)
            if known is None:
                continue
            mark = known.mark
            if mark.epoch != place.epoch or mark.number >= place.number:
                return known
            yield from self._begin_after_loss(known, [(mark.number + 1, place.number)], 0)
        raise StoreFailed("the shared store keeps nothing")

    def _listen(self, wait: float, learn: Learn) -> Flow[None]:
        heard = yield from ask(ListenLog(wait))
        self.hear(heard, learn)

    def _entered(self, sealed: bytes | None, place: Place, page: LogPage) -> Flow[_Known | None]:
        """Return the mark of a log, None if one was only now set."""
        if sealed is None:
            yield from self._begin(place, page)
            return None
        known = self._known
        if known is None or known.sealed != sealed:
            known = self._known = _Known(sealed, self._opened_mark(sealed))
        mark = known.mark
        is_to_renew = not self._has_renewed and not self._is_newest(sealed)
        self._has_renewed = True
        if mark.keep < self._keep or is_to_renew:
            mark = replace(mark, keep=max(mark.keep, self._keep))
            yield from ask(MarkLog(self._sealed(mark), sealed))
            return None
        return known

    def _begin(self, place: Place, page: LogPage) -> Flow[None]:
        """Set the first mark of a log, or another one where that was removed."""
        others = yield from ask(RingLog())
        is_left = place.epoch is None and bool(page.entries)
        if is_left:
            detail = (
                "the shared store lacks the mark of its revocations, and perhaps some of those:"
                " somebody removed it, or it lost it; the workers that know more append it again"
            )
            self.reports.append(("revocations_lost", detail))
        again = is_left or others > 0 or place.epoch is not None
        yield from ask(MarkLog(self._sealed(Mark.new(self._keep, self.clock(), again=again)), None))

    def _sealed(self, mark: Mark) -> bytes:
        return self._sealer.seal(mark.encode(), self._marked)

    def _opened_mark(self, sealed: bytes) -> Mark:
        try:
            return Mark.decode(self._sealer.open(sealed, self._marked))
        except ValueError:
            raise StoreFailed(
                "secret= is not that of the other workers: pass the same to all of them, or all"
                " the secrets in use, oldest to newest; a log of another version needs another"
                " prefix="
            ) from None

    def _is_newest(self, sealed: bytes) -> bool:
        """Whether our newest secret sealed it."""
        try:
            self._newest.open(sealed, self._marked)
        except ValueError:
            return False
        return True

    def _opened(self, content: bytes, keep: float) -> Entry | None:
        """Return an entry, None for what cannot be read."""
        try:
            return entry(self._sealer.open(content, self._entry), keep)
        except ValueError:
            return None


def _in_turn(revocations: Sequence[Revocation]) -> list[Sequence[Revocation]]:
    """Return them in chunks: the newest, which somebody may not know yet, and the rest anyhow."""
    newest_first = revocations[::-1]
    chunks = [newest_first[at : at + _CHUNK] for at in range(0, len(newest_first), _CHUNK)]
    rest = chunks[1:]
    random.shuffle(rest)
    return [*chunks[:1], *rest]
