"""The key of an encrypted file: from a secret, the keyring, or a passphrase.

A passphrase is stretched by scrypt (RFC 7914).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Sequence
from typing import Protocol

from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from bearerguard.client.storages.keyring import Keyring
from bearerguard.errors import ConfigurationError, StorageError
from bearerguard.runtime.sealing import MIN_SECRET_BYTES, Secret, checked_secrets

KEY_VARIABLE = "BEARERGUARD_CLIENT_STORAGE_KEY"
_MAKE_ONE = '`python -c "import secrets; print(secrets.token_hex(32))"`'
_MIN_PASSPHRASE = 8
# 128 MiB and some 0.3 s: the minimum that OWASP recommends for passwords that protect data at rest.
_COST, _BLOCK, _PARALLEL = 2**17, 8, 1


class FileKey(Protocol):
    """Returns the key of an encrypted file.

    Attributes:
        name: its name in messages.
        kind: the kind of key that the file records, one octet.
    """

    @property
    def name(self) -> str:
        """Its name in messages."""
        ...

    @property
    def kind(self) -> int:
        """The octet that a file stores to name the kind of key."""
        ...

    def secrets(self, salt: bytes, *, fresh: bool) -> Sequence[bytes]:
        """Return secrets of at least 32 octets for a file's salt, the newest first.

        The first one encrypts, any of them decrypts. `fresh` means that the file is new.
        """
        ...


class SecretKey:
    """A secret that the caller passes.

    Args:
        secret: at least 32 random bytes, or a list of such, the newest first: the file is
            encrypted with the newest from the next change on.
        name: its name in messages.
    """

    kind = 1

    def __init__(self, secret: Secret | Sequence[Secret], *, name: str = "a given key") -> None:
        self.name: str = name
        self._secrets = checked_secrets((secret,) if isinstance(secret, bytes | str) else secret)

    def __repr__(self) -> str:
        return f"SecretKey({self.name!r})"

    def secrets(self, salt: bytes, *, fresh: bool) -> Sequence[bytes]:  # noqa: ARG002 - of any file
        """Return the secrets."""
        return self._secrets


def environment_key(variable: str = KEY_VARIABLE) -> SecretKey:
    """Return the key that an environment variable holds; several with commas, the newest first.

    Raises:
        ConfigurationError: the variable is unset, or too short for a key.
    """
    secrets_given = os.environ.get(variable, "").split(",")
    if len(secrets_given) > 1:
        secrets_given = [each.strip() for each in secrets_given]
    if any(len(each.encode()) < MIN_SECRET_BYTES for each in secrets_given):
        found = "is too short for a key" if any(secrets_given) else "is not set"
        raise ConfigurationError(f"{variable} {found}: make one with {_MAKE_ONE}")
    return SecretKey(secrets_given, name=f"${variable}")


class KeyringKey:
    """A random secret in the operating system's keyring."""

    kind = 2

    def __init__(self, ring: Keyring | None = None, *, entry: str = "key of the file") -> None:
        self._ring = Keyring() if ring is None else ring
        self._entry = entry
        self.name: str = f"keyring ({self._ring.backend_name})"

    def secrets(self, salt: bytes, *, fresh: bool) -> Sequence[bytes]:  # noqa: ARG002 - of any file
        """Return the secret, made now if the file is new and there is none."""
        text = self._ring.get(self._entry)
        if text is None:
            if not fresh:
                raise StorageError(
                    f"{self.name} no longer has the key of the encrypted file: restore the entry"
                    f" {self._entry!r}, or move the file away and log in again"
                )
            text = secrets.token_hex(MIN_SECRET_BYTES)
            self._ring.set(self._entry, text)
        return (text.encode(),)


class PassphraseKey:
    """A passphrase, from which scrypt derives a key.

    Args:
        passphrase: the passphrase, or a callable that asks for it when it is first needed.
    """

    name = "a passphrase"
    kind = 3

    def __init__(self, passphrase: str | Callable[[], str]) -> None:
        self._given = passphrase
        self._derived: dict[bytes, bytes] = {}
        if isinstance(passphrase, str):
            _strong(passphrase)

    def __repr__(self) -> str:
        return "PassphraseKey()"

    def secrets(self, salt: bytes, *, fresh: bool) -> Sequence[bytes]:
        """Return the key derived from the passphrase and the salt; derived once for each salt."""
        if salt not in self._derived:
            if not isinstance(self._given, str):
                asked = self._given()
                self._given = _strong(asked) if fresh else asked
            scrypt = Scrypt(salt=salt, length=32, n=_COST, r=_BLOCK, p=_PARALLEL)
            self._derived[salt] = scrypt.derive(self._given.encode())
        return (self._derived[salt],)


def _strong(passphrase: str) -> str:
    if len(passphrase) < _MIN_PASSPHRASE:
        raise ConfigurationError(
            f"passphrase: it has fewer than {_MIN_PASSPHRASE} characters: take several words"
        )
    return passphrase
