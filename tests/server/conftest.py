"""What the tests of the server share.

They run on SQLite. Those marked `both_engines` run on PostgreSQL, too; with
`BEARERGUARD_ALL_ENGINES=1`, all do that are not marked `sqlite_only`.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from tests.postgresql_server import PostgreSQLServer
from tests.server.harness import Harness, Make
from tests.server.stores import MakeStore, Store, postgresql_store, sqlite_store


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "both_engines: runs on PostgreSQL in the quick run, too")
    config.addinivalue_line("markers", "sqlite_only: is about the file of SQLite")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "engine" in metafunc.fixturenames:
        marked = {mark.name for mark in metafunc.definition.iter_markers()}
        every = os.environ.get("BEARERGUARD_ALL_ENGINES") or "both_engines" in marked
        on_both = every and "sqlite_only" not in marked
        metafunc.parametrize(
            "engine",
            ["sqlite", "postgresql"] if on_both else ["sqlite"],
            scope="module" if "module_store" in metafunc.fixturenames else "function",
        )


@pytest.fixture(scope="session")
def postgresql_template(postgresql_server: PostgreSQLServer) -> str:
    """A database with the tables, of which copies are made sooner than by the migrations."""
    name = postgresql_server.create_database()
    database = Database(postgresql_server.url(name), connections=1)
    migrate(database)
    database.close()
    return name


@pytest.fixture
def make_store(engine: str, request: pytest.FixtureRequest) -> Generator[MakeStore]:
    """Make a database on the engine of the test; on PostgreSQL, one that has the tables."""
    with ExitStack() as stack:

        def making(folder: Path) -> Store:
            if engine == "sqlite":
                return sqlite_store(folder)
            server: PostgreSQLServer = request.getfixturevalue("postgresql_server")
            template: str = request.getfixturevalue("postgresql_template")
            return stack.enter_context(postgresql_store(server, template))

        yield making


@pytest.fixture(scope="module")
def module_store(
    engine: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Generator[Store]:
    """A database for all tests of a module."""
    if engine == "sqlite":
        yield sqlite_store(tmp_path_factory.mktemp("store"))
    else:
        with postgresql_store(request.getfixturevalue("postgresql_server")) as store:
            yield store


@pytest.fixture
def empty_store(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> Generator[Store]:
    """A database without tables."""
    if engine == "sqlite":
        yield sqlite_store(tmp_path)
    else:
        with postgresql_store(request.getfixturevalue("postgresql_server")) as store:
            yield store


@pytest.fixture
def make(tmp_path: Path, make_store: MakeStore) -> Generator[Make]:
    """Make servers with options; each over its own database."""
    made: list[Harness] = []

    def making(**options: Any) -> Harness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        store = options.pop("store", None) or make_store(folder)
        made.append(Harness(folder, store, **options))
        return made[-1]

    yield making
    for harness in made:
        harness.server.close()


@pytest.fixture
def harness(make: Make) -> Harness:
    """A server as it is made by default."""
    return make()
