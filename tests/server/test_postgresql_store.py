"""PostgreSQL as a server's database: its connections, and what is said of its failures."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import (
    Double,
    Integer,
    LargeBinary,
    String,
    bindparam,
    column,
    literal,
    select,
    table,
)

from bearerguard.server import StoreUnavailable
from bearerguard.server.store.connection import Prepared
from bearerguard.server.store.database import Database
from bearerguard.server.store.engines.postgresql import PostgresqlEngine
from tests.postgresql_server import PostgreSQLServer
from tests.server.harness import Harness
from tests.server.stores import Store, postgresql_store

CONNECTIONS = 4


@pytest.fixture
def store(postgresql_server: PostgreSQLServer) -> Generator[Store]:
    with postgresql_store(postgresql_server) as made:
        yield made


@pytest.fixture
def database(store: Store) -> Generator[Database]:
    made = Database(store.url, connections=CONNECTIONS)
    yield made
    made.close()


def opened(server: PostgreSQLServer, store: Store) -> int:
    """Return the number of connections to a database."""
    with closing(server.connect()) as connection:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s"
        found = connection.execute(query, (store.url.rpartition("/")[2],)).fetchone()
    assert found is not None
    return int(found[0])


def lose_a_connection(server: PostgreSQLServer, database: Database) -> None:
    with suppress(StoreUnavailable), database.read() as connection:
        pid = connection.run("SELECT pg_backend_pid()").scalar()
        with closing(server.connect()) as other:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
        connection.run("SELECT 1")
        pytest.fail("it was not lost")


def test_a_connection_in_use_while_another_is_lost_is_not_left_behind(
    postgresql_server: PostgreSQLServer, store: Store, database: Database
) -> None:
    for _ in range(2 * CONNECTIONS):
        with database.read() as connection:
            lose_a_connection(postgresql_server, database)
            assert connection.run("SELECT 1").scalar() == 1
    assert opened(postgresql_server, store) <= CONNECTIONS


def test_connections_from_before_an_outage_are_not_used_again(
    postgresql_server: PostgreSQLServer, store: Store, database: Database
) -> None:
    def pids() -> list[int]:
        with database.read() as one, database.read() as two:
            return [each.run("SELECT pg_backend_pid()").scalar() for each in (one, two)]

    before = pids()
    with closing(postgresql_server.connect()) as other:
        for pid in before:
            other.execute("SELECT pg_terminate_backend(%s)", (pid,))
    after = pids()  # neither costs a request its response
    assert not set(before) & set(after)


def test_a_statement_is_prepared_once_in_a_connection_and_reads_what_it_was_given(
    database: Database,
) -> None:
    given = {"number": 1.5, "text": "%s $1 'é'", "octets": b"\0\xff"}
    query = Prepared(
        select(
            bindparam("number", type_=Double).label("number"),
            bindparam("text", type_=String).label("text"),
            bindparam("octets", type_=LargeBinary).label("octets"),
        )
    )
    with database.read() as connection:
        for values in (given, {**given, "text": None}, given):
            assert connection.execute(query, values).all() == [tuple(values.values())]
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%octets%'"
        assert connection.run(prepared).scalar() == 1
    Prepared.made.remove(query)


def test_a_prepared_statement_that_fails_says_why_and_leaves_the_connection_usable(
    database: Database,
) -> None:
    query = Prepared(select(1 / bindparam("number", type_=Integer)))
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="division by zero"):
            database.execute(query, {"number": 0})
        assert database.execute(query, {"number": 1}).scalar() == 1
    Prepared.made.remove(query)


def test_after_a_rollback_prepared_statements_still_work(database: Database) -> None:
    """If psycopg prepares any of its own, then after a rollback it deallocates all."""
    query = Prepared(select(bindparam("number", type_=Integer)))

    def fail() -> None:
        with database.write() as connection:
            for number in range(20):  # psycopg prepares what it has run five times
                connection.run("SELECT %s", (number,))
                connection.execute(query, {"number": number})
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with database.read() as connection:
        assert connection.execute(query, {"number": 7}).scalar() == 7
    Prepared.made.remove(query)


BODY = Prepared(select(column("body")).select_from(table("notes")))
Prepared.made.remove(BODY)


def widen(_database: Database, store: Store) -> None:
    store.run("ALTER TABLE notes ALTER body TYPE text")


def deallocate(database: Database, _store: Store) -> None:
    with database.read() as connection:
        connection.run("DEALLOCATE ALL")


@pytest.mark.parametrize("changing", [widen, deallocate])
def test_statements_that_were_prepared_for_another_table_or_removed_are_prepared_anew(
    database: Database, store: Store, changing: Callable[[Database, Store], None]
) -> None:
    store.run("CREATE TABLE notes (body varchar(5))")
    store.run("INSERT INTO notes VALUES ('short')")
    with ExitStack() as stack:
        for _ in range(2):
            assert stack.enter_context(database.read()).execute(BODY).scalar() == "short"
    changing(database, store)
    # As after a restart: outside a transaction no request notices, inside one of them does.
    assert database.execute(BODY).scalar() == "short"
    with database.read() as connection:
        assert connection.execute(BODY).scalar() == "short"
    changing(database, store)
    with suppress(StoreUnavailable), database.read() as connection:
        connection.execute(BODY)
    with database.read() as one, database.read() as two:
        assert one.execute(BODY).scalar() == two.execute(BODY).scalar() == "short"


def test_two_statements_never_have_the_same_name_in_different_connections(
    database: Database,
) -> None:
    queries = [Prepared(select(literal(1).label(name))) for name in ("one", "two")]
    names = []
    with ExitStack() as stack:
        for query in queries:
            connection = stack.enter_context(database.read())
            connection.execute(query)
            names += connection.run("SELECT name FROM pg_prepared_statements").scalars()
            Prepared.made.remove(query)
    assert len(set(names)) == len(queries)


def test_who_finds_all_connections_in_use_gets_a_503_and_the_next_one_a_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresqlEngine, "wait", 0.2)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(database.read())
        with pytest.raises(StoreUnavailable, match="all connections"), database.read():
            pytest.fail("there was one")
    with database.read() as connection:
        assert connection.run("SELECT 1").scalar() == 1


def test_consents_of_a_user_that_are_remembered_at_once_are_all_remembered(
    store: Store, tmp_path: Path
) -> None:
    resources = [f"https://api{number}.example.com" for number in range(6)]
    harness = Harness(tmp_path, store, resources=resources)
    app = harness.add("Careful", require_consent=True)
    pages = [harness.authorize(app, resource=each) for each in resources]
    with ThreadPoolExecutor(len(pages)) as pool:
        with store.writing_alone():
            asked = [pool.submit(harness.consent, page, remember="yes") for page in pages]
        assert all("code" in each.result().sent for each in asked)
    assert all("code" in harness.authorize(app, resource=each).sent for each in resources)
    harness.server.close()
