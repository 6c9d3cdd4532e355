"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from tests.server.harness import Harness, Make


@pytest.fixture
def make(tmp_path: Path) -> Generator[Make]:
    """Make servers with options; each over its own database."""
    made: list[Harness] = []

    def making(**options: Any) -> Harness:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Harness(folder, **options))
        return made[-1]

    yield making
    for harness in made:
        harness.server.close()


@pytest.fixture
def harness(make: Make) -> Harness:
    """A server as it is made by default."""
    return make()
