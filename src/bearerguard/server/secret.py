"""The server's secret, and what is derived from it: digests, sealing keys, signing of forms.

One secret of at least 32 bytes comes from the environment. For development a file beside the
database stands in for it: readable for its owner alone, and announced in the log. Whoever has
the database without the secret can call nothing.

To renew it, the newest stands before the older ones: what is written is written under the newest,
and what any of them wrote still counts. What only a secret knew that is gone is unknown.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.sealing import Sealer, Secret, checked_secrets

VARIABLE = "BEARERGUARD_SERVER_SECRET"

GivenSecret: TypeAlias = Secret | Sequence[Secret]

# Each look-up tries all of them.
_MOST = 4
# What is longer is no development secret: 64 hexadecimal digits are made here.
_LARGEST = 4096
_PLACES = ("the 1st", "the 2nd", "the 3rd", "the 4th")

_log = logging.getLogger("bearerguard.server")


class ServerSecret:
    """The secret of one server; every process of it has the same.

    Args:
        secrets: at least 32 bytes each that nobody can guess; the newest first.
    """

    def __init__(self, *secrets: Secret) -> None:
        if not 1 <= len(secrets) <= _MOST:
            raise ConfigurationError(f"secret=: pass one, or {_MOST} at most, the newest first")
        self._secrets = tuple(_checked(secrets, place) for place in range(len(secrets)))
        self._digest_keys = tuple(_derived(each, "digests") for each in self._secrets)

    def sealer(self, purpose: str) -> Sealer:
        """Return what seals for one purpose, with the newest, and opens with all."""
        return Sealer(*self._secrets, purpose=purpose)

    def newest_sealer(self, purpose: str) -> Sealer:
        """Return what opens only what the newest sealed."""
        return Sealer(self._secrets[0], purpose=purpose)

    def digest(self, kind: str, value: str) -> str:
        """Return what the store keeps instead of `value`: a keyed SHA-256, in hexadecimal.

        Cheap is right here: what is digested has 256 random bits.
        """
        return _keyed(self._digest_keys[0], kind, value)

    def digests(self, kind: str, value: str) -> tuple[str, ...]:
        """Return what the store may have kept instead of `value`, the newest first."""
        return tuple(_keyed(key, kind, value) for key in self._digest_keys)


def _checked(secrets: Sequence[Secret], place: int) -> bytes:
    try:
        return checked_secrets(secrets[place : place + 1])[0]
    except ConfigurationError as error:
        if len(secrets) == 1:
            raise
        raise ConfigurationError(f"{_PLACES[place]} of {len(secrets)}: {error}") from None


def _derived(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes that serve one purpose, and tell nothing about the secret."""
    info = b"bearerguard server 1: " + purpose.encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)


def _keyed(key: bytes, kind: str, value: str) -> str:
    message = kind.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, hashlib.sha256).hex()


def find_secret(
    given: GivenSecret | None,
    database: Path,
    environ: Mapping[str, str] | None = None,
    *,
    create: bool = True,
) -> ServerSecret:
    """Return the secret that was given, else the environment's, else the development file's.

    That file is made where it is not there, unless `create` is False.
    """
    environ = os.environ if environ is None else environ
    if isinstance(given, list | tuple):
        return ServerSecret(*given)
    if given is not None:
        return ServerSecret(given)  # type: ignore[arg-type] # what is none is refused there
    development = database.with_name(database.name + ".secret")
    if environ.get(VARIABLE):
        if development.exists():
            _log.warning(
                "%s is set, so the development secret in %s is not used: what was kept under that,"
                " such as clients' secrets, is unknown unless it is one of the older secrets;"
                " remove the file when nothing needs it",
                VARIABLE,
                development,
            )
        secrets = environ[VARIABLE].split(",")
        if len(secrets) > 1:
            secrets = [each.strip() for each in secrets]
        try:
            return ServerSecret(*secrets)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{VARIABLE} is not usable (a comma separates the newest secret from older ones):"
                f" {error}"
            ) from None
    if not create and not development.exists():
        raise ConfigurationError(
            f"{VARIABLE} is not set, and there is no development file {development}: set"
            f" {VARIABLE} to the secret of the server"
        )
    return ServerSecret(_development_secret(development))


def _development_secret(path: Path) -> str:
    """Return the content of the development file, made by whichever process comes first."""
    try:
        if not path.exists():
            _create(path)
        # A pipe in its place would be waited for; it is opened at once, and then refused.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            content = file.read(_LARGEST).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{VARIABLE} is not set, and the development file {path} cannot be used"
            f" ({type(error).__name__}): set {VARIABLE} to at least 32 random bytes"
        ) from error
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
        # Whoever wrote it knows it, and with it whatever this server will ever seal.
        raise ConfigurationError(
            f"The development secret {path} is no plain file, or belongs to another user"
            f" (uid {found.st_uid}): remove it, or set {VARIABLE}"
        )
    if found.st_mode & 0o077:
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
