"""The base of the storages that keep all tokens in one document, which is read and written whole.

Each storage decides where its document is and how it is protected. Two kinds of lock files are in
a private directory: one for the document, which is held for a moment, and one for each key, which
is held for as long as a token request takes.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from bearerguard.client.storages.file_lock import file_lock
from bearerguard.client.storages.private_directory import PrivateDirectory
from bearerguard.client.storages.storage import LOCK_TIMEOUT, probe
from bearerguard.errors import StorageError


class Document(Protocol):
    """All stored tokens as octets, read and written whole."""

    def read(self) -> bytes | None:
        """Return the octets, None if none were ever written; raises `StorageError`."""
        ...

    def write(self, octets: bytes) -> None:
        """Replace the octets atomically; the caller holds the lock; raises `StorageError`."""
        ...


class DocumentStorage:
    """Keeps tokens in one document.

    Args:
        name: its name in messages.
        document: the document that holds all tokens.
        locks: the directory of the lock files; processes that share the document share it.
        lock_name: the beginning of the names of its lock files.
        lock_timeout: the longest wait for another process, in seconds.
        lock_reads: take the lock for reading too, for a document that is not replaced atomically.
    """

    def __init__(
        self,
        name: str,
        document: Document,
        *,
        locks: Path,
        lock_name: str,
        lock_timeout: float = LOCK_TIMEOUT,
        lock_reads: bool = False,
    ) -> None:
        self._name = name
        self._document = document
        self._directory = PrivateDirectory(locks)
        self._lock_name = lock_name
        self._timeout = lock_timeout
        self._lock_reads = lock_reads

    @property
    def name(self) -> str:
        """Its name in messages."""
        return self._name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def probe(self) -> None:
        """Store, read and remove a test value; raises `StorageError` with the remedy."""
        probe(self)

    def load(self, key: str) -> bytes | None:
        """Return the value stored under `key`, or None."""
        return self._read().get(key)

    def swap(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        """Store `value` if `expected` is the stored value; otherwise return False."""
        with self._locked("lock"):
            stored = dict(self._stored())
            if stored.get(key) != expected:
                return False
            if value == expected:
                return True
            if value is None:
                del stored[key]
            else:
                stored[key] = value
            self._document.write(_encoded(stored))
            return True

    @contextmanager
    def locked(self, key: str) -> Generator[None]:
        """Hold the lock of `key`, which all processes that share the document use."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        with self._locked(f"{digest}.lock"):
            yield

    def keys(self) -> Sequence[str]:
        """Return the keys that have a stored value, sorted."""
        return sorted(self._read())

    def _read(self) -> Mapping[str, bytes]:
        if not self._lock_reads:
            return self._stored()
        with self._locked("lock"):
            return self._stored()

    def _stored(self) -> Mapping[str, bytes]:
        octets = self._document.read()
        if octets is None:
            return {}
        try:
            return _decoded(octets)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"{self._name}: its content is not a list of tokens, and is left unchanged:"
                " move it away and log in again"
            ) from error

    @contextmanager
    def _locked(self, suffix: str) -> Generator[None]:
        self._directory.ready()
        with file_lock(self._directory.path / f"{self._lock_name}.{suffix}", self._timeout):
            yield


def _encoded(stored: Mapping[str, bytes]) -> bytes:
    return json.dumps(
        {key: base64.b64encode(value).decode() for key, value in sorted(stored.items())}
    ).encode()


def _decoded(octets: bytes) -> Mapping[str, bytes]:
    members = json.loads(octets).items()
    return {key: base64.b64decode(value, validate=True) for key, value in members}
