"""What the tests of the server share.

They run on SQLite. Those marked `both_engines` run on PostgreSQL, too; with
`BEARERGUARD_ALL_ENGINES=1`, all do that are not marked `sqlite_only`, those without a mark with the
first of their parameters: the others differ in what is sent, and hardly in what is stored. With
`BEARERGUARD_STRESS=1`, too, they run with all of them.
"""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.faults.size import FULL
from tests.postgresql_server import PostgreSQLServer
from tests.server.harness import Harness, Make
from tests.server.stores import (
    MakeStore,
    PostgreSQLStores,
    Store,
    migrated_sqlite,
    postgresql_store,
    sqlite_store,
)


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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    seen: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        by_the_way = not FULL and _is_on_postgresql_by_the_way(item)
        (left_out if by_the_way and test in seen else kept).append(item)
        if by_the_way:
            seen.add(test)
    if left_out:
        items[:] = kept
        config.hook.pytest_deselected(items=left_out)


def _is_on_postgresql_by_the_way(item: pytest.Item) -> bool:
    """Whether a test that is not about the database runs on the second engine."""
    return (
        isinstance(item, pytest.Function)
        and hasattr(item, "callspec")
        and item.callspec.params.get("engine") == "postgresql"
        and item.get_closest_marker("both_engines") is None
    )


@pytest.fixture(scope="session")
def postgresql_stores(postgresql_server: PostgreSQLServer) -> PostgreSQLStores:
    """Databases for all tests of this process, one after the other."""
    return PostgreSQLStores(postgresql_server)


@pytest.fixture(scope="session")
def sqlite_content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A database with the tables: to copy it takes less long than the migrations."""
    return migrated_sqlite(tmp_path_factory.mktemp("migrated"))


@pytest.fixture
def make_store(engine: str, request: pytest.FixtureRequest) -> Generator[MakeStore]:
    """Make a database that has the tables on the engine of the test."""
    with ExitStack() as stack:

        def making(folder: Path) -> Store:
            if engine == "sqlite":
                folder.mkdir(exist_ok=True)
                path = folder / "auth.db"
                path.touch(0o600)
                path.write_bytes(request.getfixturevalue("sqlite_content"))
                return sqlite_store(folder)
            stores: PostgreSQLStores = request.getfixturevalue("postgresql_stores")
            return stack.enter_context(stores.store())

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
