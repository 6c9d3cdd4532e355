"""Sealing: the only authenticated encryption, for data in a store that others can access.

AES-256-GCM (NIST SP 800-38D) under keys that are derived from the operator's secret by HKDF
(RFC 5869). Each process derives its own key, and a new one after a million messages, so that one
secret may seal any number of messages.
Knows nothing of what is sealed, nor where it is stored.

    sealed = version (1) | salt (16) | nonce (12) | ciphertext and tag
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeAlias

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bearerguard.errors import BearerGuardError, ConfigurationError

Secret: TypeAlias = bytes | str

# Enough that it cannot be guessed. A passphrase that a person can remember is too short.
MIN_SECRET_BYTES = 32
_VERSION = b"\x01"
_SALT, _NONCE, _TAG = 16, 12, 16
# Random nonces of one key do not repeat within so many messages; 2^32 are allowed (§8.3).
_MESSAGES = 2**20
# The keys that are kept: those of so many processes, or of so many millions of messages.
_KEPT_KEYS = 64


class SealError(BearerGuardError, ValueError):
    """The data was altered, or not sealed with these secrets for this purpose and context."""


class Sealer:
    """Seals and opens octets for one purpose.

    Args:
        secrets: of at least 32 bytes each, newest first. The first seals, all open. To renew a
            secret, first give every process the new one as the second, then as the first.
        purpose: what is sealed: nothing sealed for one purpose opens for another.

    Raises:
        ConfigurationError: there is no secret, or one is too short.
    """

    def __init__(self, *secrets: Secret, purpose: str) -> None:
        self._secrets = checked_secrets(secrets)
        self._info = b"bearerguard sealing 1: " + purpose.encode()
        self._own: tuple[bytes, AESGCM] | None = None
        self._left = 0
        # Keys that have opened a message; a forged message adds none. Swapped whole.
        self._proved: dict[tuple[bytes, bytes], AESGCM] = {}

    def seal(self, plaintext: bytes, associated: bytes = b"") -> bytes:
        """Return `plaintext` sealed; `associated` is needed to open it, and is not stored."""
        own = self._own  # deriving a key costs ten times what sealing does
        if own is None or self._left <= 0:
            fresh = os.urandom(_SALT)
            own = self._own = fresh, self._cipher(self._secrets[0], fresh)
            self._left = _MESSAGES
        self._left -= 1
        (salt, cipher), nonce = own, os.urandom(_NONCE)
        return _VERSION + salt + nonce + cipher.encrypt(nonce, plaintext, _VERSION + associated)

    def open(self, sealed: bytes, associated: bytes = b"") -> bytes:
        """Return the plaintext; raises `SealError` unless `sealed` is authentic."""
        if sealed[:1] != _VERSION or len(sealed) < 1 + _SALT + _NONCE + _TAG:
            raise SealError("this is nothing that was sealed here")
        salt = sealed[1 : 1 + _SALT]
        nonce = sealed[1 + _SALT : 1 + _SALT + _NONCE]
        ciphertext = sealed[1 + _SALT + _NONCE :]
        for secret in self._secrets:
            known = self._proved.get((secret, salt))
            cipher = known or self._cipher(secret, salt)
            try:
                opened = cipher.decrypt(nonce, ciphertext, _VERSION + associated)
            except InvalidTag:
                continue  # perhaps under an older secret
            if known is None:
                latest = list(self._proved.items())[1 - _KEPT_KEYS :]
                self._proved = dict([*latest, ((secret, salt), cipher)])
            return opened
        raise SealError("it was sealed with another secret, for another purpose, or was altered")

    def _cipher(self, secret: bytes, salt: bytes) -> AESGCM:
        return AESGCM(HKDF(SHA256(), 32, salt=salt, info=self._info).derive(secret))


def secret_list(secret: Secret | Sequence[Secret]) -> tuple[bytes, ...]:
    """Return the secrets of an option `secret=`, which takes one or a list, newest first.

    Raises `ConfigurationError` as `checked_secrets` does.
    """
    return checked_secrets((secret,) if isinstance(secret, str | bytes) else secret)


def checked_secrets(secrets: Sequence[Secret]) -> tuple[bytes, ...]:
    """Return secrets as octets; raises `ConfigurationError` unless each is long enough."""
    if not isinstance(secrets, Sequence) or not secrets:
        raise ConfigurationError("secret=: pass at least 32 random bytes, the same in each process")
    for secret in secrets:
        if not isinstance(secret, bytes | str):
            raise ConfigurationError(f"secret=: pass bytes or text, not {type(secret).__name__}")
    octets = tuple(each.encode() if isinstance(each, str) else each for each in secrets)
    if any(len(each) < MIN_SECRET_BYTES for each in octets):
        raise ConfigurationError(
            f"secret=: it is shorter than {MIN_SECRET_BYTES} bytes: make one with"
            ' `python -c "import secrets; print(secrets.token_hex(32))"`'
        )
    return octets
