"""PostgreSQL as a server's database: its connections, and what is said of its failures."""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from bearerguard.server import StoreUnavailable
from bearerguard.server.store.database import Database
from bearerguard.server.store.postgresql import PostgresqlEngine
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
