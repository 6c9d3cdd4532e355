"""A fair lock between the processes of one machine.

SQLite's own lock has no queue: who has just released it takes it again before those that wait have
noticed. Here a process that waits holds a second lock, the queue, so that nobody overtakes it.

The lock only decides who comes next. What protects the database is SQLite's lock.
"""

from __future__ import annotations

import fcntl
import os
import time
import weakref
from pathlib import Path

from bearerguard.runtime.process_lock import ProcessLock

# Seconds between two attempts to take a lock: at first, and at most. A transaction takes about half
# a millisecond.
_SHORTEST, _LONGEST = 0.0001, 0.002
# How the names of the lock files end.
ENDINGS = ("-queue", "-turn")
# The file descriptors while the files are closed.
_NONE = (-1, -1)
_turns: weakref.WeakSet[Turn] = weakref.WeakSet()


class Turn:
    """A lock that one thread of one process holds at a time.

    Args:
        path: of the database; the names of the two lock files begin with its name.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ProcessLock()
        self._files = _NONE
        _turns.add(self)
        self._closing: weakref.finalize[..., Turn] | None = None

    def acquire(self, seconds: float) -> bool:
        """Take the lock; False if it is not free within `seconds`.

        Raises `OSError` if a lock file cannot be opened or locked.
        """
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
        if self._closing is None:
            queue = self._open(ENDINGS[0])
            try:
                self._files = queue, self._open(ENDINGS[1])
            except OSError:
                os.close(queue)
                raise
            # They are closed even if `close` is never called.
            self._closing = weakref.finalize(self, _close, self._files)
            self._closing.atexit = False
        return self._files

    def _open(self, ending: str) -> int:
        path = self._path.with_name(self._path.name + ending)
        file = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        if os.geteuid() == 0:
            # As SQLite does with its files: root, who runs a command once, must not keep out the
            # user of the server.
            owner = self._path.stat()
            os.fchown(file, owner.st_uid, owner.st_gid)
        return file

    def close(self) -> None:
        """Close the files; the next use opens them again."""
        with self._threads:
            self.close_now()

    def close_now(self) -> None:
        """Close the files without waiting; only in a child right after the fork, before any use."""
        closing, self._closing, self._files = self._closing, None, _NONE
        if closing is not None:
            closing()


def _close(files: tuple[int, int]) -> None:
    for each in files:
        os.close(each)


def _close_all() -> None:
    # A lock belongs to the open file, which a forked child shares with its parent. The child would
    # keep it when the parent is killed, and opens files of its own.
    for turn in _turns:
        turn.close_now()


os.register_at_fork(after_in_child=_close_all)


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
