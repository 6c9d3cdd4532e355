"""The server's secret, and what is derived from it: digests and sealing keys.

A secret of at least 32 bytes comes from the environment, or from a file that it names. For
development, a file beside the database replaces it; only its owner can read it, and the log says
so. The database alone, without the secret, gives access to nothing.

To renew the secret, list the newest before the older ones. The newest seals, all of them open.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.environment import check_names
from bearerguard.runtime.sealing import Sealer, Secret, checked_secrets
from bearerguard.server.settings import PREFIX, VARIABLES
from bearerguard.server.store.database import Database

VARIABLE = "BEARERGUARD_SERVER_SECRET"
FILE_VARIABLE = "BEARERGUARD_SERVER_SECRET_FILE"

GivenSecret: TypeAlias = Secret | Sequence[Secret]

# Each look-up tries all secrets.
_MOST = 4
# The development secret has 64 hexadecimal digits; a much longer file is something else.
_LARGEST = 4096
# Where Docker, Podman and Kubernetes mount secrets; a system lets root alone write there.
_MOUNTS = Path("/run/secrets")
_PLACES = ("the 1st", "the 2nd", "the 3rd", "the 4th")

_log = logging.getLogger("bearerguard.server")


class ServerSecret:
    """The secret of one server; all its processes have the same.

    Args:
        secrets: at least 32 random bytes each, the newest first.

    Raises:
        ConfigurationError: one is too short, or there are none or too many.
    """

    def __init__(self, *secrets: Secret) -> None:
        if not 1 <= len(secrets) <= _MOST:
            raise ConfigurationError(f"secret=: pass one, or {_MOST} at most, the newest first")
        self._secrets = tuple(_checked(secrets, place) for place in range(len(secrets)))
        self._digest_keys = tuple(_derived(each, "digests") for each in self._secrets)

    @property
    def is_being_renewed(self) -> bool:
        """Whether there are older secrets, from which stored values move to the newest."""
        return len(self._secrets) > 1

    def sealer(self, purpose: str) -> Sealer:
        """Return a sealer for one purpose: the newest secret seals, all open."""
        return Sealer(*self._secrets, purpose=purpose)

    def newest_sealer(self, purpose: str) -> Sealer:
        """Return a sealer of the newest secret alone."""
        return Sealer(self._secrets[0], purpose=purpose)

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """Return a key for one purpose from each secret, the newest first."""
        return tuple(_derived(each, purpose) for each in self._secrets)

    def digest(self, kind: str, value: str) -> str:
        """Return what is stored instead of `value`: a keyed SHA-256, in hexadecimal.

        A fast digest is enough, because the values have 256 random bits.
        """
        return _keyed(self._digest_keys[0], kind, value)

    def digests(self, kind: str, value: str) -> tuple[str, ...]:
        """Return what may be stored instead of `value`, under each secret, the newest first."""
        return tuple(_keyed(key, kind, value) for key in self._digest_keys)


def _checked(secrets: Sequence[Secret], place: int) -> bytes:
    try:
        return checked_secrets(secrets[place : place + 1])[0]
    except ConfigurationError as error:
        if len(secrets) == 1:
            raise
        raise ConfigurationError(f"{_PLACES[place]} of {len(secrets)}: {error}") from None


def _derived(secret: bytes, purpose: str) -> bytes:
    """Return 32 bytes for one purpose, which reveal nothing about the secret."""
    info = b"bearerguard server 1: " + purpose.encode()
    return HKDF(SHA256(), 32, salt=None, info=info).derive(secret)


def _keyed(key: bytes, kind: str, value: str) -> str:
    message = kind.encode() + b"\0" + value.encode("utf-8", "surrogatepass")
    return hmac.digest(key, message, hashlib.sha256).hex()


def find_secret(
    given: GivenSecret | None,
    database: Database,
    environ: Mapping[str, str] | None = None,
    *,
    create: bool = True,
) -> ServerSecret:
    """Return the given secret, else that of the environment, else that of the development file.

    The file stands beside a database that is a file. It is created if it is missing, unless
    `create` is False.

    Raises:
        ConfigurationError: the secret is not usable, or a variable's name looks like a slip.
    """
    if isinstance(given, list | tuple):
        return ServerSecret(*given)
    if given is not None:
        return ServerSecret(given)  # type: ignore[arg-type] # checked there
    environ = os.environ if environ is None else environ
    check_names(environ, VARIABLES, prefix=PREFIX)
    path = database.path
    development = None if path is None else path.with_name(path.name + ".secret")
    text, named = _of_environment(environ)
    if text:
        if development is not None and development.exists():
            _log.warning(
                "%s is set, so the development secret in %s is not used: what was stored under it,"
                " such as clients' secrets, is unknown unless it is one of the older secrets;"
                " remove the file when nothing needs it",
                named,
                development,
            )
        secrets = text.split(",")
        if len(secrets) > 1:
            secrets = [each.strip() for each in secrets]
        try:
            return ServerSecret(*secrets)
        except ConfigurationError as error:
            raise ConfigurationError(
                f"{named} is not usable (a comma separates the newest secret from older ones):"
                f" {error}"
            ) from None
    if development is None:
        raise ConfigurationError(
            f"{VARIABLE} is not set: set it, to the same at least 32 random bytes for every process"
            " of the server; only a server with a database in a file makes a secret itself"
        )
    if not create and not development.exists():
        raise ConfigurationError(
            f"{VARIABLE} is not set, and there is no development file {development}: set"
            f" {VARIABLE} to the secret of the server"
        )
    return ServerSecret(_development_secret(development))


def _of_environment(environ: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the secrets that the environment has or names, and the variable."""
    text, path = environ.get(VARIABLE), environ.get(FILE_VARIABLE)
    if not path:
        return text, VARIABLE
    if text:
        raise ConfigurationError(f"{VARIABLE} and {FILE_VARIABLE} are both set: remove one")
    return _mounted(Path(path)), FILE_VARIABLE


def is_exposed(mode: int) -> bool:
    """Whether every user can read, change or run a file, or its group can change it.

    Its group may read it: Kubernetes mounts secrets as files of root that a pod's group can read.
    """
    return bool(mode & 0o027)


def _mounted(path: Path) -> str:
    """Return the secrets of a file, separated by commas; there, each may have its own line."""
    remedy = f"{FILE_VARIABLE}: the secret file {path}"
    try:
        # O_NONBLOCK: opening a pipe in its place must not block; it is refused below. A link is
        # followed: Kubernetes mounts secrets as links.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise ConfigurationError(f"{remedy} is no plain file")
            content = file.read(_LARGEST).decode("utf-8")
            is_of_container = _is_of_container(path.resolve(), descriptor)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{remedy} cannot be read ({type(error).__name__})") from error
    if not is_of_container:
        _check_owner(found, remedy)
    lines = [each.strip().strip(",") for each in content.splitlines() if each.strip()]
    if not lines:
        raise ConfigurationError(f"{remedy} is empty")
    return ",".join(lines)


def _is_of_container(path: Path, descriptor: int) -> bool:
    """Whether a file is a container's secret, whose mode and owner say nothing.

    Compose mounts the host's file read-only below `/run/secrets`, with the host's owner. Docker and
    Podman have there a file of root that all users of the container can read. Kubernetes mounts
    such files read-only and in memory, in any folder.
    """
    found = os.fstat(descriptor)
    is_read_only = bool(os.fstatvfs(descriptor).f_flag & os.ST_RDONLY)
    is_roots = found.st_uid == 0 and not found.st_mode & 0o022
    if _MOUNTS in path.parents:
        return is_read_only or is_roots
    return is_read_only and is_roots and _is_in_memory(found.st_dev)


def _is_in_memory(device: int) -> bool:
    """Whether a file system is a tmpfs (proc_pid_mountinfo(5)); not known outside Linux."""
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(FileNotFoundError):
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            mount, _, kind = line.partition(" - ")
            if mount.split()[2] == number:
                return kind.startswith("tmpfs ")
    return False


def _check_owner(found: os.stat_result, remedy: str) -> None:
    if found.st_uid not in {0, os.geteuid()}:
        # Who wrote the file knows the secret, and can open all that this server seals.
        raise ConfigurationError(
            f"{remedy} belongs to another user (uid {found.st_uid}): `chown` it to the user of the"
            " server, or to root"
        )
    if is_exposed(found.st_mode):
        raise ConfigurationError(
            f"{remedy} can be read by every user, or changed by its group: `chmod 640` it; a"
            " container's secret may stay as it is, where it is mounted read-only below"
            f" {_MOUNTS}"
        )


def _development_secret(path: Path) -> str:
    """Return the content of the development file; the first process creates it."""
    try:
        if not path.exists():
            _create(path)
        # O_NONBLOCK: opening a pipe in its place must not block; it is refused below.
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
        # Who wrote the file knows the secret, and can open all that this server seals.
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
    # The file is written under another name and then linked, so that it is complete at once.
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return  # another process was first: its secret is used
    finally:
        draft.unlink()
