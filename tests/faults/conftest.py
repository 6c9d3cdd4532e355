"""What the fault tests share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests import postgresql_server as postgresql
from tests.server.stores import Store, postgresql_store, sqlite_store


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Store]:
    """An empty database on each engine, which loses nothing that it acknowledged."""
    if request.param == "sqlite":
        yield sqlite_store(tmp_path)
    else:
        with postgresql.running(durable=True) as server, postgresql_store(server) as made:
            yield made
