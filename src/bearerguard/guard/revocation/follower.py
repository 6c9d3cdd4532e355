"""The thread that follows what workers share: one daemon, in both worlds, started when needed.

While it waits it holds what follows only weakly, so that it keeps nothing alive and ends with
it. After a failure it tries again soon, because a revocation waits for it.

What a worker may not know, and for how long, when the store fails:

- Whoever was listening when `revoke()` returned has been sent it, and hears it even if the store
  died at that moment (but not if its machine did, or if it sends in threads of its own).
- Whoever was not, because the store had died before and just came back, tries every 0.05 s; with
  a connection, a subscription and a read that is 0.1 s after the store is back, and half a second
  on a machine that is busy with other things.
- Should the store die again within that time, such a worker waits until it is back: 0.1 s longer
  than the outage if it kept its data; if it did not, 0.1 s more until the others append what it
  lost, which costs them some 30 ms of a processor for each 500, the newest first. While the
  store is away `revoke()` raises, so nobody counts on what a worker cannot learn.
- A store that hangs, or a network that swallows everything, costs one attempt of `timeout` (1 s)
  on top. After a quarter of a minute without it the attempts are 0.25 s apart.

A worker that starts after a loss waits for the others, 1.5 s, if anybody listens or a gap in the
log shows that something is missing; it refuses meanwhile.

Without the store at all, the list is believed for `max_staleness`.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from contextlib import AbstractContextManager
from typing import Protocol

from bearerguard.runtime.flow import Flow, Handlers, run
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import ListenLog

_log = logging.getLogger("bearerguard")

# How long a round waits for news; also how soon a silent loss is noticed.
_ROUND = 0.5
# How long it waits after a failure: for so many seconds little, for a restart takes no longer.
_PAUSE, _LATER_PAUSE, _SOON = 0.05, 0.25, 15.0


class Following(Protocol):
    """What the thread keeps going."""

    def follow(self, heard: tuple[bytes, ...]) -> Flow[None]:
        """Take in what was heard, and what there is to read; raises `StoreFailed`."""
        ...

    def fell_behind(self, error: Exception) -> None:
        """Note that following failed."""
        ...


class Listening(Protocol):
    """Where the thread's handlers come from."""

    def listening(self) -> AbstractContextManager[Handlers]:
        """Return the handlers for one thread, inside the block."""
        ...


class Follower:
    """Starts the thread, and ends it."""

    def __init__(self, store: Listening) -> None:
        self._store = store
        self._round: _Round | None = None

    def start(self, what: Following) -> None:
        """Have `what` followed, if no thread of this process does so already."""
        if not self.runs():
            self._round = _Round(what, self._store)

    def runs(self) -> bool:
        """Whether a thread of this process follows, and goes on."""
        return self._round is not None and self._round.runs()

    def close(self) -> None:
        """End the thread within a moment."""
        if self._round is not None and self._round.runs():
            self._round.stopped.set()


class _Round:
    """One thread, from its start to its end."""

    def __init__(self, what: Following, store: Listening) -> None:
        self._pid = os.getpid()
        self.stopped = threading.Event()
        self._thread = threading.Thread(
            target=_work,
            args=(weakref.ref(what), store, self.stopped),
            name="bearerguard-revocations",
            daemon=True,
        )
        self._thread.start()

    def runs(self) -> bool:
        """Whether it follows in this process and will go on."""
        mine = self._pid == os.getpid()  # of a parent's thread a child knows nothing
        return mine and self._thread.is_alive() and not self.stopped.is_set()


def _work(reference: weakref.ref[Following], store: Listening, stopped: threading.Event) -> None:
    pause, failing_since = 0.0, None
    with store.listening() as handlers:
        while not stopped.wait(pause):
            failed = _one_round(reference, handlers, stopped)
            if reference() is None:
                return
            now = time.monotonic()
            failing_since = (failing_since or now) if failed else None
            pause = 0.0 if failing_since is None else pause_after(now - failing_since)


def pause_after(failing: float) -> float:
    """Return for how long to leave the store alone that has been failing for so many seconds."""
    return _PAUSE if failing < _SOON else _LATER_PAUSE


def _one_round(
    reference: weakref.ref[Following], handlers: Handlers, stopped: threading.Event
) -> bool:
    """Wait for news and have them taken in; return whether that failed."""
    failure: Exception | None = None
    heard: tuple[bytes, ...] = ()
    try:
        heard = handlers[ListenLog](ListenLog(_ROUND))
    except Exception as error:  # a thread that ended would leave the list believed, and old
        failure = error
    what = reference()
    if what is None or stopped.is_set():
        return False  # whoever closed a store shall not find it open again
    try:
        if failure is None:
            run(what.follow(heard), handlers)
    except Exception as error:
        failure = error
    if failure is None:
        return False
    if not isinstance(failure, StoreFailed):
        _log.error("following the revocations failed in an unforeseen way", exc_info=failure)
    what.fell_behind(failure)
    return True
