"""The table of attacks, row by row, through both adapters and with both ways to parse."""

from __future__ import annotations

import pytest

from tests.adversary import (
    algorithms_table,
    binding_table,
    claims_table,
    encodings_table,
    fields_table,
    headers_table,
    keys_table,
    signatures_table,
)
from tests.adversary.attack import PARSERS, Attack, parsing

TABLE = [
    *algorithms_table.TABLE,
    *headers_table.TABLE,
    *keys_table.TABLE,
    *signatures_table.TABLE,
    *encodings_table.TABLE,
    *claims_table.TABLE,
    *fields_table.TABLE,
    *binding_table.TABLE,
]
IDS = [attack.id for attack in TABLE]


@pytest.mark.parametrize("parsers", PARSERS)
@pytest.mark.parametrize("attack", TABLE, ids=IDS)
def test_an_attack_is_refused_and_its_control_accepted(attack: Attack, parsers: str) -> None:
    with parsing(parsers):
        attack.run()


def test_no_row_is_written_twice() -> None:
    assert [each for each in IDS if IDS.count(each) > 1] == []
