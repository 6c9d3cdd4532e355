"""Keyring storage: tokens in Secret Service, Keychain or Credential Manager.

Backends of the keyring library that store nothing, or store plaintext, are refused. A keyring has
no compare-and-swap and may hold short values only. So all tokens are one document, split into
entries; the entry `tokens` names those entries and is written last. Needs the extra `[client]`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bearerguard.client.storages.document import DocumentStorage
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.client.storages.storage import LOCK_TIMEOUT
from bearerguard.errors import StorageError
from bearerguard.runtime.extras import Extra

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

SERVICE = "bearerguard"

# Credential Manager holds 2560 octets of UTF-16; elsewhere more entries only cost more calls.
_SHORT_PIECE, _LONG_PIECE = 1200, 60_000
_MAX_PIECES = 1000

# The remedy in every message about an unusable keyring.
ADVICE = "use an encrypted file instead, or set up a keyring of the operating system"
_REFUSED = {
    "keyring.backends.fail": "no keyring of the operating system can be reached",
    "keyring.backends.null": "the keyring is disabled: it stores nothing",
    "keyring.backends.chainer": "the keyring is a chain, whose backends may differ by entry",
    "keyrings.alt.file.PlaintextKeyring": "the keyring is a plaintext file",
    "keyrings.alt.pyfs.PlaintextKeyring": "the keyring is a plaintext file",
    "keyrings.alt.pyfs.BasicKeyring": "the keyring is a plaintext file",
    "keyrings.alt.Windows.RegistryKeyring": "the keyring is the registry, for short values only",
}

T = TypeVar("T")


class KeyringStorage(DocumentStorage):
    """Keeps tokens in the operating system's keyring.

    Args:
        backend: a backend of the keyring library; by default the one that the library chooses.
        service: the service name of the entries in the keyring.
        locks: the directory of the lock files; processes that share the keyring share it.
        lock_timeout: the longest wait for another process, in seconds.

    Raises:
        StorageError: there is no keyring that stores secrets.
        ConfigurationError: the keyring library is missing.
    """

    def __init__(
        self,
        *,
        backend: KeyringBackend | None = None,
        service: str = SERVICE,
        locks: Path | None = None,
        lock_timeout: float = LOCK_TIMEOUT,
    ) -> None:
        ring = Keyring(backend, service)
        super().__init__(
            f"keyring ({ring.backend_name})",
            _Pieces(ring),
            locks=state_directory() if locks is None else locks,
            lock_name="keyring",
            lock_timeout=lock_timeout,
            # A Secret Service does not find an entry for a moment while it is being replaced.
            lock_reads=True,
        )


class Keyring:
    """A keyring of the operating system: strings by name; every failure is a `StorageError`."""

    def __init__(self, backend: KeyringBackend | None = None, service: str = SERVICE) -> None:
        self._backend = _usable(_chosen() if backend is None else backend)
        self._service = service
        self.backend_name: str = _label(self._backend)
        windows = type(self._backend).__module__ == "keyring.backends.Windows"
        self.piece = _SHORT_PIECE if windows else _LONG_PIECE

    def get(self, name: str) -> str | None:
        """Return the string stored under `name`, or None."""
        return self._try("read", lambda: self._backend.get_password(self._service, name))

    def set(self, name: str, text: str) -> None:
        """Store a string under `name`."""
        self._try("written", lambda: self._backend.set_password(self._service, name, text))

    def remove(self, name: str) -> None:
        """Remove the entry `name`, if there is one."""
        if self.get(name) is not None:
            self._try("cleared", lambda: self._backend.delete_password(self._service, name))

    def _try(self, done: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except Exception as error:
            # Backends raise what their platform raises; its message may contain the value.
            raise StorageError(
                f"the keyring ({self.backend_name}) could not be {done}"
                f" ({type(error).__name__}): unlock it, or {ADVICE}"
            ) from None


class _Pieces:
    """One document, split into entries that are short enough for the keyring.

    Two sets of entries alternate: the new set is complete before the entry `tokens` names it, so
    that a process that is killed leaves the old document or the new one.
    """

    def __init__(self, ring: Keyring) -> None:
        self._ring = ring

    def read(self) -> bytes | None:
        head = self._head()
        if head is None:
            return None
        texts = [self._ring.get(name) for name in _names(head["turn"], head["pieces"])]
        octets = _joined(texts)
        if octets is None or hashlib.sha256(octets).hexdigest() != head["sha256"]:
            raise self._damaged()
        return octets

    def write(self, octets: bytes) -> None:
        before = self._head()
        turn = 1 - before["turn"] if before is not None else 0
        text, size = base64.b64encode(octets).decode(), self._ring.piece
        pieces = [text[start : start + size] for start in range(0, len(text), size)]
        if len(pieces) > _MAX_PIECES:
            raise StorageError(
                f"the keyring ({self._ring.backend_name}) cannot hold this many tokens"
            )
        for name, piece in zip(_names(turn, len(pieces)), pieces, strict=True):
            self._ring.set(name, piece)
        digest = hashlib.sha256(octets).hexdigest()
        head = {"version": 1, "turn": turn, "pieces": len(pieces), "sha256": digest}
        self._ring.set("tokens", json.dumps(head))
        if before is not None:
            for name in _names(before["turn"], before["pieces"]):
                self._ring.remove(name)

    def _head(self) -> dict[str, Any] | None:
        text = self._ring.get("tokens")
        if text is None:
            return None
        try:
            head: dict[str, Any] = json.loads(text)
            version, turn, pieces = head["version"], head["turn"], head["pieces"]
            well_formed = turn in {0, 1} and 0 <= pieces <= _MAX_PIECES and "sha256" in head
        except (ValueError, KeyError, TypeError):
            raise self._damaged() from None
        if version != 1:
            raise StorageError(
                f"the keyring ({self._ring.backend_name}) was written by a newer version of"
                " bearerguard: upgrade this one"
            )
        if not well_formed:
            raise self._damaged()
        return head

    def _damaged(self) -> StorageError:
        return StorageError(
            f"the entries of bearerguard in the keyring ({self._ring.backend_name}) are damaged,"
            " and are left unchanged: remove them with the system's own program, and log in again"
        )


def _names(turn: int, count: int) -> list[str]:
    return [f"tokens {'ab'[turn]} {number}" for number in range(count)]


def _joined(texts: list[str | None]) -> bytes | None:
    try:
        return base64.b64decode("".join(text for text in texts if text is not None), validate=True)
    except (ValueError, binascii.Error):
        return None


def _chosen() -> KeyringBackend:
    with Extra("client", needed_by="KeyringStorage"):
        import keyring  # noqa: PLC0415 - an optional dependency, and its search takes time
    try:
        return keyring.get_keyring()
    except Exception as error:  # a configured backend that cannot be loaded
        raise StorageError(
            f"the keyring library cannot load its backend ({type(error).__name__}): {ADVICE}"
        ) from error


def _usable(backend: KeyringBackend) -> KeyringBackend:
    kind = type(backend)
    for name in (kind.__module__, f"{kind.__module__}.{kind.__qualname__}"):
        if name in _REFUSED:
            raise StorageError(f"{_REFUSED[name]} ({name}): {ADVICE}")
    return backend


def _label(backend: KeyringBackend) -> str:
    kind = type(backend)
    return f"{kind.__module__.removeprefix('keyring.backends.')}.{kind.__qualname__}"
