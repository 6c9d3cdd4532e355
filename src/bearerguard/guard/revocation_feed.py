"""Following the log of revocations that workers share, and writing to it.

Owns where this worker stands in the log, what an entry looks like (sealed), and what to do
when the store lost its data: another mark, or a position that is gone, says so, and then
each worker appends again what it knows and the log lacks. All of it is flows; knows no
store, no thread and no guard.

How soon, in the worst case (`follower` has the numbers of a store that fails):

- While the store answers, the bell is heard at once. One that is not heard costs what is left
  of a round, 0.5 s at most, and a read.
- A store that lost its data is appended to again, the newest first, 0.1 s at most after a worker
  noticed. Each chunk rings once, so who missed it reads at once.
- Between chunks, and between the pages of a long log, the bell is heard: what is revoked
  meanwhile waits for one of each, some 30 ms of a processor.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from bearerguard.flow import Flow, ask
from bearerguard.guard.revocation_list import Key, Revocation, decode, encode
from bearerguard.messages import StoreFailed
from bearerguard.sealing import Sealer, Secret
from bearerguard.shared_log import AppendLog, ListenLog, LogPage, MarkLog, ReadLog

Learn: TypeAlias = Callable[[Iterable[Revocation]], None]

_PURPOSE = "revocations"
_ENTRY, _MARK = b"entry", b"mark"
_EPOCH_BYTES = 16
# One transaction of the store: what is longer holds up the others.
_CHUNK = 500
# Workers that notice a loss at the same moment shall not all append the same: they begin
# within so many seconds, look before each chunk what the others have appended, and after the
# newest each goes in an order of its own.
_JITTER = 0.1


class _Unsealed:
    """Leaves entries as they are: for a store that nobody writes to but the workers."""

    def seal(self, plaintext: bytes, _associated: bytes = b"") -> bytes:
        return plaintext

    def open(self, sealed: bytes, _associated: bytes = b"") -> bytes:
        return sealed


class Feed:
    """One worker's place in the log.

    Args:
        secrets: what seals the entries, oldest to newest, the same in all workers; none
            for a log that is kept where tokens are issued.
        keep: for how many seconds an entry must stay in the log.
    """

    def __init__(self, secrets: Sequence[Secret], keep: float) -> None:
        plain = _Unsealed()
        self._sealer = Sealer(*secrets, purpose=_PURPOSE) if secrets else plain
        self._newest = Sealer(secrets[-1], purpose=_PURPOSE) if secrets else plain
        self._keep = keep
        self._position: str | None = None
        self._mark: bytes | None = None  # as it was last opened
        self._epoch: bytes | None = None
        self._losses = self._restored = 0

    @property
    def lost(self) -> bool:
        """Whether the store lost entries since `restore` last went through."""
        return self._losses != self._restored

    def publish(self, revocations: Sequence[Revocation], *, ring: bool = True) -> Flow[None]:
        """Append revocations to the log; returns when the store has acknowledged them."""
        for start in range(0, len(revocations), _CHUNK):
            chunk = revocations[start : start + _CHUNK]
            entries = tuple(self._sealer.seal(encode([each]), _ENTRY) for each in chunk)
            yield from ask(AppendLog(entries, self._keep, ring))

    def hear(self, heard: Iterable[bytes], learn: Learn) -> None:
        """Learn at once what the bell told; the log tells it too, and what is no entry."""
        learn(self._opened(heard)[0])

    def catch_up(self, learn: Learn, hearing: Learn | None = None) -> Flow[None]:
        """Read what was appended since the last time, from the beginning the first time.

        Between the pages, `hearing` is told what the bell says: for a thread that listens.
        All pages are learned in one go: a list grows at the cost of a copy. Raises
        `StoreFailed` unless all of it was read and understood.
        """
        found: list[Revocation] = []
        try:
            yield from self._pages(found, hearing)
        finally:
            learn(found)

    def _pages(self, found: list[Revocation], hearing: Learn | None) -> Flow[None]:
        position, more = self._position, True
        while more:
            page = yield from self._page(position)
            if not page.intact:
                self._losses, position = self._losses + 1, None
                continue
            revocations, unreadable = self._opened(content for _, content in page.entries)
            found += revocations
            if unreadable:
                raise StoreFailed(
                    f"{unreadable} revocations cannot be read with secret=: pass all the secrets"
                    " in use, oldest to newest"
                )
            if page.entries:
                position = page.entries[-1][0]
            self._position, more = position, page.more
            if hearing is not None:
                yield from self._listen(0, hearing)

    def restore(self, held: Callable[[], Sequence[Revocation]], learn: Learn) -> Flow[int | None]:
        """Append what is held here and missing in the log; return how much that was.

        None says that the store lost its data once more meanwhile, and this is to be repeated.
        """
        losses, appended = self._losses, 0
        start = time.monotonic() + random.uniform(0, _JITTER)  # noqa: S311 - no secret
        while (wait := start - time.monotonic()) > 0:
            yield from self._listen(wait, learn)
        present: dict[Key, Revocation] = {}

        def note(revocations: Iterable[Revocation]) -> None:
            found = list(revocations)
            for each in found:
                known = present.get(each.key)
                present[each.key] = each if known is None else known.merged(each)
            learn(found)

        def is_missing(revocation: Revocation) -> bool:
            known = present.get(revocation.key)
            return known is None or not known.includes(revocation)

        self._position = None
        yield from self.catch_up(note, learn)
        for chunk in _in_turn([each for each in held() if is_missing(each)]):
            missing = [each for each in chunk if is_missing(each)]
            # Who has heard of them does not need to again, and they may be many.
            yield from self.publish(missing, ring=False)
            appended += len(missing)
            yield from self.catch_up(note, learn)
        if self._losses != losses:
            return None  # what is `present` may be of the log before
        self._restored = losses
        return appended

    def _listen(self, wait: float, learn: Learn) -> Flow[None]:
        heard = yield from ask(ListenLog(wait))
        self.hear(heard, learn)

    def _page(self, position: str | None) -> Flow[LogPage]:
        """Read a page of a log that has a mark; not intact if it is another log than before."""
        page = yield from ask(ReadLog(position))
        if page.mark is None:
            yield from ask(MarkLog(self._new_mark(os.urandom(_EPOCH_BYTES)), None))
            page = yield from ask(ReadLog(position))
            if page.mark is None:
                raise StoreFailed("the shared store keeps nothing")
        if page.mark == self._mark:
            return page
        epoch = yield from self._entered(page.mark)
        known, self._epoch, self._mark = self._epoch, epoch, page.mark
        if known in {None, epoch}:
            return page
        return LogPage(page.mark, (), intact=False, more=True)

    def _entered(self, mark: bytes) -> Flow[bytes]:
        """Return the epoch that a mark names, and see to it that our newest secret seals it."""
        try:
            epoch = self._sealer.open(mark, _MARK)
        except ValueError:
            raise StoreFailed(
                "secret= is not that of the other workers: pass the same to all of them, or all"
                " the secrets in use, oldest to newest"
            ) from None
        if self._epoch is None:
            try:
                self._newest.open(mark, _MARK)
            except ValueError:
                yield from ask(MarkLog(self._new_mark(epoch), mark))
        return epoch

    def _new_mark(self, epoch: bytes) -> bytes:
        return self._sealer.seal(epoch, _MARK)

    def _opened(self, entries: Iterable[bytes]) -> tuple[list[Revocation], int]:
        """Return the revocations in these entries, and how many entries cannot be read."""
        revocations: list[Revocation] = []
        unreadable = 0
        for each in entries:
            try:
                revocations += decode(self._sealer.open(each, _ENTRY))
            except ValueError:
                unreadable += 1
        return revocations, unreadable


def _in_turn(revocations: Sequence[Revocation]) -> list[Sequence[Revocation]]:
    """Return them in chunks: the newest, which somebody may not know yet, and the rest anyhow."""
    newest_first = revocations[::-1]
    chunks = [newest_first[at : at + _CHUNK] for at in range(0, len(newest_first), _CHUNK)]
    rest = chunks[1:]
    random.shuffle(rest)
    return [*chunks[:1], *rest]
