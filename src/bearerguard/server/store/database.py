"""The database of a server: connections, and transactions that read or write.

What only one engine needs is in `engines`, behind one interface.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy import Executable
from sqlalchemy.exc import DBAPIError

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.runtime.reporting.outage import Outage
from bearerguard.server.store.connection import (
    NONE,
    Connection,
    Prepared,
    Result,
    Values,
)
from bearerguard.server.store.engines.interface import DatabaseEngine
from bearerguard.server.store.engines.pool import Pool, Pooled
from bearerguard.server.store.engines.sqlite import SqliteEngine

T = TypeVar("T")
# How much an operation needs of the database. An outage ends when one works that needs as much as
# those that failed: a full disk lets transactions read between two that fail to write.
_STATEMENT, _SNAPSHOT, _WRITE = range(3)


class Database:
    """A database, opened once per process.

    Args:
        url: `sqlite:///auth.db`, or `postgresql://user:password@host/database`.
        connections: how many threads may use it at once.
        create: whether to create a database, or its tables, if they do not exist.
        patient: whether to open the database even if its server cannot be reached now; each use
            raises `StoreUnavailable` until it can.

    Raises:
        ConfigurationError: the URL is not valid, or the database is not one of this package. It is
            left unchanged.
        StoreUnavailable: the database's server cannot be reached, and `patient` is false.
    """

    def __init__(
        self, url: str, *, connections: int, create: bool = True, patient: bool = False
    ) -> None:
        self._engine = _engine(url, create=create, patient=patient)
        self._most = connections
        self._lock = ProcessLock()
        self._connections: Pool | None = None
        self._inherited: list[Pool] = []
        # What must succeed before the first use, and which thread tries it.
        self._preparation: Callable[[], None] | None = None
        self._preparation_lock = ProcessLock()
        self._preparing: int | None = None
        self._outage = Outage(time.monotonic)
        self._failed = _STATEMENT
        #: Called at each failure.
        self.on_failed: Callable[[], None] | None = None
        #: Called when the database works again, with a text that says how long it had failed.
        self.on_restored: Callable[[str], None] | None = None

    @property
    def engine(self) -> DatabaseEngine:
        """The engine: SQLite or PostgreSQL."""
        return self._engine

    @property
    def path(self) -> Path | None:
        """The database's file; None if it has a server."""
        return self._engine.path

    @property
    def name(self) -> str:
        """What messages call the database; without a password."""
        return self._engine.name

    @property
    def is_at_hand(self) -> bool:
        """Whether who reads now waits for nothing, if the database is a file.

        While a process has an SQLite database open, no other program can lock it for readers.
        """
        pool = self._connections
        return pool is not None and pool.pid == os.getpid() and pool.has_worked and pool.free > 1

    def execute(self, statement: Prepared | Executable, values: Values = NONE) -> Result:
        """Run one statement that reads, outside a transaction; raises `StoreUnavailable`."""
        with self._failures(_STATEMENT):
            pool, pooled, result = self._begin(
                lambda driver: Connection(driver, self._engine.dialect).execute(statement, values)
            )
            self._end(pool, pooled)
        return result

    @contextmanager
    def read(self) -> Generator[Connection]:
        """Begin a transaction that reads one consistent snapshot; raises `StoreUnavailable`."""
        with self._failures(_SNAPSHOT):
            pool, pooled, _ = self._begin(self._engine.begin_reading)
            with self._ending(pool, pooled):
                yield Connection(pooled.driver, self._engine.dialect)

    @contextmanager
    def write(self, *, concurrent: bool = False) -> Generator[Connection]:
        """Begin a transaction that writes; after the block it is durable.

        No other transaction that writes runs at the same time, unless both are `concurrent`. In
        these, each change that must happen once is one conditional statement.

        Raises:
            StoreUnavailable: other transactions take too long, or the database fails.
        """
        with self._failures(_WRITE):
            pool, pooled, _ = self._begin(
                lambda driver: self._engine.begin_writing(driver, concurrent=concurrent)
            )
            with self._ending(pool, pooled):
                yield Connection(pooled.driver, self._engine.dialect)
                # A deleted file must not take the commit: the caller would report it as stored.
                self._engine.check(pooled.driver)

    @contextmanager
    def migrating(self) -> Generator[AlchemyConnection]:
        """Begin a transaction for migrations, with SQLAlchemy's connection."""
        with self._failures(_WRITE), self._engine.migrating() as connection:
            yield connection

    def prepare(self, preparation: Callable[[], None]) -> None:
        """Call `preparation` now, or before the next use until it has succeeded.

        It is called later only if the database has a server that cannot be reached now.
        """
        # An empty database fails once, and that is no outage.
        restored, self.on_restored = self.on_restored, None
        try:
            preparation()
        except StoreUnavailable:
            if self.path is not None:
                raise
            self._preparation = preparation
        finally:
            self.on_restored = restored

    def _prepare(self) -> None:
        """Do what has to be done before the first use, once; others get 503 meanwhile."""
        preparation = self._preparation
        if preparation is None or self._preparing == threading.get_ident():
            return
        if not self._preparation_lock.acquire(timeout=0):
            raise StoreUnavailable("it is being prepared")
        self._preparing = threading.get_ident()
        try:
            if self._preparation is not None:
                preparation()
                self._preparation = None
        except ConfigurationError as error:
            raise StoreUnavailable(str(error)) from error
        finally:
            self._preparing = None
            self._preparation_lock.release()

    def _begin(self, action: Callable[[Any], T]) -> tuple[Pool, Pooled, T]:
        """Return a connection with which `action` has succeeded, its pool, and the result."""
        self._prepare()
        pool = self._pool()
        again = True
        while True:
            pooled = pool.take()
            driver = pooled.driver
            try:
                self._engine.begun(driver)
                return pool, pooled, action(driver)
            except BaseException as error:
                lost = self._abort(pool, pooled, error)
                if not lost or not again:
                    raise
                # The server was restarted while the connection was idle.
                again = False

    @contextmanager
    def _ending(self, pool: Pool, pooled: Pooled) -> Generator[None]:
        """Commit the transaction at the end of the block; after an error, roll it back."""
        try:
            yield
            pooled.driver.commit()
        except BaseException as error:
            self._abort(pool, pooled, error)
            raise
        self._end(pool, pooled)

    def _end(self, pool: Pool, pooled: Pooled) -> None:
        """Return a connection that has worked."""
        self._engine.ended(pooled.driver)
        pool.has_worked = True
        pool.give_back(pooled)

    def _abort(self, pool: Pool, pooled: Pooled, error: BaseException) -> bool:
        """Return a connection after an error; return whether it was lost.

        Then it is closed, and older ones are not used again.
        """
        lost = self._roll_back(pooled.driver, error)
        self._engine.ended(pooled.driver)
        if lost:
            pool.lose(pooled)
        else:
            pool.give_back(pooled)
        return lost

    def _roll_back(self, driver: Any, error: BaseException) -> bool:
        """End the transaction, if there is one; return whether the connection is lost."""
        if isinstance(error, self._engine.errors) and self._engine.is_lost(driver, error):
            return True
        try:
            driver.rollback()
        except self._engine.errors:
            return True
        return False

    @contextmanager
    def _failures(self, needed: int) -> Generator[None]:
        """Translate errors of the database, and report when it works again."""
        try:
            try:
                yield
            except self._engine.errors as error:
                raise StoreUnavailable(self._engine.cause(error)) from error
            except DBAPIError as error:  # of a migration
                raise StoreUnavailable(str(error.orig)) from error
        except StoreUnavailable:
            self._outage.failed()
            self._failed = max(self._failed, needed)
            if self.on_failed is not None:
                self.on_failed()
            raise
        if needed < self._failed:
            return
        self._failed = _STATEMENT
        if (restored := self._outage.succeeded()) and self.on_restored is not None:
            self.on_restored(restored)

    def _pool(self) -> Pool:
        """Return this process's connections; a forked child never uses its parent's."""
        pool = self._connections
        if pool is None or pool.pid != os.getpid():
            with self._lock:
                self._leave_inherited()
                pool = self._connections
                if pool is None:
                    pool = self._connections = Pool(
                        self._engine.connect, most=self._most, wait=self._engine.wait
                    )
                    # Connections are closed even if `close` is never called.
                    weakref.finalize(self, _dispose, pool).atexit = False
        return pool

    def _leave_inherited(self) -> None:
        """In a forked child, keep the parent's connections: closing them would end its use."""
        pool = self._connections
        if pool is not None and pool.pid != os.getpid():
            self._inherited.append(pool)
            self._connections = None

    def close(self) -> None:
        """Close this process's idle connections and lock files; the next use opens new ones."""
        with self._lock:
            self._leave_inherited()
            pool, self._connections = self._connections, None
        if pool is not None:
            pool.close()
        self._engine.close()


def _kind(url: object) -> str:
    """Return which engine a URL names.

    Not by `urlsplit`, whose errors quote the password.
    """
    scheme, found, _ = url.partition(":") if isinstance(url, str) else ("", "", "")
    return scheme.partition("+")[0].strip().lower() if found else ""


def _engine(url: object, *, create: bool, patient: bool) -> DatabaseEngine:
    kind = _kind(url)
    if kind == "sqlite":
        return SqliteEngine(str(url), create=create)
    if kind in {"postgresql", "postgres"}:
        from bearerguard.server.store.engines.postgresql import PostgresqlEngine  # noqa: PLC0415 - an extra

        return PostgresqlEngine(str(url), create=create, patient=patient)
    raise ConfigurationError(
        'store=: pass a database URL, "sqlite:///auth.db" or "postgresql://user:password@host/name"'
    )


def _dispose(pool: Pool) -> None:
    if pool.pid == os.getpid():  # a child leaves its parent's connections alone
        pool.close()
