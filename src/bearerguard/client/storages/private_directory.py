"""A directory that only its owner can use, and its files: each is read and replaced whole.

A file is written under another name, synced, and renamed, so that a reader, and a machine after a
power failure, finds the old version or the new one and never a part. Symbolic links, files of other
users and modes that let others in are refused. POSIX only. Takes no lock: see `file_lock`.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from bearerguard.errors import StorageError

_MAX_BYTES = 16 * 1024 * 1024  # more than tokens ever take: a larger file is something else
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class PrivateDirectory:
    """The directory `path`, which is created with mode 0700 if it does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ready(self) -> None:
        """Create the directory if needed; raises `StorageError` if others can use it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise StorageError(
                f"{self.path}: the directory cannot be created ({_words(error)}):"
                " choose another one, or remove the cause"
            ) from error
        if stat.S_ISLNK(found.st_mode):
            raise StorageError(f"{self.path} is a symbolic link: name the directory itself")
        _check(self.path, found, "700")

    def read(self, name: str) -> bytes | None:
        """Return the content of a file, or None if it does not exist."""
        path = self.path / name
        self.ready()
        try:
            # O_NONBLOCK: opening a pipe would wait for a writer; `checked` refuses it.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | _FLAGS)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _unusable(path, error) from error
        try:
            checked(path, descriptor)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                octets = file.read(_MAX_BYTES + 1)
        finally:
            os.close(descriptor)
        if len(octets) > _MAX_BYTES:
            raise StorageError(f"{path} is too large for a file of tokens: move it away")
        return octets

    def replace(self, name: str, octets: bytes) -> None:
        """Replace the content of a file atomically; one caller at a time."""
        path, beside = self.path / name, self.path / f"{name}.new"
        self.ready()
        try:
            # A writer that was killed left it: whoever holds the lock is the only writer.
            beside.unlink(missing_ok=True)
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(octets)
                file.flush()
                os.fsync(descriptor)
            beside.replace(path)
            self._sync()
        except OSError as error:
            with suppress(OSError):  # the first error is the one to report
                beside.unlink(missing_ok=True)
            raise StorageError(
                f"{path} could not be written ({_words(error)}) and is unchanged:"
                " make room or give permission, and try again"
            ) from error

    def _sync(self) -> None:
        """Sync the directory, which makes the rename durable."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def opened_for_lock(path: Path) -> int:
    """Return a descriptor of a lock file, which is created if it does not exist."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _FLAGS, 0o600)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        checked(path, descriptor)
    except StorageError:
        os.close(descriptor)
        raise
    return descriptor


def checked(path: Path, descriptor: int) -> None:
    """Raise `StorageError` unless an open file is a regular one that only its owner can use."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is not a regular file: move it away")
    _check(path, found, "600")


def _check(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_mode & stat.S_ISVTX and found.st_mode & 0o077:
        raise StorageError(f"{path} is for all users: choose a directory of your own in it")
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to another user (uid {found.st_uid}): remove it, or choose another"
        )
    if found.st_mode & 0o077:
        raise StorageError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}):"
            f" run `chmod {mode} {path}`, and log in again if others may have read it"
        )


def _unusable(path: Path, error: OSError) -> StorageError:
    if path.is_symlink():
        return StorageError(f"{path} is a symbolic link: move it away, or name its target")
    return StorageError(f"{path} cannot be opened ({_words(error)}): correct its permissions")


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
