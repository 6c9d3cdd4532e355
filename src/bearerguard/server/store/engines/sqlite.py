"""SQLite: one file, in WAL mode with full synchronisation, for the processes of one machine.

A writing transaction takes the write lock when it begins (`BEGIN IMMEDIATE`), so that it cannot
fail later because another process has written. Before and after each transaction, the file is
compared with the one that was opened: writes to a deleted or replaced file would be lost.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.exc import ArgumentError

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.server.store.engines.turn import ENDINGS, Turn
from bearerguard.server.store.schema import foreign_tables, is_ours

# Seconds for which a transaction waits for other writers; afterwards the response is 503.
_BUSY_SECONDS = 20.0
# SQLite's files beside the database; both exist while a connection is open.
_COMPANIONS = ("-wal", "-shm")

_log = logging.getLogger("bearerguard.server")


class _Connection(sqlite3.Connection):
    """A connection: the companion files that it opened, and whether it has the turn to write."""

    companions: tuple[tuple[str, os.stat_result], ...] | None = None
    has_turn = False


class SqliteEngine:
    """SQLite, with the database of one file.

    Raises:
        ConfigurationError: the URL is not valid, the file is not writable, or it is not a database
            of this package. Such a file is left unchanged.
    """

    dialect: Dialect = sqlite.dialect()
    errors: type[Exception] = sqlite3.Error
    wait: float = _BUSY_SECONDS

    def __init__(self, url: str, *, create: bool) -> None:
        # Absolute: the process may change its directory later.
        self.path: Path = Path(_database(url)).absolute()
        self.name: str = str(self.path)
        self._companions = tuple(str(_companion(self.path, each)) for each in _COMPANIONS)
        _find(self.path, create=create)
        self._file = self.path.stat()
        self._turn = Turn(self.path)
        self._trouble = ""

    def connect(self) -> _Connection:
        """Return a new connection of the driver; the file must exist."""
        self._check(self.name, self._file)
        connection = sqlite3.connect(
            # Mode `rw`: SQLite must not create the file anew after it was deleted.
            _address(self.path, "rw"),
            uri=True,
            timeout=self.wait,
            isolation_level=None,  # the driver must not begin transactions
            check_same_thread=False,
            factory=_Connection,
        )
        try:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
        except BaseException:
            connection.close()
            raise
        return connection

    def begun(self, connection: Any) -> None:
        """Check the files before a connection is used."""
        self.check(connection)

    def ended(self, connection: Any) -> None:
        """End the connection's turn, and record the companion files that its first use opened."""
        if connection.has_turn:
            connection.has_turn = False
            self._turn.release()
        if connection.companions is None:
            found = ((path, _which(path)) for path in self._companions)
            connection.companions = tuple((path, file) for path, file in found if file is not None)

    def check(self, connection: Any) -> None:
        """Raise `StoreUnavailable` if a file was deleted or replaced since it was opened."""
        self._check(self.name, self._file)
        for path, opened in connection.companions or ():
            self._check(path, opened)
        if self._trouble:
            self._trouble = ""
            _log.warning("store_found %s: the database is back in its place", self.path)

    def _check(self, path: str, opened: os.stat_result) -> None:
        found = _which(path)
        if found is None:
            how = "deleted"
        elif found.st_ino != opened.st_ino or found.st_dev != opened.st_dev:
            how = "replaced"
        elif not found.st_size and opened is self._file:
            how = "emptied"
        else:
            return
        trouble = f"{path} was {how} while it was open"
        if trouble != self._trouble:
            self._trouble = trouble
            _log.error(
                "store_lost %s: nothing is read or written until it is in its place again;"
                " to use another database, restart the server",
                trouble,
            )
        raise StoreUnavailable(trouble)

    def is_lost(self, connection: Any, error: Exception) -> bool:  # noqa: ARG002 - see DatabaseEngine
        """Whether the connection is useless: never, SQLite has no server."""
        return False

    def cause(self, error: Exception) -> str:
        """Return what a driver's error says."""
        return str(error)

    def begin_reading(self, connection: Any) -> None:
        """Begin a transaction that reads one consistent snapshot."""
        connection.execute("BEGIN")

    def begin_writing(self, connection: Any, *, concurrent: bool) -> None:  # noqa: ARG002 - each runs alone
        """Begin a transaction that holds the write lock: on SQLite, each runs alone."""
        began = time.monotonic()
        try:
            has_turn = self._turn.acquire(self.wait)
        except OSError as error:
            raise StoreUnavailable(f"a lock file of {self.path} failed: {error}") from error
        if not has_turn:
            raise StoreUnavailable("the database is busy")
        connection.has_turn = True
        waited = time.monotonic() - began
        if waited < 1:
            connection.execute("BEGIN IMMEDIATE")
            return
        # SQLite's own lock may be held by another program: wait for what is left of the time.
        left = max(0.0, self.wait - waited)
        connection.execute(f"PRAGMA busy_timeout = {1000 * left:.0f}")
        try:
            connection.execute("BEGIN IMMEDIATE")
        finally:
            connection.execute(f"PRAGMA busy_timeout = {1000 * self.wait:.0f}")

    def prepare(self) -> None:
        """Switch the file to WAL mode.

        Raises:
            ConfigurationError: the file system does not allow WAL mode, or the file is damaged.
        """
        deadline = time.monotonic() + self.wait
        mode = self._journal_mode()
        while mode == "busy" and time.monotonic() < deadline:
            time.sleep(0.02)
            mode = self._journal_mode()
        if mode != "wal":
            raise ConfigurationError(
                f"store=: {self.path} does not allow write-ahead logging (its journal mode is"
                f" {mode}): put it on a local file system"
            )

    def _journal_mode(self) -> str:
        try:
            with closing(_connect(self.path, "rw", self.wait)) as connection:
                mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        except sqlite3.OperationalError:
            return "busy"  # a change of the mode fails at once if the database is locked
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error
        return mode

    @contextmanager
    def migrating(self) -> Generator[AlchemyConnection]:
        """Begin a transaction that holds the write lock, for migrations."""
        made = create_engine(
            "sqlite+pysqlite://", creator=self.connect, poolclass=NullPool, hide_parameters=True
        )
        with made.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def close(self) -> None:
        """Close the lock files; the next use opens them again."""
        self._turn.close()


def _database(url: str) -> str:
    try:
        database = make_url(url).database
    except ArgumentError:
        raise ConfigurationError(
            'store=: pass a database URL such as "sqlite:///auth.db"'
        ) from None
    if database in {None, "", ":memory:"}:
        raise ConfigurationError(
            "store=: a database in memory is not shared by threads and processes:"
            ' name a file, such as "sqlite:///auth.db"'
        )
    return str(database)


def _which(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)  # noqa: PTH116 - for each transaction: a Path takes longer
    except OSError:
        return None


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, mode: str, wait: float = _BUSY_SECONDS) -> sqlite3.Connection:
    """Open an existing file through SQLite only.

    `open` and `close` outside SQLite would release its POSIX locks on the file.
    """
    return sqlite3.connect(_address(path, mode), uri=True, timeout=wait)


def _address(path: Path, mode: str) -> str:
    return f"file:{quote(str(path))}?mode={mode}"


def _find(path: Path, *, create: bool) -> None:
    """Check an existing database, or create one; only its owner can read it."""
    if not path.exists():
        if not create:
            raise ConfigurationError(
                f"store=: {path} cannot be opened: there is no database. Name the server's"
                " database, which `bearerguard serve`, `user add` and `client add` create"
            )
        _begin(path)
    elif not path.is_file():
        raise ConfigurationError(f"store=: {path} is not a file: name the file of the database")
    elif not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(
            f"store=: {path} cannot be opened (Permission denied): choose a file that this"
            " process may write to"
        )
    else:
        _check_content(path, create=create)
    for suffix in ("", *_COMPANIONS, *ENDINGS):
        _keep_private(_companion(path, suffix))


def _begin(path: Path) -> None:
    log = _companion(path, "-wal")
    if log.exists() and log.stat().st_size:
        raise ConfigurationError(
            f"store=: {path} is missing, but its latest changes are in {log.name}: restore"
            f" {path.name}, or remove {log.name} to begin with an empty database"
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.exists():
            return  # another process was first
        raise ConfigurationError(
            f"store=: {path} is a link to a file that does not exist: restore that file, or name"
            " another"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"store=: {path} cannot be opened ({error.strerror}): choose a directory that exists"
            " and that this process may write to"
        ) from error
    # Its companions or its secret show that there was a database before.
    was_there = any(_companion(path, each).exists() for each in (*_COMPANIONS, ".secret"))
    level = logging.WARNING if was_there else logging.INFO
    _log.log(level, "there was no database %s: an empty one was created", path)


def _check_content(path: Path, *, create: bool) -> None:
    """Raise `ConfigurationError` if a file is not a database of this package; change nothing."""
    tables = _tables(path)
    if tables is None or is_ours(tables):
        return
    if not create:
        raise ConfigurationError(
            f"store=: {path} is no authorization server's database: name the server's"
        )
    foreign = foreign_tables(tables)
    if foreign:
        raise ConfigurationError(
            f"store=: {path} is the database of another application, whose tables"
            f" {', '.join(foreign)} have the names of ours: name another file"
        )


def _tables(path: Path) -> set[str] | None:
    """Return the names of a database's tables; None while another process has it locked."""
    log = _companion(path, "-wal")
    # Without a WAL file, the main file is complete; `immutable` keeps SQLite from creating one.
    quiet = not log.exists()
    try:
        with closing(_connect(path, "ro&immutable=1" if quiet else "ro")) as connection:
            query = "SELECT name FROM sqlite_master WHERE type = 'table'"
            tables = {row[0] for row in connection.execute(query)}
    except sqlite3.OperationalError:
        return None
    except sqlite3.DatabaseError as error:
        raise _unusable(path, error) from error
    return None if quiet and log.exists() else tables


def _unusable(path: Path, error: sqlite3.DatabaseError) -> ConfigurationError:
    if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
        return ConfigurationError(
            f"store=: {path} is not an SQLite database ({error}): name another file"
        )
    return ConfigurationError(f"store=: {path} is damaged ({error}): restore it from a backup")


def _keep_private(path: Path) -> None:
    """Remove the permissions of other users, which copied and restored files often have."""
    try:
        mode = path.stat().st_mode
        if not mode & 0o077:
            return
        path.chmod(mode & 0o700)
    except FileNotFoundError:
        return  # SQLite's companions come and go
    except OSError as error:
        raise ConfigurationError(
            f"store=: {path} can be read by others, and this process may not change its mode"
            f" ({error.strerror}): `chmod 600` it"
        ) from error
    _log.warning("%s could be read by others: now only its owner can read it", path)
