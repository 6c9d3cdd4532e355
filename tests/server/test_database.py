"""The database of a server: its transactions, its connections, and its outages."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import column, select, table

from bearerguard import ConfigurationError
from bearerguard.server import StoreUnavailable
from bearerguard.server.store import clients
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/auth.db"


@pytest.fixture
def database(url: str) -> Generator[Database]:
    made = Database(url, connections=2)
    migrate(made)
    yield made
    made.close()


@pytest.fixture
def other(database: Database, url: str) -> Generator[Database]:
    """The same database, as another process opens it."""
    made = Database(url, connections=1)
    assert made.name == database.name
    yield made
    made.close()


def add(connection: Connection, name: str) -> None:
    clients.add(connection, client_id=name, name=name, options="{}", created_at=1.0)


def names(database: Database) -> list[str]:
    return [row.client_id for row in clients.all_clients(database)]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_changes_nothing_and_its_error_is_raised(
    database: Database, error: type[BaseException]
) -> None:
    def fail() -> None:
        with database.write() as connection:
            add(connection, "one")
            raise error("no more")

    for _ in range(3):  # more often than there are connections
        with pytest.raises(error, match="no more"):
            fail()
    assert names(database) == []
    with database.write() as connection:
        add(connection, "two")
    assert names(database) == ["two"]


def test_a_statement_that_fails_undoes_those_before_it(database: Database) -> None:
    def twice() -> None:
        with database.write() as connection:
            add(connection, "one")
            add(connection, "one")

    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="UNIQUE"):
            twice()
    assert names(database) == []


def test_a_block_that_reads_after_a_failed_statement_ends_as_any_other(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="no such table"), database.read() as connection:
        connection.run("SELECT * FROM nowhere")
    with database.read() as connection:
        assert clients.all_clients(connection) == []


def test_a_transaction_that_reads_sees_one_snapshot(database: Database, other: Database) -> None:
    with database.read() as connection:
        assert clients.all_clients(connection) == []
        with other.write() as writing:
            add(writing, "one")
        assert names(other) == ["one"]
        assert clients.find(connection, "one") is None
        assert clients.all_clients(connection) == []
    with database.read() as connection:
        assert clients.find(connection, "one") is not None


def test_what_is_read_outside_a_transaction_is_what_is_stored_now(
    database: Database, other: Database
) -> None:
    for number in range(3):
        assert len(names(database)) == number
        with other.write() as writing:
            add(writing, str(number))
    with pytest.raises(StoreUnavailable, match="no such table"), other.write() as writing:
        writing.run("DROP TABLE nowhere")
    assert len(names(database)) == 3


def test_what_is_not_committed_is_seen_by_nobody_else(database: Database, other: Database) -> None:
    with database.write() as connection:
        add(connection, "one")
        assert names(other) == names(database) == []
    assert names(other) == ["one"]


def test_a_child_neither_sees_nor_ends_the_transaction_of_its_parent(database: Database) -> None:
    with database.write() as connection:
        add(connection, "one")
        child = os.fork()
        if not child:
            seen = names(database)
            database.close()
            os._exit(len(seen))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        add(connection, "two")
    assert sorted(names(database)) == ["one", "two"]


def test_a_child_writes_beside_its_parent(database: Database) -> None:
    with database.write() as connection:
        add(connection, "parent")
    child = os.fork()
    if not child:
        code = 1
        try:
            with database.write() as connection:
                add(connection, "child")
            code = 0
        finally:
            os._exit(code)
    for number in range(20):
        with database.write() as connection:
            add(connection, str(number))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert len(names(database)) == 22


class Overtaken(Database):
    """A database that another thread uses between two steps of the first use in a child."""

    parent = os.getpid()
    is_overtaken = False

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name == "_connections" and not self.is_overtaken and os.getpid() != self.parent:
            self.is_overtaken = True
            other = threading.Thread(target=names, args=(self,))
            other.start()
            other.join()
        return found


def test_of_two_threads_of_a_child_none_has_a_connection_of_the_parent(
    database: Database, url: str
) -> None:
    assert names(database) == []
    overtaken = Overtaken(url, connections=2)
    with overtaken.read() as connection:
        parents = connection.driver
    child = os.fork()
    if not child:
        code = 1
        try:
            with overtaken.read() as connection:
                code = 2 if connection.driver is parents else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    overtaken.close()


def test_when_all_connections_are_in_use_another_transaction_is_refused_in_time(
    database: Database,
) -> None:
    database.close()
    database.engine.wait = 0.05  # type: ignore[misc]
    with (
        database.read(),
        database.read(),
        pytest.raises(StoreUnavailable, match="all connections to the database are in use"),
        database.read(),
    ):
        raise AssertionError("it must not begin")
    assert names(database) == []


def test_a_transaction_waits_for_a_connection(database: Database) -> None:
    began = threading.Event()
    with database.read(), database.read():

        def read() -> None:
            began.set()
            names(database)

        thread = threading.Thread(target=read)
        thread.start()
        assert began.wait(60)
    thread.join(60)
    assert not thread.is_alive()


# Outages


def test_an_outage_of_writing_is_over_when_a_transaction_writes_again(database: Database) -> None:
    restored: list[str] = []
    database.on_restored = restored.append

    def fail() -> None:
        with pytest.raises(StoreUnavailable), database.write() as connection:
            connection.run("INSERT INTO nowhere VALUES (1)")

    for _ in range(2):
        fail()
        assert names(database) == []
        with database.read() as reading:
            assert clients.all_clients(reading) == []
    assert restored == []
    with database.write() as connection:
        add(connection, "one")
    assert restored == ["restored after 0 s and 2 failures"]
    names(database)
    assert len(restored) == 1


def test_an_outage_of_reading_is_over_when_anything_is_read_again(database: Database) -> None:
    restored: list[str] = []
    database.on_restored = restored.append
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            database.execute(select(column("x")).select_from(table("nowhere")))
    assert names(database) == []
    assert restored == ["restored after 0 s and 3 failures"]


def test_an_error_of_the_caller_is_no_outage(database: Database) -> None:
    restored: list[str] = []
    database.on_restored = restored.append
    with pytest.raises(ValueError, match="its own"), database.write():
        raise ValueError("its own")
    assert names(database) == []
    assert restored == []


@pytest.mark.parametrize("password", ["hush[hush]", "hush[hush", "hush\uff1ahush", "hush/@:hush"])
def test_no_error_quotes_the_password_of_a_url(password: str) -> None:
    with pytest.raises((ConfigurationError, StoreUnavailable)) as raised:
        Database(f"postgresql://ada:{password}@127.0.0.1:1/auth", connections=1)
    assert "hush" not in "".join(traceback.format_exception(raised.value))
