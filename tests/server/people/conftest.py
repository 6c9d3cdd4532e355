"""What the tests of the server's people share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.server.people.harness import PASSWORD, PeopleHarness
from tests.server.stores import MakeStore


@pytest.fixture
def harness(tmp_path: Path, make_store: MakeStore) -> Generator[PeopleHarness]:
    """People, of whom Ada has an account."""
    harness = PeopleHarness(tmp_path, make_store(tmp_path))
    harness.people.accounts.add("ada", PASSWORD, name="Ada Lovelace")
    harness.events.clear()
    yield harness
    harness.database.close()
