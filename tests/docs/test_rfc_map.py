"""The RFC map names files that are there, and every rule that a test names."""

from __future__ import annotations

from tests.docs.rfc_map import CODE, PAGE, TESTS, files_by_id, renewed, rows


def test_the_map_names_what_is_there() -> None:
    assert renewed() == PAGE.read_text(), "run `python -m tests.docs.rfc_map`"
    for identifier, rule, code, tests in rows():
        assert rule, identifier
        assert code, identifier
        assert tests, f"{identifier} has no test"
        for name in code:
            assert (CODE / name).exists(), f"{identifier}: {name}"
        for name in tests:
            assert (TESTS / name).exists(), f"{identifier}: {name}"


def test_every_rule_that_has_a_test_is_in_the_map() -> None:
    listed = [identifier for identifier, *_ in rows()]
    assert len(listed) == len(set(listed))
    assert set(files_by_id()) == set(listed)
