"""Locks that belong to one process: a child never waits for what its parent held when it forked."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Self

_locks: weakref.WeakSet[ProcessLock] = weakref.WeakSet()


class ProcessLock:
    """A lock that is free in a new child, whoever held it in the parent."""

    def __init__(self) -> None:
        self.renew()
        _locks.add(self)

    def renew(self) -> None:
        """Make the lock free; only right after a fork, where nobody can hold it."""
        self._lock = threading.Lock()

    def acquire(self, *, timeout: float = -1) -> bool:
        """Take the lock; False if it is not free within `timeout` seconds, 0 for at once."""
        return self._lock.acquire(blocking=timeout != 0, timeout=-1 if timeout == 0 else timeout)

    def release(self) -> None:
        """Give the lock back."""
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
