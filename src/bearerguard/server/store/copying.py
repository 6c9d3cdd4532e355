"""Copies a database into another one, of the same engine or of the other, and checks the copy.

The source is read in one snapshot, and nobody else may have it open. The target is written in one
transaction, which is committed after the check: a copy that fails leaves it empty. Rows pass
through in batches, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import Column, String, Table, collate, select

from bearerguard.errors import AdministrationError, ConfigurationError, StoreUnavailable
from bearerguard.server.store.connection import WRITE_LOCK
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import HEAD, migrate, revision
from bearerguard.server.store.people import users
from bearerguard.server.store.schema import changes, upkeep

Rows: TypeAlias = Sequence[tuple[Any, ...]]
Progress: TypeAlias = Callable[[str], object]

_BATCH = 1000
# How often progress is reported, in rows.
_REPORT = 100_000
# Seconds for which a source may be in use by others, such as a command that is ending.
_BUSY_SECONDS, _PAUSE = 2, 0.05
# Extended result codes of SQLite begin with the primary one.
_PRIMARY_CODE = 0xFF
_OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND usename = current_user AND pid <> pg_backend_pid()"
)
# Errors by which a database refuses a value, not a connection (PEP 249).
_REFUSALS = frozenset({"DataError", "IntegrityError"})

# In an order in which each table follows those that it refers to. Two tables are left out, because
# each database has its own: the versions of changes, and which process prunes.
_TABLES = tuple(each for each in users.metadata.sorted_tables if each not in {changes, upkeep})


@dataclass(frozen=True, slots=True)
class CopiedTable:
    """A table of which both databases have the same rows.

    Attributes:
        name: its name.
        rows: how many rows it has.
        digest: SHA-256 over all rows in the order of their keys, in hexadecimal.
    """

    name: str
    rows: int
    digest: str


class _Side(ABC):
    """One of the two databases, on the driver's connection in a transaction."""

    def __init__(self, database: Database, driver: Any) -> None:
        self.database = database
        self.driver = driver

    @abstractmethod
    def begin(self) -> None:
        """Begin the snapshot of a source, or raise `ConfigurationError` if others have it open."""

    @abstractmethod
    def receive(self) -> None:
        """Prepare the transaction of a target, which may be idle while the source sorts."""

    @abstractmethod
    def cursor(self) -> Any:
        """Return a cursor that reads rows as they are fetched."""

    @abstractmethod
    def add(self, table: Table, rows: Rows) -> None:
        """Add rows to a table."""

    @abstractmethod
    def last(self, column: Column[Any]) -> int:
        """Return the last number that was generated for a column, 0 for none."""

    @abstractmethod
    def continue_after(self, column: Column[Any], last: int) -> None:
        """Let the numbers that are generated for a column begin after `last`."""

    @abstractmethod
    def finish(self, table: Table) -> None:
        """Do what a table needs after all rows were added."""

    def rows(self, table: Table) -> Iterator[Rows]:
        """Return all rows in the order of their keys, in batches."""
        keys = [self._ordered(column) for column in table.primary_key.columns]
        statement = select(table).order_by(*keys)
        cursor = self.cursor()
        try:
            cursor.execute(str(statement.compile(dialect=self.database.engine.dialect)))
            while batch := cursor.fetchmany(_BATCH):
                yield batch
        finally:
            cursor.close()

    def is_empty(self, table: Table) -> bool:
        return not self.driver.execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchall()  # noqa: S608 - our tables

    def _ordered(self, column: Column[Any]) -> Any:
        return column


class _Sqlite(_Side):
    def begin(self) -> None:
        self.driver.execute(f"PRAGMA busy_timeout = {1000 * _BUSY_SECONDS}")
        # Fails if another connection is open, even an idle one; while it lasts, none can be opened.
        self.driver.execute("PRAGMA locking_mode = EXCLUSIVE")
        try:
            self.driver.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & _PRIMARY_CODE != sqlite3.SQLITE_BUSY:
                raise
            raise _in_use(self.database, "another process has") from error

    def receive(self) -> None:
        """Do nothing: SQLite ends no transaction by itself."""

    def cursor(self) -> Any:
        return self.driver.cursor()

    def add(self, table: Table, rows: Rows) -> None:
        places = ", ".join("?" * len(table.columns))
        statement = f"INSERT INTO {_place(table)} VALUES ({places})"  # noqa: S608 - our tables
        self.driver.executemany(statement, rows)

    def last(self, column: Column[Any]) -> int:
        query = "SELECT seq FROM sqlite_sequence WHERE name = ?"
        found = self.driver.execute(query, (column.table.name,)).fetchone()
        return found[0] if found else 0

    def continue_after(self, column: Column[Any], last: int) -> None:
        name = column.table.name
        self.driver.execute("DELETE FROM sqlite_sequence WHERE name = ?", (name,))
        self.driver.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (name, last))

    def finish(self, table: Table) -> None:
        """Do nothing: SQLite plans without statistics."""


class _Postgresql(_Side):
    def begin(self) -> None:
        run = self.driver.execute
        for name in ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"):
            run(f"SET {name} = 0")
        # Servers that write wait for this lock. The snapshot begins after it was taken.
        run(f"SELECT pg_advisory_lock({WRITE_LOCK})")
        deadline = time.monotonic() + _BUSY_SECONDS
        while others := run(_OTHERS).fetchone()[0]:
            if time.monotonic() >= deadline:
                raise _in_use(self.database, f"{others} other connections of its user have")
            time.sleep(_PAUSE)
        run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def receive(self) -> None:
        self.driver.execute("SET LOCAL idle_in_transaction_session_timeout = 0")

    def cursor(self) -> Any:
        return self.driver.cursor(name="bearerguard_copy")  # the rows stay at the server

    def add(self, table: Table, rows: Rows) -> None:
        with self.driver.cursor().copy(f"COPY {_place(table)} FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)

    def last(self, column: Column[Any]) -> int:
        (name,) = self._sequence(column)
        last, is_called = self.driver.execute(
            f"SELECT last_value, is_called FROM {name}"  # noqa: S608 - PostgreSQL has quoted it
        ).fetchone()
        return int(last) if is_called else 0

    def continue_after(self, column: Column[Any], last: int) -> None:
        self.driver.execute("SELECT setval(%s, %s)", (*self._sequence(column), last))

    def finish(self, table: Table) -> None:
        self.driver.execute(f"ANALYZE {table.name}")  # else it would be planned as an empty table

    def _sequence(self, column: Column[Any]) -> tuple[str]:
        query = "SELECT pg_get_serial_sequence(%s, %s)"
        found: tuple[str] = self.driver.execute(query, (column.table.name, column.name)).fetchone()
        return found

    def _ordered(self, column: Column[Any]) -> Any:
        # As SQLite orders texts: by their octets.
        return collate(column, "C") if isinstance(column.type, String) else column


def _side(database: Database, driver: Any) -> _Side:
    kinds = {"sqlite": _Sqlite, "postgresql": _Postgresql}
    return kinds[database.engine.dialect.name](database, driver)


def check_source(source: Database) -> None:
    """Raise `ConfigurationError` if a database does not have the schema of this version."""
    found = revision(source)
    if found != HEAD:
        raise ConfigurationError(
            f"{source.name} has the schema {found}, and this version copies {HEAD}: bring it to"
            " this version by `bearerguard store migrate`, after a backup"
        )


def copy(source: Database, target: Database, progress: Progress) -> list[CopiedTable]:
    """Copy all tables, and return what both databases have then.

    Args:
        source: it has the schema of this version, and is not changed.
        target: it is empty, or has no tables yet.
        progress: called with a line of text now and then.

    Raises:
        AdministrationError: the copy differs; the target is empty.
        ConfigurationError: the source is in use or has another schema, the target is not empty, or
            its engine refuses a value.
        StoreUnavailable: a database fails; the target is empty.
    """
    if source.name == target.name:
        raise ConfigurationError(f"{source.name} cannot be copied into itself: name another")
    check_source(source)
    migrate(target)
    for each in (source, target):
        each.close()  # their idle connections are not those of others
    with _reading(source) as origin, _writing(target) as copied:
        for table in _TABLES:
            if not copied.is_empty(table):
                raise ConfigurationError(
                    f"{target.name} has rows in the table {table.name}: name an empty database"
                )
        return [_copied(origin, copied, table, progress) for table in _TABLES]


@contextmanager
def _reading(database: Database) -> Generator[_Side]:
    errors = database.engine.errors
    try:
        with closing(database.engine.connect()) as driver:
            side = _side(database, driver)
            side.begin()
            yield side
    except errors as error:
        raise StoreUnavailable(database.engine.cause(error)) from error


@contextmanager
def _writing(database: Database) -> Generator[_Side]:
    # Like a migration, it may take longer than a request's transaction.
    with database.migrating() as connection:
        side = _side(database, connection.connection.dbapi_connection)
        side.receive()
        yield side


def _copied(origin: _Side, copied: _Side, table: Table, progress: Progress) -> CopiedTable:
    sent = _Sum(table)
    try:
        for batch in origin.rows(table):
            copied.add(table, batch)
            sent.add(batch)
            if sent.rows % _REPORT < len(batch):
                progress(f"{table.name}: {sent.rows} rows copied")
    except Exception as error:
        if not _REFUSALS & {each.__name__ for each in type(error).__mro__}:
            raise
        raise ConfigurationError(
            f"the table {table.name} of {origin.database.name} has a row that"
            f" {copied.database.name} refuses: {copied.database.engine.cause(error)}"
        ) from error
    numbered = table.autoincrement_column
    if numbered is not None and (last := origin.last(numbered)):
        copied.continue_after(numbered, last)
    copied.finish(table)
    arrived = _Sum(table)
    for batch in copied.rows(table):
        arrived.add(batch)
    if sent.result() != arrived.result():
        raise AdministrationError(
            f"the table {table.name} differs: {origin.database.name} has {sent.result()},"
            f" {copied.database.name} has {arrived.result()}; nothing was copied"
        )
    progress(f"{table.name}: {sent.rows} rows copied and compared")
    return sent.result()


class _Sum:
    """The number and the digest of the rows of a table that were added."""

    def __init__(self, table: Table) -> None:
        self.rows = 0
        self._name = table.name
        self._digest = hashlib.sha256()

    def add(self, rows: Rows) -> None:
        self.rows += len(rows)
        # The text of a tuple of texts, numbers and octets: no two rows have the same.
        text = "\n".join([*map(repr, rows), ""])
        self._digest.update(text.encode("utf-8", "backslashreplace"))

    def result(self) -> CopiedTable:
        return CopiedTable(self._name, self.rows, self._digest.hexdigest())


def _place(table: Table) -> str:
    """Return a table with its columns, whose order in the database may be another one."""
    columns = ", ".join(f'"{column.name}"' for column in table.columns)
    return f"{table.name} ({columns})"


def _in_use(database: Database, who: str) -> ConfigurationError:
    return ConfigurationError(
        f"{who} {database.name} open: stop every server and command on it first; what they write"
        " after the copy would be lost"
    )
