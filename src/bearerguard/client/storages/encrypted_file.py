"""Tokens in an encrypted file (AES-GCM), shared by the processes of one user.

    file = "bearerguard" | version (1) | kind of key (1) | salt (16) | key check (8) | sealed

`sealed` authenticates the rest too. A file that cannot be decrypted is reported and left as
it is, never replaced. `InsecurePlaintextFile` is the same file without encryption.
"""

from __future__ import annotations

import hmac
import os
from pathlib import Path

from bearerguard.client.storages.document import DocumentStorage
from bearerguard.client.storages.file_key import FileKey
from bearerguard.client.storages.private_directory import PrivateDirectory
from bearerguard.client.storages.state_directory import state_directory
from bearerguard.client.storages.storage import LOCK_TIMEOUT
from bearerguard.errors import StorageError
from bearerguard.runtime.sealing import Sealer, SealError

_MAGIC, _VERSION = b"bearerguard", 1
_SALT, _CHECK = 16, 8
_HEAD = len(_MAGIC) + 2 + _SALT + _CHECK
_KINDS = {1: "a given key", 2: "a key in the keyring", 3: "a passphrase"}


class EncryptedFile(DocumentStorage):
    """Stores tokens in an encrypted file.

    Args:
        key: `SecretKey`, `environment_key()`, `KeyringKey` or `PassphraseKey`.
        path: the file, in a directory with mode 0700, which is made if absent; by default `tokens`
            in the user's state directory.
        lock_timeout: seconds to wait for another process.
    """

    def __init__(
        self, key: FileKey, path: Path | None = None, *, lock_timeout: float = LOCK_TIMEOUT
    ) -> None:
        path = state_directory() / "tokens" if path is None else path
        super().__init__(
            f"encrypted file {path} (key: {key.name})",
            _SealedFile(path, key),
            locks=path.parent,
            lock_name=path.name,
            lock_timeout=lock_timeout,
        )


class InsecurePlaintextFile(DocumentStorage):
    """Stores tokens unencrypted: whoever can read this user's files can read them.

    Args:
        path: the file, in a directory with mode 0700; by default `tokens.plaintext` in the user's
            state directory.
        lock_timeout: seconds to wait for another process.
    """

    def __init__(self, path: Path | None = None, *, lock_timeout: float = LOCK_TIMEOUT) -> None:
        path = state_directory() / "tokens.plaintext" if path is None else path
        super().__init__(
            f"PLAINTEXT file {path}",
            _PlainFile(path),
            locks=path.parent,
            lock_name=path.name,
            lock_timeout=lock_timeout,
        )


class _PlainFile:
    def __init__(self, path: Path) -> None:
        self._directory, self._file = PrivateDirectory(path.parent), path.name

    def read(self) -> bytes | None:
        return self._directory.read(self._file)

    def write(self, octets: bytes) -> None:
        self._directory.replace(self._file, octets)


class _SealedFile:
    def __init__(self, path: Path, key: FileKey) -> None:
        self._path, self._plain, self._key = path, _PlainFile(path), key

    def read(self) -> bytes | None:
        octets = self._plain.read()
        return None if octets is None else self._opened(octets)

    def write(self, octets: bytes) -> None:
        before = self._plain.read()
        if before is None:
            salt, fresh = os.urandom(_SALT), True
        else:
            salt, fresh = self._salt(before), False
        secret = self._key.secrets(salt, fresh=fresh)[0]
        start = _MAGIC + bytes((_VERSION, self._key.kind)) + salt
        head = start + _key_check(secret, start)
        self._plain.write(head + _sealer(secret).seal(octets, head))

    def _opened(self, octets: bytes) -> bytes:
        salt = self._salt(octets)
        head, sealed = octets[:_HEAD], octets[_HEAD:]
        start, check = head[:-_CHECK], head[-_CHECK:]
        for secret in self._key.secrets(salt, fresh=False):
            if hmac.compare_digest(check, _key_check(secret, start)):
                break
        else:
            raise StorageError(
                f"{self._path} cannot be opened with {self._key.name}: it was encrypted with"
                " another key; give the right one, or move the file away and log in again"
            )
        try:
            return _sealer(secret).open(sealed, head)
        except SealError:
            raise self._damaged() from None

    def _salt(self, octets: bytes) -> bytes:
        """Return the salt of a file that this version and this kind of key can open."""
        fixed = len(_MAGIC)
        if octets[:fixed] != _MAGIC or len(octets) < _HEAD:
            raise self._damaged()
        version, kind = octets[fixed], octets[fixed + 1]
        if version > _VERSION:
            raise StorageError(
                f"{self._path} was written by a newer version of bearerguard: upgrade this one"
            )
        if version != _VERSION or kind not in _KINDS:
            raise self._damaged()
        if kind != self._key.kind:
            raise StorageError(
                f"{self._path} was encrypted with {_KINDS[kind]}, not with"
                f" {_KINDS[self._key.kind]}: give that, or move the file away and log in again"
            )
        return octets[fixed + 2 : fixed + 2 + _SALT]

    def _damaged(self) -> StorageError:
        return StorageError(
            f"{self._path} is damaged, or is no file of this kind, and is left as it is:"
            " restore it, or move it away and log in again"
        )


def _sealer(secret: bytes) -> Sealer:
    return Sealer(secret, purpose="tokens of a client")


def _key_check(secret: bytes, start: bytes) -> bytes:
    """Return a check value that tells a wrong key from a damaged file, and reveals no key."""
    return hmac.digest(secret, b"key check" + start, "sha256")[:_CHECK]
