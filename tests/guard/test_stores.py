"""A store that is written outside of the package, as `docs/extending/stores.md` has it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bearerguard import stores
from bearerguard.redis import RedisStore

PAGE = Path(__file__).parents[2] / "docs" / "extending" / "stores.md"


def test_the_example_of_a_store_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    names: dict[str, object] = {"__name__": "stores_example"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)


def test_every_effect_that_a_store_performs_is_public() -> None:
    store = RedisStore("redis://127.0.0.1", secret="s" * 32)
    with store.listening() as listening:
        effects = store.handlers().keys() | listening.keys()
    assert {effect.__name__ for effect in effects} <= set(stores.__all__)
