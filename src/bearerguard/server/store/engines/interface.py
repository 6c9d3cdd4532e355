"""What the database's engine, SQLite or PostgreSQL, does in its own way."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import Connection as AlchemyConnection
from sqlalchemy.engine import Dialect


class DatabaseEngine(Protocol):
    """An engine, with the database that a URL names.

    Connections are the driver's, in its autocommit mode: transactions are begun here.
    """

    @property
    def dialect(self) -> Dialect:
        """How SQLAlchemy writes SQL for it."""
        ...

    @property
    def errors(self) -> type[Exception]:
        """The base class of the driver's errors."""
        ...

    @property
    def name(self) -> str:
        """What messages call the database: never with a password."""
        ...

    @property
    def path(self) -> Path | None:
        """The database's file, if it is one."""
        ...

    @property
    def wait(self) -> float:
        """Seconds for which a transaction waits for others."""
        ...

    def connect(self) -> Any:
        """Return a new connection of the driver."""
        ...

    def begun(self, connection: Any) -> None:
        """Do what is needed before a connection is used; raises `StoreUnavailable`."""
        ...

    def ended(self, connection: Any) -> None:
        """Do what is needed after a connection was used."""
        ...

    def check(self, connection: Any) -> None:
        """Raise `StoreUnavailable` if the database is no longer the one that was opened."""
        ...

    def is_lost(self, connection: Any, error: Exception) -> bool:
        """Whether the connection is useless after an error, and others may be, too."""
        ...

    def cause(self, error: Exception) -> str:
        """Return what a driver's error says, without values."""
        ...

    def begin_reading(self, connection: Any) -> None:
        """Begin a transaction that reads one consistent snapshot."""
        ...

    def begin_writing(self, connection: Any, *, concurrent: bool) -> None:
        """Begin a transaction that writes; alone, or beside others that are concurrent, too."""
        ...

    def prepare(self) -> None:
        """Prepare the database for the first migration; raises `ConfigurationError`."""
        ...

    def migrating(self) -> AbstractContextManager[AlchemyConnection]:
        """Begin a transaction for migrations, which one process at a time has."""
        ...

    def close(self) -> None:
        """Release what this process has open besides connections."""
        ...
