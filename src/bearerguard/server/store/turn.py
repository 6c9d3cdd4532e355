"""A fair lock between the processes of one machine.

SQLite's own lock has no queue: who has just released it takes it again before those that wait have
noticed. Here a process that waits holds a second lock, the queue, so that nobody overtakes it.

The lock only decides who comes next. What protects the database is SQLite's lock.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from bearerguard.runtime.process_lock import ProcessLock

# Seconds between two attempts: at first, and at most. A transaction takes about half a millisecond.
_SHORTEST, _LONGEST = 0.0001, 0.002


class Turn:
    """A lock that one thread of one process holds at a time.

    Args:
        path: of the database; the names of the two lock files begin with its name.
    """

    def __init__(self, path: Path) -> None:
        self._queue, self._turn = (path.with_name(path.name + end) for end in ("-queue", "-turn"))
        self._threads = ProcessLock()
        self._pid = 0
        self._files = (-1, -1)

    def acquire(self, seconds: float) -> bool:
        """Take the lock; False if it is not free within `seconds`."""
        deadline = time.monotonic() + seconds
        if not self._threads.acquire(timeout=max(0.0, seconds)):
            return False
        try:
            queue, turn = self._opened()
            taken = _lock(queue, deadline) and self._leave_queue(queue, turn, deadline)
        except BaseException:
            self._threads.release()
            raise
        if not taken:
            self._threads.release()
        return taken

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._files[1], fcntl.LOCK_UN)
        self._threads.release()

    def _leave_queue(self, queue: int, turn: int, deadline: float) -> bool:
        try:
            return _lock(turn, deadline)
        finally:
            fcntl.flock(queue, fcntl.LOCK_UN)

    def _opened(self) -> tuple[int, int]:
        # A lock belongs to the open file, which a forked child shares with its parent: the child
        # opens its own.
        if self._pid != os.getpid():
            self._files = (_open(self._queue), _open(self._turn))
            self._pid = os.getpid()
        return self._files

    def close(self) -> None:
        """Close the files; the next use opens them again."""
        with self._threads:
            files, self._files = self._files, (-1, -1)
            if self._pid == os.getpid():
                for each in files:
                    os.close(each)
            self._pid = 0


def _open(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)


def _lock(file: int, deadline: float) -> bool:
    pause = _SHORTEST
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(pause)
            pause = min(_LONGEST, pause * 1.5)
        else:
            return True
