"""The database: connections, and transactions that read or write.

Owns everything that is specific to SQLite. SQLite runs in WAL mode with full synchronisation. A
writing transaction takes the write lock when it begins (`BEGIN IMMEDIATE`), so that it cannot fail
later because another process has written. Before and after each transaction, the file is compared
with the one that was opened: writes to a deleted or replaced file would be lost.
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
from bearerguard.runtime.reporting.outage import Outage
from bearerguard.server.store.schema import metadata

# Seconds for which a transaction waits for other writers; afterwards the response is 503.
_BUSY_SECONDS = 20.0
# The execution option of a writing transaction: the deadline for the write lock (monotonic).
_WRITES = "bearerguard_writes_by"
# SQLite's files beside the database; both exist while a connection is open. The second name is the
# key in `connection.info` for what a connection has open.
_COMPANIONS, _OPENED = ("-wal", "-shm"), "bearerguard_companions"
# Tables that the databases of all versions have.
_OWN, _VERSION = "signing_keys", "alembic_version"

_log = logging.getLogger("bearerguard.server")


class Database:
    """A database, opened once per process.

    Args:
        url: an SQLAlchemy URL, such as `sqlite:///auth.db`.
        connections: how many threads may use it at once.
        create: whether to create a database that does not exist.

    Raises:
        ConfigurationError: the URL is not valid, the file is not writable, or it is not a database
            of this package. Such a file is left unchanged.
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
        self._outage = Outage(time.monotonic)
        #: Called when the database works again, with a text that says how long it had failed.
        self.on_restored: Callable[[str], None] | None = None

    @property
    def path(self) -> Path:
        """The database's file."""
        return self._path

    def engine(self) -> Engine:
        """Return this process's engine; a forked child never uses its parent's connections."""
        with self._lock:
            if self._pid != os.getpid():
                if self._engine is not None:
                    # Closing its connections here would release the parent's locks.
                    self._inherited.append(self._engine)
                self._pid, self._engine = os.getpid(), None
            if self._engine is None:
                self._engine = _open(self._url, self._path, self._connections)
                event.listen(self._engine, "connect", _checked_by(weakref.WeakMethod(self._check)))
                # Connections are closed even if `close` is never called.
                weakref.finalize(self, _dispose, self._engine, self._pid).atexit = False
            return self._engine

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Begin a transaction that reads one consistent snapshot; raises `StoreUnavailable`."""
        with self._failures(), self.engine().connect() as connection:
            self._check_all(connection)
            with connection.begin():
                yield connection
            self._remember(connection)

    @contextmanager
    def write(self) -> Generator[Connection]:
        """Begin a transaction that holds the write lock; after the block it is durable.

        Raises:
            StoreUnavailable: the lock is not free within 20 seconds, or the database fails.
        """
        engine, deadline = self.engine(), time.monotonic() + _BUSY_SECONDS
        with self._failures(), self._lock_for_writing(), engine.connect() as connection:
            self._check_all(connection)
            connection.execution_options(**{_WRITES: deadline})
            with connection.begin():
                yield connection
                # A deleted file must not take the commit: the caller would report it as stored.
                self._check_all(connection)
            self._remember(connection)

    @contextmanager
    def _lock_for_writing(self) -> Generator[None]:
        # SQLite polls for its lock, without a queue: let one thread of each process compete for it.
        if not self._writing.acquire(timeout=_BUSY_SECONDS):
            raise StoreUnavailable("the database is busy")
        try:
            yield
        finally:
            self._writing.release()

    @contextmanager
    def _failures(self) -> Generator[None]:
        """Translate errors of the database, and report when it works again."""
        try:
            yield
        except SQLAlchemyError as error:
            self._outage.failed()
            raise StoreUnavailable(_cause(error)) from error
        except StoreUnavailable:
            self._outage.failed()
            raise
        if (restored := self._outage.succeeded()) and self.on_restored is not None:
            self.on_restored(restored)

    def prepare(self) -> None:
        """Switch the file to WAL mode.

        Raises:
            ConfigurationError: the file system does not allow WAL mode, or the file is damaged.
        """
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
        """Raise `StoreUnavailable` if a file was deleted or replaced since it was opened."""
        self._check()
        for suffix, opened in connection.info.get(_OPENED, ()):
            self._check(suffix, opened)
        if self._trouble:
            self._trouble = ""
            _log.warning("store_found %s: the database is back in its place", self._path)

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
        """Record the companion files that a connection has open, after its first transaction."""
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
            return "busy"  # a change of the mode fails at once if the database is locked
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
    """Return a listener that checks each new connection, with a weak reference to the database."""

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
    """Open an existing file through SQLite only.

    `open` and `close` outside SQLite would release its POSIX locks on the file.
    """
    address = f"file:{quote(str(path))}?mode={mode}"
    return sqlite3.connect(address, uri=True, timeout=_BUSY_SECONDS)


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
    for suffix in ("", "-wal", "-shm"):
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
    if tables is None or {_OWN, _VERSION} <= tables:
        return
    if not create:
        raise ConfigurationError(
            f"store=: {path} is no authorization server's database: name the server's"
        )
    foreign = tables & {_VERSION, *metadata.tables}
    if foreign:
        raise ConfigurationError(
            f"store=: {path} is the database of another application, whose tables"
            f" {', '.join(sorted(foreign))} have the names of ours: name another file"
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


def _open(url: URL, path: Path, connections: int) -> Engine:
    engine = create_engine(
        # Mode `rw`: SQLite must not create the file anew after it was deleted.
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
        connection.isolation_level = None  # the driver must not begin transactions
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


def _cause(error: SQLAlchemyError) -> str:
    # A driver's message never quotes parameters: `hide_parameters` is set.
    return type(error).__name__ if not isinstance(error, DBAPIError) else str(error.orig)
