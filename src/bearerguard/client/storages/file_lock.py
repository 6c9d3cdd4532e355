"""A lock file: one thread of one process holds it at a time.

The kernel releases it when its holder dies, however it died. POSIX only.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from bearerguard.client.storages.private_directory import opened_for_lock
from bearerguard.errors import StorageError

_FIRST_PAUSE, _LONGEST_PAUSE = 0.001, 0.05

# The descriptors of the locks that this process holds. A forked child closes its copies: otherwise
# a lock would outlive a parent that died.
_held: set[int] = set()


@contextmanager
def file_lock(path: Path, timeout: float) -> Generator[None]:
    """Hold the lock of the file `path` inside the block; wait for it at most `timeout` seconds."""
    process = os.getpid()
    descriptor = opened_for_lock(path)
    _held.add(descriptor)
    try:
        _wait(path, descriptor, timeout)
        yield
    finally:
        if os.getpid() == process:
            _held.discard(descriptor)
            os.close(descriptor)


def _wait(path: Path, descriptor: int, timeout: float) -> None:
    deadline, pause = time.monotonic() + timeout, _FIRST_PAUSE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise StorageError(
                    f"{path}: another process holds this lock, and {timeout:g} s passed;"
                    " try again, or end that process"
                ) from None
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)
        except OSError as error:
            raise StorageError(
                f"{path}: its file system has no locks ({error.strerror}): choose another directory"
            ) from error
        else:
            return


def _close_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_in_child)
