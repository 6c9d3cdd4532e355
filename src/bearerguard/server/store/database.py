"""The database: connections, and transactions that read or that write.

Owns what differs between databases. SQLite runs in WAL mode with full synchronisation, and a
transaction that writes takes the write lock when it begins: it never fails half-way because
another process wrote meanwhile.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from bearerguard.errors import BearerGuardError, ConfigurationError
from bearerguard.server.process_lock import ProcessLock

# How long a transaction waits for other processes' writes before the answer is 503.
_BUSY_SECONDS = 20.0
_WRITES = "bearerguard_writes"

_log = logging.getLogger("bearerguard.server")


class StoreUnavailable(BearerGuardError):
    """The database did not do what was asked; nothing was changed, and a retry may succeed."""


class Database:
    """A database, opened once per process.

    Args:
        url: an SQLAlchemy URL, such as `sqlite:///auth.db`.
        connections: how many threads may be using it at once.

    Raises:
        ConfigurationError: it is no such URL, or its place cannot be written.
    """

    def __init__(self, url: str, *, connections: int) -> None:
        self._url = _checked_url(url)
        self._connections = connections
        self._inherited: list[Engine] = []
        self._lock, self._writing = ProcessLock(), ProcessLock()
        self._pid = os.getpid()
        self._engine: Engine | None = None
        _create_private(Path(self._url.database or ""))

    @property
    def path(self) -> Path:
        """The file that holds it."""
        return Path(self._url.database or "").absolute()

    def engine(self) -> Engine:
        """Return this process's engine; a parent's connections are never used in its child."""
        with self._lock:
            if self._pid != os.getpid():
                if self._engine is not None:
                    # Closing them here would disturb the parent's locks.
                    self._inherited.append(self._engine)
                self._pid, self._engine = os.getpid(), None
            if self._engine is None:
                self._engine = _open(self._url, self._connections)
                # Whoever forgets to close a server leaves no connection open.
                weakref.finalize(self, _dispose, self._engine, self._pid).atexit = False
            return self._engine

    @contextmanager
    def read(self) -> Generator[Connection]:
        """A transaction that sees one state of the database, and writes nothing."""
        with _failures(), self.engine().connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Generator[Connection]:
        """A transaction that holds the write lock; it is durable when the block is left."""
        engine = self.engine()
        # SQLite's waiting for its lock is unfair polling: one thread of each process competes.
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise StoreUnavailable("the database is busy")
        try:
            with _failures(), engine.connect() as connection:
                connection.execution_options(**{_WRITES: True})
                with connection.begin():
                    yield connection
        finally:
            self._writing.release()

    def prepare(self) -> None:
        """Set what SQLite keeps in the file itself; raises ConfigurationError where it cannot."""
        deadline = time.monotonic() + _BUSY_SECONDS
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
            connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS)
            try:
                mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            finally:
                connection.close()
        except sqlite3.OperationalError:
            return "busy"  # changing the mode does not wait for a lock
        except sqlite3.DatabaseError as error:
            raise ConfigurationError(
                f"store=: {self.path} is no SQLite database ({error}): name another file"
            ) from error
        return mode

    def close(self) -> None:
        """Close this process's connections; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            _dispose(engine, self._pid)


def _checked_url(url: object) -> URL:
    try:
        parsed = make_url(url) if isinstance(url, str) else None
    except ArgumentError:
        parsed = None
    if parsed is None or parsed.get_backend_name() != "sqlite":
        raise ConfigurationError('store=: pass a database URL such as "sqlite:///auth.db"')
    if parsed.database in {None, "", ":memory:"}:
        raise ConfigurationError(
            "store=: a database in memory is not shared by threads and processes:"
            ' name a file, such as "sqlite:///auth.db"'
        )
    return parsed.set(drivername="sqlite+pysqlite")


def _create_private(path: Path) -> None:
    """Make the file, or find it, readable for its owner alone; its companions take after it."""
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"store=: {path} cannot be opened ({error.strerror}): choose a directory that exists"
            " and that this process may write to"
        ) from error
    for companion in ("", "-wal", "-shm"):
        _keep_private(path.with_name(path.name + companion))


def _keep_private(path: Path) -> None:
    """Close a file to others: one that was copied or restored is often open to them."""
    try:
        mode = path.stat().st_mode
        if not mode & 0o077:
            return
        path.chmod(mode & 0o700)
    except FileNotFoundError:
        return  # SQLite's companions come and go
    except OSError as error:
        raise ConfigurationError(
            f"store=: {path} can be read by others, and this process may not change that"
            f" ({error.strerror}): `chmod 600` it"
        ) from error
    _log.warning("%s could be read by others: it is its owner's alone now", path)


def _open(url: URL, connections: int) -> Engine:
    engine = create_engine(
        url,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=_BUSY_SECONDS,
        hide_parameters=True,
        connect_args={"timeout": _BUSY_SECONDS},
    )

    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # transactions begin where, and as, we say
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        writes = connection.get_execution_options().get(_WRITES)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _dispose(engine: Engine, pid: int) -> None:
    if pid == os.getpid():  # a child leaves its parent's connections alone
        engine.dispose()


@contextmanager
def _failures() -> Generator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        raise StoreUnavailable(_cause(error)) from error


def _cause(error: SQLAlchemyError) -> str:
    # A driver's text never quotes parameters: they are hidden.
    return type(error).__name__ if not isinstance(error, DBAPIError) else str(error.orig)
