"""The rules that storages share which keep all tokens in one document, read and written whole.

Where the document lies and how it is protected is each storage's own. Two kinds of lock files
stand in a private directory: one for the document, held for a moment, and one for each key, held
as long as a token request takes.
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
    """Where all that is kept lies as octets, read and written whole."""

    def read(self) -> bytes | None:
        """Return the octets, None if nothing was ever written; raises `StorageError`."""
        ...

    def write(self, octets: bytes) -> None:
        """Replace the octets, all or nothing; only under the lock; raises `StorageError`."""
        ...


class DocumentStorage:
    """Keeps tokens in one document.

    Args:
        name: what it is called when shown to people.
        document: where all tokens lie together.
        locks: the directory of the lock files, the same for all who share the document.
        lock_name: how its lock files begin.
        lock_timeout: seconds to wait for another process.
        lock_reads: read under the lock too, since the document is not replaced all at once.
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
        """What it is called when shown to people."""
        return self._name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._name!r})"

    def probe(self) -> None:
        """Keep a canary, read it and remove it; `StorageError` names the remedy if one fails."""
        probe(self)

    def load(self, key: str) -> bytes | None:
        """Return what is kept under `key`, or None."""
        return self._read().get(key)

    def swap(self, key: str, expected: bytes | None, value: bytes | None) -> bool:
        """Keep `value` in place of `expected`; False when something else is kept."""
        with self._locked("lock"):
            kept = dict(self._kept())
            if kept.get(key) != expected:
                return False
            if value == expected:
                return True
            if value is None:
                del kept[key]
            else:
                kept[key] = value
            self._document.write(_encoded(kept))
            return True

    @contextmanager
    def locked(self, key: str) -> Generator[None]:
        """Hold the one lock of `key`, in all processes that share the document."""
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        with self._locked(f"{digest}.lock"):
            yield

    def keys(self) -> Sequence[str]:
        """Return the keys under which something is kept, sorted."""
        return sorted(self._read())

    def _read(self) -> Mapping[str, bytes]:
        if not self._lock_reads:
            return self._kept()
        with self._locked("lock"):
            return self._kept()

    def _kept(self) -> Mapping[str, bytes]:
        octets = self._document.read()
        if octets is None:
            return {}
        try:
            return _decoded(octets)
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StorageError(
                f"{self._name}: what it holds is no list of tokens, and is left as it is:"
                " move it away to start anew"
            ) from error

    @contextmanager
    def _locked(self, suffix: str) -> Generator[None]:
        self._directory.ready()
        with file_lock(self._directory.path / f"{self._lock_name}.{suffix}", self._timeout):
            yield


def _encoded(kept: Mapping[str, bytes]) -> bytes:
    return json.dumps(
        {key: base64.b64encode(value).decode() for key, value in sorted(kept.items())}
    ).encode()


def _decoded(octets: bytes) -> Mapping[str, bytes]:
    members = json.loads(octets).items()
    return {key: base64.b64decode(value, validate=True) for key, value in members}
