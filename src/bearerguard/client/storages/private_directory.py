"""A directory that is its owner's alone, and the files in it: read whole, replaced whole.

A file is written beside its place, synced, and renamed into it, so that whoever reads, and a
machine that lost its power, finds one version or another and never a part. Refuses what somebody
else could have put there or could read: links, foreign owners, open modes. POSIX only. Takes no
lock: that is `file_lock`'s.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

from bearerguard.errors import StorageError

_MAX_BYTES = 16 * 1024 * 1024  # more than any number of tokens; what is larger is something else
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


class PrivateDirectory:
    """The directory `path`, made with mode 0700 when there is none."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def ready(self) -> None:
        """Make the directory if need be; raises `StorageError` if others can get at it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = self.path.lstat()
        except OSError as error:
            raise StorageError(
                f"{self.path}: cannot be made a directory ({_words(error)}):"
                " name another place, or mend this one"
            ) from error
        if stat.S_ISLNK(found.st_mode):
            raise StorageError(f"{self.path} is a symbolic link: name the directory itself")
        _check(self.path, found, "700")

    def read(self, name: str) -> bytes | None:
        """Return what the file has, or None when there is none."""
        path = self.path / name
        self.ready()
        try:
            # A pipe in its place would be waited for; it is opened at once, and then refused.
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
            raise StorageError(f"{path} is larger than any file of tokens: move it away")
        return octets

    def replace(self, name: str, octets: bytes) -> None:
        """Put `octets` in the place of the file, all or nothing; one caller at a time."""
        path, beside = self.path / name, self.path / f"{name}.new"
        self.ready()
        try:
            # What a writer that was killed left behind: the lock's holder is the only writer.
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
                f"{path} could not be written ({_words(error)}); it is as it was before:"
                " make room or give permission, and try again"
            ) from error

    def _sync(self) -> None:
        """Make the rename last: it is the directory that holds it."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def opened_for_lock(path: Path) -> int:
    """Return a descriptor of a lock file, which is made when there is none."""
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
    """Raise `StorageError` unless an open file is a plain one, its owner's alone."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode):
        raise StorageError(f"{path} is not a plain file: move it away")
    _check(path, found, "600")


def _check(path: Path, found: os.stat_result, mode: str) -> None:
    if found.st_mode & stat.S_ISVTX and found.st_mode & 0o077:
        raise StorageError(f"{path} is for all users: name a directory of your own within it")
    if found.st_uid != os.geteuid():
        raise StorageError(
            f"{path} belongs to another user (uid {found.st_uid}): remove it, or name another place"
        )
    if found.st_mode & 0o077:
        raise StorageError(
            f"{path} is open to other users (mode {stat.S_IMODE(found.st_mode):o}):"
            f" run `chmod {mode} {path}`, and log in again if others may have read it"
        )


def _unusable(path: Path, error: OSError) -> StorageError:
    if path.is_symlink():
        return StorageError(f"{path} is a symbolic link: move it away, or name the file's place")
    return StorageError(f"{path} cannot be opened ({_words(error)}): mend its permissions")


def _words(error: OSError) -> str:
    return error.strerror or type(error).__name__
