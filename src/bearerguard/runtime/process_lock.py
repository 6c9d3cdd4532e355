"""Locks that belong to one process: a forked child never waits for a lock of its parent."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Self

_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """A lock that is free in a forked child, whoever held it in the parent."""

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Free the lock; only right after a fork, when nobody can hold it."""
        self._lock = threading.Lock()

    def acquire(self, *, timeout: float = -1) -> bool:
        """Acquire the lock; False if it is not free within `timeout` seconds, which may be 0."""
        return self._lock.acquire(blocking=timeout != 0, timeout=-1 if timeout == 0 else timeout)

    def release(self) -> None:
        """Release the lock."""
        self._lock.release()

    def __enter__(self) -> Self:
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _renew_all() -> None:
    for lock in _locks:
        lock.renew()


os.register_at_fork(after_in_child=_renew_all)
