"""The thread that follows the log that workers share: one daemon thread, started when needed.

It is the same for sync and async workers. While it waits it holds its subscriber weakly, so that
it keeps nothing alive and ends with it. After a failure it tries again soon, because a revocation
may be waiting.

How late a worker may be when the store fails:

- A worker that listened when `revoke()` returned has been sent the notification. It receives it
  even if the store died at that moment, unless the store's machine died too or the store sends in
  threads of its own.
- A worker that did not listen, because the store had died before and just came back, tries every
  0.05 s. With a connection, a subscription and a read, that is 0.1 s after the store is back, and
  half a second on a busy machine.
- If the store dies again within that time, such a worker waits until it is back: 0.1 s longer than
  the outage if the store kept its data. If it did not, it takes 0.1 s more until the other workers
  append what it lost, the newest first, some 30 ms of processor time for each 500. During the
  outage `revoke()` raises, so no caller relies on a revocation that a worker cannot receive.
- A store that hangs, or a network that drops everything, costs one attempt of `timeout` (1 s)
  more. After 15 s of failures the attempts are 0.25 s apart.

A worker that starts after a loss waits 1.5 s for the others if any worker listens, or if a gap in
the log shows that entries are missing; meanwhile it responds with 503.

Without the store, the list is trusted for `max_staleness`.
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

# How long a round waits for a notification; also how soon a silent loss is noticed.
_ROUND = 0.5
# The pause after a failure is short for this many seconds: a restart takes no longer.
_PAUSE, _LATER_PAUSE, _SOON = 0.05, 0.25, 15.0


class Subscriber(Protocol):
    """Follows the log, driven by the thread."""

    def follow(self, notified: tuple[bytes, ...]) -> Flow[None]:
        """Add the entries of a notification, and read the log; raises `StoreFailed`."""
        ...

    def following_failed(self, error: Exception) -> None:
        """Report that following failed."""
        ...


class NotificationSource(Protocol):
    """Provides the handlers of the thread."""

    def listening(self) -> AbstractContextManager[Handlers]:
        """Return the handlers for one thread, inside the block."""
        ...


class Follower:
    """Starts and stops the thread."""

    def __init__(self, store: NotificationSource) -> None:
        self._store = store
        self._running: _Thread | None = None

    def start(self, subscriber: Subscriber) -> None:
        """Start a thread for `subscriber`, unless one of this process runs."""
        if not self.runs():
            self._running = _Thread(subscriber, self._store)

    def runs(self) -> bool:
        """Whether a thread of this process runs and will go on."""
        return self._running is not None and self._running.runs()

    def close(self) -> None:
        """Tell the thread to stop; it ends within a round."""
        if self._running is not None and self._running.runs():
            self._running.stopped.set()


class _Thread:
    """One thread, from its start to its end."""

    def __init__(self, subscriber: Subscriber, store: NotificationSource) -> None:
        self._pid = os.getpid()
        self.stopped = threading.Event()
        self._thread = threading.Thread(
            target=_work,
            args=(weakref.ref(subscriber), store, self.stopped),
            name="bearerguard-revocations",
            daemon=True,
        )
        self._thread.start()

    def runs(self) -> bool:
        """Whether it runs in this process and will go on."""
        mine = self._pid == os.getpid()  # a forked child has no threads of its parent
        return mine and self._thread.is_alive() and not self.stopped.is_set()


def _work(
    reference: weakref.ref[Subscriber], store: NotificationSource, stopped: threading.Event
) -> None:
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
    """Return the pause in seconds after `failing` seconds of failures."""
    return _PAUSE if failing < _SOON else _LATER_PAUSE


def _one_round(
    reference: weakref.ref[Subscriber], handlers: Handlers, stopped: threading.Event
) -> bool:
    """Wait for a notification and let the subscriber follow; return whether that failed."""
    failure: Exception | None = None
    notified: tuple[bytes, ...] = ()
    try:
        notified = handlers[ListenLog](ListenLog(_ROUND))
    except Exception as error:  # if the thread ended, the list would become stale
        failure = error
    subscriber = reference()
    if subscriber is None or stopped.is_set():
        return False  # a closed store must not be opened again
    try:
        if failure is None:
            run(subscriber.follow(notified), handlers)
    except Exception as error:
        failure = error
    if failure is None:
        return False
    if not isinstance(failure, StoreFailed):
        _log.error("following the revocations raised an unexpected exception", exc_info=failure)
    subscriber.following_failed(failure)
    return True
