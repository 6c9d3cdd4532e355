"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.server.stage import Make, Stage


@pytest.fixture
def make(tmp_path: Path) -> Generator[Make]:
    """Make servers with options; each over its own database."""
    made: list[Stage] = []

    def making(**options: Any) -> Stage:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Stage(folder, **options))
        return made[-1]

    yield making
    for stage in made:
        stage.server.close()


@pytest.fixture
def stage(make: Make) -> Stage:
    """A server as it is made by default."""
    return make()
