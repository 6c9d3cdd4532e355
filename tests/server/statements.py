"""The statements that a server sends to its database."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from bearerguard.server.store.connection import Connection


class _Cursor:
    """A driver's cursor that notes what it executes."""

    def __init__(self, cursor: Any, sent: list[tuple[str, Any]]) -> None:
        self._cursor = cursor
        self._sent = sent

    def execute(self, sql: str, arguments: Any = ()) -> Any:
        self._sent.append((sql, arguments))
        return self._cursor.execute(sql, arguments) if arguments else self._cursor.execute(sql)

    def executemany(self, sql: str, rows: list[Any]) -> Any:
        self._sent.append((sql, rows[0]))
        return self._cursor.executemany(sql, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


class _Driver:
    """A driver's connection with such cursors."""

    def __init__(self, driver: Any, sent: list[tuple[str, Any]]) -> None:
        self._driver = driver
        self._sent = sent

    def cursor(self) -> _Cursor:
        return _Cursor(self._driver.cursor(), self._sent)

    def run_prepared(self, sql: str, arguments: Any) -> Any:
        self._sent.append((sql, arguments))
        return self._driver.run_prepared(sql, arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._driver, name)


@contextmanager
def recorded() -> Generator[list[tuple[str, Any]]]:
    """Record the SQL and the arguments of all statements that this thread runs within the block.

    Those that begin and end transactions are not among them, nor are those of a guard's thread.
    """
    sent: list[tuple[str, Any]] = []
    usual, here = Connection.__init__, threading.get_ident()

    def init(self: Connection, driver: Any, dialect: Any) -> None:
        noted = _Driver(driver, sent) if threading.get_ident() == here else driver
        usual(self, noted, dialect)

    Connection.__init__ = init  # type: ignore[method-assign]
    try:
        yield sent
    finally:
        Connection.__init__ = usual  # type: ignore[method-assign]
