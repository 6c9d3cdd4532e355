"""The database: connections, and transactions that read or write.

Owns what differs between databases. SQLite runs in WAL mode with full synchronisation. A
transaction that writes takes the write lock when it begins, so that it cannot fail half-way
because another process has written. A file that is deleted or replaced while it is open is
detected, because what is written to it would be lost.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server.store.schema import metadata

# Seconds for which a transaction waits for other writers before the response is 503.
_BUSY_SECONDS = 20.0
# The execution option of a transaction that writes: until when it waits for the lock.
_WRITES = "bearerguard_writes_by"
# SQLite's files beside the database; both exist as long as a connection is open.
_COMPANIONS, _OPENED = ("-wal", "-shm"), "bearerguard_companions"
# Tables of every version.
_OWN, _VERSION = "signing_keys", "alembic_version"

_log = logging.getLogger("bearerguard.server")


class Database:
    """A database, opened once per process.

    Args:
        url: an SQLAlchemy URL, such as `sqlite:///auth.db`.
        connections: how many threads may use it at once.
        create: whether a database that does not exist is created.

    Raises:
        ConfigurationError: the URL is not usable, the place is not writable, or there is another
            file, which is left as it is.
    """

    def __init__(self, url: str, *, connections: int, create: bool = True) -> None:
        self._url = _checked_url(url)
        # Absolute: the process may change its directory later.
        self._path = Path(self._url.database or "").absolute()
        self._connections = connections
        self._inherited: list[Engine] = []
        self._lock, self._writing = ProcessLock(), ProcessLock()
        self._pid = os.getpid()
        self._engine: Engine | None = None
        _find(self._path, create=create)
        self._file = self._path.stat()
        self._trouble = ""

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._path

    def engine(self) -> Engine:
        """Return this process's engine; a parent's connections are never used in its child."""
        with self._lock:
            if self._pid != os.getpid():
                if self._engine is not None:
                    # Closing them here would disturb the parent's locks.
                    self._inherited.append(self._engine)
                self._pid, self._engine = os.getpid(), None
            if self._engine is None:
                self._engine = _open(self._url, self._path, self._connections)
                event.listen(self._engine, "connect", _checked_by(weakref.WeakMethod(self._check)))
                # A server that nobody closes leaves no connection open.
                weakref.finalize(self, _dispose, self._engine, self._pid).atexit = False
            return self._engine

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Return a transaction that sees one state of the database and does not write."""
        with _failures(), self.engine().connect() as connection:
            self._check_all(connection)
            with connection.begin():
                yield connection
            self._remember(connection)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Return a transaction that holds the write lock; it is durable after the block."""
        engine, deadline = self.engine(), time.monotonic() + _BUSY_SECONDS
        # SQLite polls for its lock, and not in turn: only one thread of a process competes for it.
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise StoreUnavailable("the database is busy")
        try:
            with _failures(), engine.connect() as connection:
                self._check_all(connection)
                connection.execution_options(**{_WRITES: deadline})
                with connection.begin():
                    yield connection
                    # Nothing is reported as stored that is in a deleted file.
                    self._check_all(connection)
                self._remember(connection)
        finally:
            self._writing.release()

    def prepare(self) -> None:
        """Set the journal mode, which SQLite stores in the file; raises `ConfigurationError`."""
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

    def _check_all(self, connection: Connection) -> None:
        """Raise `StoreUnavailable` if an open file is not the one in the directory any more."""
        self._check()
        for suffix, opened in connection.info.get(_OPENED, ()):
            self._check(suffix, opened)
        if self._trouble:
            self._trouble = ""
            _log.warning("store_found %s is in its place again", self._path)

    def _check(self, suffix: str = "", opened: os.stat_result | None = None) -> None:
        path = _companion(self._path, suffix)
        found = _which(path)
        if found is None:
            how = "deleted"
        elif not os.path.samestat(found, opened or self._file):
            how = "replaced"
        elif opened is None and not found.st_size:
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

    def _remember(self, connection: Connection) -> None:
        """Record which companion files a connection has open, after its first transaction."""
        if _OPENED not in connection.info:
            found = ((each, _which(_companion(self._path, each))) for each in _COMPANIONS)
            connection.info[_OPENED] = [(each, file) for each, file in found if file is not None]

    def _journal_mode(self) -> str:
        try:
            connection = _connect(self._path, "rw")
            try:
                mode: str = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
            finally:
                connection.close()
        except sqlite3.OperationalError:
            return "busy"  # changing the mode does not wait for a lock
        except sqlite3.DatabaseError as error:
            raise _unusable(self.path, error) from error
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


def _checked_by(check: weakref.WeakMethod[Callable[[], None]]) -> Callable[..., None]:
    """Return a listener that checks each new connection; it does not keep the database alive."""

    def opened(*_: object) -> None:
        living = check()
        if living is not None:
            living()

    return opened


def _which(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except OSError:
        return None


def _companion(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open an existing file with SQLite: closing it otherwise would release SQLite's locks."""
    address = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)


def _find(path: Path, *, create: bool) -> None:
    """Find or create a database that only its owner can read."""
    if not path.exists():
        if not create:
            raise ConfigurationError(
                f"store=: {path} cannot be opened: there is no database. Name the server's"
                " database, which `bearerguard serve`, `user add` and `client add` create"
            )
        _begin(path)
    elif not path.is_file():
        raise ConfigurationError(f"store=: {path} is no file: name the file of the database")
    elif not os.access(path, os.R_OK | os.W_OK):
        raise ConfigurationError(
            f"store=: {path} cannot be opened (Permission denied): choose a file that this"
            " process may write to"
        )
    else:
        _check_content(path, create=create)
    for suffix in ("", "-wal", "-shm"):
        _keep_private(_companion(path, suffix))


def _begin(path: Path) -> None:
    log = _companion(path, "-wal")
    if log.exists() and log.stat().st_size:
        raise ConfigurationError(
            f"store=: {path} is gone, but what was last written to it is in {log.name}: put it"
            f" back, or remove {log.name} to begin with an empty database"
        )
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    except FileExistsError:
        if path.exists():
            return  # another process was first
        raise ConfigurationError(
            f"store=: {path} is a link to a file that is not there: put the database in its"
            " place, or name another file"
        ) from None
    except OSError as error:
        raise ConfigurationError(
            f"store=: {path} cannot be opened ({error.strerror}): choose a directory that exists"
            " and that this process may write to"
        ) from error
    # A file beside it that only a database has shows that there was one before.
    was_there = any(_companion(path, each).exists() for each in (*_COMPANIONS, ".secret"))
    level = logging.WARNING if was_there else logging.INFO
    _log.log(level, "there was no database %s: an empty one was created", path)


def _check_content(path: Path, *, create: bool) -> None:
    """Raise `ConfigurationError` where a file is no database of ours; nothing is altered."""
    tables = _tables(path)
    if tables is None or {_OWN, _VERSION} <= tables:
        return
    if not create:
        raise ConfigurationError(f"store=: {path} is no database of a server: name the server's")
    foreign = tables & {_VERSION, *metadata.tables}
    if foreign:
        raise ConfigurationError(
            f"store=: {path} is another application's database, which has the tables"
            f" {', '.join(sorted(foreign))} too: name another file"
        )


def _tables(path: Path) -> set[str] | None:
    """Return the tables of a database, None while another process uses it."""
    log = _companion(path, "-wal")
    # With a log, reading makes none; without one, all is in the file, and only so none is made.
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
            f"store=: {path} is no SQLite database ({error}): name another file"
        )
    return ConfigurationError(
        f"store=: {path} is damaged ({error}): put back the last good copy of it"
    )


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
    _log.warning("%s could be read by others: now only its owner can read it", path)


def _open(url: URL, path: Path, connections: int) -> Engine:
    engine = create_engine(
        # SQLite is not to make a file that was deleted.
        url.set(database=f"file:{quote(str(path))}").update_query_dict(
            {"mode": "rw", "uri": "true"}
        ),
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
        deadline = connection.get_execution_options().get(_WRITES)
        waits = _BUSY_SECONDS if deadline is None else max(0.0, deadline - time.monotonic())
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {1000 * waits:.0f}")
        connection.exec_driver_sql("BEGIN" if deadline is None else "BEGIN IMMEDIATE")

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
