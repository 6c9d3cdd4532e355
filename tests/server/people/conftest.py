"""What the tests of the server's people share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest

from tests.server.people.stage import PASSWORD, PeopleStage


@pytest.fixture
def stage(tmp_path: Path) -> Generator[PeopleStage]:
    """People, of whom Ada has an account."""
    stage = PeopleStage(tmp_path)
    stage.people.accounts.add("ada", PASSWORD, name="Ada Lovelace")
    yield stage
    stage.database.close()
