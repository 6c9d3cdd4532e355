"""A server's database on either engine, and what a test reads and changes in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Connection, NullPool, create_engine, text

from bearerguard.server.store.connection import WRITE_LOCK
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from tests.postgresql_server import PostgreSQLServer


class Store:
    """A database, reached beside the server that has it."""

    def __init__(self, url: str, contents: Callable[[], Mapping[str, bytes]]) -> None:
        self.url = url
        #: Returns what is on the disk, by the names of files.
        self.contents = contents
        self.engine_name = url.partition(":")[0]
        if self.engine_name == "sqlite":
            self._engine = create_engine(url, poolclass=NullPool)
        else:
            # SQLAlchemy does not know libpq's URLs with several hosts.
            self._engine = create_engine(
                "postgresql+psycopg://", creator=lambda: psycopg.connect(url), poolclass=NullPool
            )

    @contextmanager
    def connection(self) -> Generator[Connection]:
        """Begin a transaction of SQLAlchemy's, which is committed after the block."""
        with self._engine.begin() as connection:
            yield connection

    @contextmanager
    def writing_alone(self) -> Generator[Connection]:
        """Begin a transaction for which all others that write wait."""
        with self.connection() as connection:
            if self.engine_name == "sqlite":
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITE_LOCK})")
            yield connection

    def run(
        self, statement: str, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None
    ) -> list[tuple[Any, ...]]:
        """Run a statement, with `:name` for values, and return its rows."""
        with self.connection() as connection:
            result = connection.execute(text(statement), values)
            return [tuple(row) for row in result] if result.returns_rows else []

    @contextmanager
    def full(self, table: str) -> Generator[None]:
        """Refuse new rows of a table while the block lasts; the error names `is_full`."""
        if self.engine_name == "sqlite":
            raising = "BEGIN SELECT RAISE(ABORT, 'is_full'); END"
            self.run(f"CREATE TRIGGER is_full BEFORE INSERT ON {table} {raising}")
            yield
            self.run("DROP TRIGGER is_full")
        else:
            self.run(f"ALTER TABLE {table} ADD CONSTRAINT is_full CHECK (false) NOT VALID")
            yield
            self.run(f"ALTER TABLE {table} DROP CONSTRAINT is_full")

    def count(self, table: str, where: str = "true") -> int:
        found: int = self.run(f"SELECT count(*) FROM {table} WHERE {where}")[0][0]
        return found

    def rename(self, table: str, to: str) -> None:
        """Make the server's statements fail, or work again."""
        self.run(f"ALTER TABLE {table} RENAME TO {to}")


# Makes an empty database: in the folder, if it is a file.
MakeStore = Callable[[Path], Store]


def sqlite_store(folder: Path) -> Store:
    """Return a database in a folder; the server makes the file."""

    def contents() -> dict[str, bytes]:
        files = {path.name: path.read_bytes() for path in folder.glob("auth.db*")}
        return {name: content for name, content in files.items() if not name.endswith(".secret")}

    return Store(f"sqlite:///{folder}/auth.db", contents)


@contextmanager
def postgresql_store(server: PostgreSQLServer) -> Generator[Store]:
    """Make an empty database, and remove it after the block."""
    name = server.create_database()
    try:
        yield Store(server.url(name), server.written)
    finally:
        server.drop_database(name)


def migrated_sqlite(folder: Path) -> bytes:
    """Return the content of a database that has the tables."""
    store = sqlite_store(folder)
    _migrate(store.url)
    return (folder / "auth.db").read_bytes()


class PostgreSQLStores:
    """Databases that have the tables. Emptying one for the next test is sooner than a new one."""

    def __init__(self, server: PostgreSQLServer) -> None:
        self._server = server
        self._template = server.create_database()
        _migrate(server.url(self._template))
        self._free: list[str] = []
        with closing(server.connect(self._template)) as connection:
            self._shape, self._size = _shape(connection), _size(connection)
            self._emptying = _emptying(connection)

    @contextmanager
    def store(self) -> Generator[Store]:
        """Lend a database that nobody else uses."""
        server = self._server
        name = self._free.pop() if self._free else server.create_database(self._template)
        yield Store(server.url(name), server.written)
        # Servers that a test has left running must not find it again.
        name = server.rename_database(name)
        if self._empty(name):
            self._free.append(name)
        else:
            server.drop_database(name)

    def _empty(self, name: str) -> bool:
        """Make it as new, unless a test has changed its tables or made it large."""
        with closing(self._server.connect(name)) as connection:
            if _shape(connection) != self._shape or _size(connection) > self._size + 2**20:
                return False
            connection.execute(self._emptying)
        return True


def _migrate(url: str) -> None:
    database = Database(url, connections=1)
    migrate(database)
    database.close()


_Connection = psycopg.Connection[tuple[Any, ...]]
_OURS = "'public'::regnamespace"


def _shape(connection: _Connection) -> list[tuple[Any, ...]]:
    """Return what statements for tables change: names, numbers of columns, checks, triggers."""
    return connection.execute(
        f"SELECT relname, relkind, relnatts, relchecks FROM pg_class WHERE relnamespace = {_OURS}"
        " UNION ALL SELECT tgname, tgenabled, 0, 0 FROM pg_trigger WHERE NOT tgisinternal"
        " ORDER BY 1, 2"
    ).fetchall()


def _size(connection: _Connection) -> int:
    found = connection.execute("SELECT pg_database_size(current_database())").fetchone()
    assert found is not None
    size: int = found[0]
    return size


def _emptying(connection: _Connection) -> sql.Composed:
    """Return the statements that give a database the rows and sequences of this one again."""
    # Neither triggers nor foreign keys: those are the superuser's to leave out.
    statements: list[sql.Composable] = [sql.SQL("SET session_replication_role = replica")]
    tables = f"SELECT relname, relkind FROM pg_class WHERE relnamespace = {_OURS}"
    for name, kind in connection.execute(tables).fetchall():
        table = sql.Identifier(name)
        if kind == "S":
            statements.append(sql.SQL("ALTER SEQUENCE {} RESTART").format(table))
        elif kind == "r":
            statements.append(sql.SQL("DELETE FROM {}").format(table))
            for row in connection.execute(sql.SQL("SELECT * FROM {}").format(table)):
                values = sql.SQL(", ").join(map(sql.Literal, row))
                statements.append(sql.SQL("INSERT INTO {} VALUES ({})").format(table, values))
    return sql.SQL("; ").join(statements)
