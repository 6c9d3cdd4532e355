"""The threat model names code, tests and rules that are there."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT
from tests.docs.rfc_map import CODE, TESTS, rows

_TABLE = (ROOT / "docs" / "security.md").read_text().partition("## Attacks")[2]
_ROW = re.compile(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
ATTACKS = [row.groups() for row in _ROW.finditer(_TABLE)][1:]
_IDENTIFIER = re.compile(r"[A-Z]+-\d+")


def test_every_row_of_the_table_is_read() -> None:
    assert len(ATTACKS) == _TABLE.count("\n| ") - 1 > 30


@pytest.mark.parametrize(("attack", "stopped_by", "code", "shown_by"), ATTACKS)
def test_what_stops_an_attack_is_there_and_is_shown(
    attack: str, stopped_by: str, code: str, shown_by: str
) -> None:
    assert attack
    assert stopped_by
    for name in re.findall(r"`([^`]+)`", code):
        assert (CODE / name).exists(), name
    tests = re.findall(r"`([^`]+)::(\w+)`", shown_by)
    for file, test in tests:
        assert f"def {test}(" in (TESTS / file).read_text(), test
    known = {identifier for identifier, *_ in rows()}
    rules = _IDENTIFIER.findall(re.sub(r"`[^`]*`", "", shown_by))
    assert tests or rules
    assert set(rules) <= known
