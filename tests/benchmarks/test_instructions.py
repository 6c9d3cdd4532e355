"""A warm request costs no more instructions than are committed: counted, not timed."""

from __future__ import annotations

import pytest

from benchmarks import instructions


def test_a_warm_request_costs_no_more_instructions_than_are_committed() -> None:
    if not instructions.has_valgrind():
        pytest.skip(instructions.MISSING)
    committed = instructions.committed().get(instructions.interpreter())
    assert committed is not None, "scripts/benchmark --instructions --update on this Python"
    found = instructions.count().ratios()
    assert instructions.exceeded(found, committed) == []


def test_a_ratio_beyond_the_tolerance_is_named() -> None:
    committed = dict.fromkeys(instructions.ADDED, 2.0)
    within = dict.fromkeys(instructions.ADDED, 2.0 * (1 + instructions.TOLERANCE) - 0.01)
    beyond = within | {"wsgi headers": 2.3}
    assert instructions.exceeded(within, committed) == []
    (fault,) = instructions.exceeded(beyond, committed)
    assert "WSGI" in fault
    assert "2.30" in fault
