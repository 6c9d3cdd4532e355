"""What commands print as JSON is the same for a program, and steers no terminal."""

from __future__ import annotations

import json

import pytest

from bearerguard.cli import output


@pytest.mark.parametrize(
    "given",
    ["\x1b[2J", "\x9b", "\x7f", "\u202e", "\u200b", "\u2028", "\ufeff", "\U000e0041", "\udcff"],
)
def test_json_has_no_character_that_steers(capsys, given):
    output.as_json({"name": f"a{given}b \u00e9\u20ac"})
    said = capsys.readouterr().out
    assert json.loads(said) == {"name": f"a{given}b \u00e9\u20ac"}
    assert given not in said
    assert "\u00e9\u20ac" in said
