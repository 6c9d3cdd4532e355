"""Each fuzz target passes its seeds, and a fixed number of mutations of them."""

from __future__ import annotations

from itertools import islice

import pytest

from tests.faults.size import size
from tests.fuzz.every import TARGETS

INPUTS = size(20_000, 400)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_violates_what_a_target_states(name: str) -> None:
    target = TARGETS[name]
    for octets in islice(target.mutated(name), INPUTS):
        try:
            target.check(octets)
        except BaseException as error:
            error.add_note(f"for {octets!r}")
            raise
