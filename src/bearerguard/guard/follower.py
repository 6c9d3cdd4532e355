"""The thread that follows what workers share: one daemon, in both worlds, started when needed.

While it waits it holds what follows only weakly, so that it keeps nothing alive and ends with
it. After a failure it tries again soon, because a revocation waits for it.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from contextlib import AbstractContextManager
from typing import Protocol

from bearerguard.flow import Flow, Handlers, run
from bearerguard.messages import StoreFailed
from bearerguard.shared_log import ListenLog

_log = logging.getLogger("bearerguard")

# How long a round waits for news; also how soon a silent loss is noticed.
_ROUND = 0.5
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 0.25


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
    pause = 0.0
    with store.listening() as handlers:
        while not stopped.wait(pause):
            failure = _one_round(reference, handlers)
            if reference() is None:
                return
            pause = min(_LONGEST_PAUSE, 2 * pause or _FIRST_PAUSE) if failure else 0.0


def _one_round(reference: weakref.ref[Following], handlers: Handlers) -> bool:
    """Wait for news and have them taken in; return whether that failed."""
    failure: Exception | None = None
    heard: tuple[bytes, ...] = ()
    try:
        heard = handlers[ListenLog](ListenLog(_ROUND))
    except StoreFailed as error:
        failure = error
    what = reference()
    if what is None:
        return False
    try:
        if failure is None:
            run(what.follow(heard), handlers)
    except StoreFailed as error:
        failure = error
    except Exception as error:
        _log.exception("following the revocations failed in an unforeseen way")
        failure = error
    if failure is not None:
        what.fell_behind(failure)
    return failure is not None
