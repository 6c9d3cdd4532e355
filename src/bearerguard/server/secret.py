"""The server's secret, and what is derived from it: digests, sealing keys, signing of forms.

One secret of at least 32 bytes comes from the environment. For development a file beside the
database stands in for it: readable for its owner alone, and announced in the log. Whoever has
the database without the secret can call nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bearerguard.errors import ConfigurationError
from bearerguard.sealing import Sealer, checked_secrets

VARIABLE = "BEARERGUARD_SERVER_SECRET"

_log = logging.getLogger("bearerguard.server")


class ServerSecret:
    """The secret of one server; every process of it has the same.

    Args:
        secret: at least 32 bytes that nobody can guess.
    """

    def __init__(self, secret: str | bytes) -> None:
        (self._secret,) = checked_secrets((secret,))
        self._digest_key = self.derive("digests")

    def derive(self, purpose: str) -> bytes:
        """Return 32 bytes that serve one purpose, and tell nothing about the secret."""
        info = b"bearerguard server 1: " + purpose.encode()
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self._secret)

    def sealer(self, purpose: str) -> Sealer:
        """Return what seals and opens for one purpose."""
        return Sealer(self._secret, purpose=purpose)

    def digest(self, kind: str, value: str) -> str:
        """Return what the store keeps instead of `value`: a keyed SHA-256, in hexadecimal.

        Cheap is right here: what is digested has 256 random bits.
        """
        message = kind.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
        return hmac.digest(self._digest_key, message, hashlib.sha256).hex()


def find_secret(
    given: str | bytes | None, database: Path, environ: Mapping[str, str] = os.environ
) -> ServerSecret:
    """Return the secret that was given, else the environment's, else the development file's."""
    if given is not None:
        return ServerSecret(given)
    if environ.get(VARIABLE):
        try:
            return ServerSecret(environ[VARIABLE])
        except ConfigurationError as error:
            raise ConfigurationError(f"{VARIABLE} is not usable: {error}") from None
    return ServerSecret(_development_secret(database.with_name(database.name + ".secret")))


def _development_secret(path: Path) -> str:
    """Return the content of the development file, made by whichever process comes first."""
    try:
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode
        content = path.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{VARIABLE} is not set, and the development file {path} cannot be used"
            f" ({type(error).__name__}): set {VARIABLE} to at least 32 random bytes"
        ) from error
    if mode & 0o077:
        raise ConfigurationError(
            f"The development secret {path} can be read by others: `chmod 600` it,"
            f" or set {VARIABLE}"
        )
    _log.warning(
        "%s is not set: keys are sealed with the development secret in %s;"
        " set it to at least 32 random bytes in production",
        VARIABLE,
        path,
    )
    return content


def _create(path: Path) -> None:
    # A file that appears under its name is whole: it is linked when it has been written.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return  # another process was first: its secret counts
    finally:
        draft.unlink()
