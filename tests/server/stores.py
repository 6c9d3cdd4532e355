"""A server's database on either engine, and what a test reads and changes in it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from sqlalchemy import Connection, NullPool, create_engine, text

from bearerguard.server.store.connection import WRITE_LOCK
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
def postgresql_store(server: PostgreSQLServer, template: str = "template0") -> Generator[Store]:
    """Make a database, a copy of another one, and remove it after the block."""
    name = server.create_database(template)
    try:
        yield Store(server.url(name), server.written)
    finally:
        server.drop_database(name)
