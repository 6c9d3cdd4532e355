"""The interface of a token storage, and the storage in memory.

A storage maps keys to octets, a serialised token each, and knows nothing of what they mean.
What is kept is changed by comparing and swapping only, so that of two who refresh at once one
learns that the other was first. Each other storage has a file of its own.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

from bearerguard.errors import StorageError

# Seconds to wait for a lock: longer than a token request may take.
LOCK_TIMEOUT = 30.0


class Storage(Protocol):
    """Stores tokens. Neither its name nor its messages show a token."""

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    def probe(self) -> None:
        """Store, read and remove a test value; `StorageError` names the remedy if that fails."""
        ...

    def load(self, key: str) -> bytes | None:
        """Return the octets stored under `key`, or None."""
        ...

    def swap(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        """Replace `expected` by `value`; None stands for nothing, on both sides.

        Returns False, and changes nothing, when something else than `expected` is kept.
        """
        ...

    def locked(self, key: str) -> AbstractContextManager[None]:
        """Hold the one lock of `key` among all processes that share this storage.

        The wait is bounded and ends in `StorageError`. `load` and `swap` work inside.
        """
        ...

    def keys(self) -> Sequence[str]:
        """Return the stored keys, sorted."""
        ...


def probe(storage: Storage) -> None:
    """Store, read and remove a test value under an unused key."""
    key, canary = f"probe:{secrets.token_hex(8)}", secrets.token_bytes(32)
    kept = storage.swap(key, None, canary)
    found = storage.load(key)
    removed = storage.swap(key, canary, None)
    if not (kept and found == canary and removed and storage.load(key) is None):
        raise StorageError(
            f"{storage.name} does not give back what it was given: choose another storage"
        )


class MemoryStorage:
    """Stores tokens for the threads of this process, until it ends."""

    name = "memory"

    def __init__(self, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        self._timeout = lock_timeout
        self._kept: dict[str, bytes] = {}
        self._new_process()

    def _new_process(self) -> None:
        self._pid = os.getpid()
        self._swapping = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}

    def __repr__(self) -> str:
        return f"MemoryStorage({len(self._kept)} kept)"

    def probe(self) -> None:
        """Store, read and remove a test value."""
        probe(self)

    def load(self, key: str) -> bytes | None:
        """Return the octets stored under `key`, or None."""
        return self._kept.get(key)

    def swap(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        """Replace `expected` by `value`; False when something else is stored."""
        with self._changing():
            if self._kept.get(key) != expected:
                return False
            if value is None:
                self._kept.pop(key, None)
            else:
                self._kept[key] = value
            return True

    @contextmanager
    def locked(self, key: str) -> Generator[None]:
        """Hold the one lock of `key` in this process."""
        with self._changing():
            lock = self._locks.setdefault(key, threading.Lock())
        if not lock.acquire(timeout=self._timeout):
            raise StorageError(f"memory: another thread holds the lock for {self._timeout:g} s")
        try:
            yield
        finally:
            lock.release()

    def keys(self) -> Sequence[str]:
        """Return the stored keys, sorted."""
        return sorted(self._kept)

    def _changing(self) -> threading.Lock:
        if self._pid != os.getpid():
            self._new_process()  # locks of the parent's threads are never released in this process
        return self._swapping
