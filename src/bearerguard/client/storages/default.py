"""The default storage: the keyring, else an encrypted file.

The chosen storage has passed a probe. It is never plaintext.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bearerguard.client.storages.encrypted_file import EncryptedFile
from bearerguard.client.storages.file_key import (
    KEY_VARIABLE,
    FileKey,
    PassphraseKey,
    environment_key,
)
from bearerguard.client.storages.keyring import ADVICE, KeyringStorage
from bearerguard.client.storages.storage import Storage
from bearerguard.errors import ConfigurationError, StorageError


@dataclass(frozen=True, slots=True)
class Choice:
    """A storage that was probed, and why it was chosen."""

    storage: Storage
    reason: str


def default_storage(
    path: Path | None = None, *, passphrase: str | Callable[[], str] | None = None
) -> Choice:
    """Return the keyring if one works, else an encrypted file.

    The file's key comes from `BEARERGUARD_CLIENT_STORAGE_KEY`, else from the passphrase. If the
    variable is set, the file is used even where a keyring works.

    Raises:
        StorageError: neither can be used; the message names the remedies.
    """
    if os.environ.get(KEY_VARIABLE):
        return _file(environment_key(), path, f"{KEY_VARIABLE} is set")
    try:
        keyring = KeyringStorage()
        keyring.probe()
    except (StorageError, ConfigurationError) as error:
        if passphrase is None:
            raise StorageError(
                f"there is no safe place for tokens: {error}. For an encrypted file, set"
                f" {KEY_VARIABLE} to 32 random bytes or more"
            ) from error
        reason = str(error).removesuffix(f": {ADVICE}").removesuffix(f", or {ADVICE}")
        return _file(PassphraseKey(passphrase), path, reason)
    return Choice(keyring, "the keyring works")


def _file(key: FileKey, path: Path | None, reason: str) -> Choice:
    file = EncryptedFile(key, path)
    file.probe()
    return Choice(file, reason)
