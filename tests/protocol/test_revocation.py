"""The vocabulary of revocation: one table for the guard's arguments, the claims and the log."""

from __future__ import annotations

from typing import get_args

from bearerguard.guard.revocation.revoker import Names
from bearerguard.protocol.revocation import (
    ARGUMENT_OF_CLAIM,
    KIND_OF_CLAIM,
    REVOCABLE,
    Argument,
    Claim,
    Kind,
)


def test_every_name_stands_in_the_table_once() -> None:
    assert [each.claim for each in REVOCABLE] == list(get_args(Claim)) == list(KIND_OF_CLAIM)
    assert [each.argument for each in REVOCABLE] == list(get_args(Argument))
    assert list(ARGUMENT_OF_CLAIM.values()) == list(get_args(Argument))
    named = {each.kind for each in REVOCABLE}
    assert named | {"sessionless"} == set(get_args(Kind))  # which the log alone has


def test_a_guard_revokes_by_each_argument_of_the_table() -> None:
    arguments = {each.argument for each in REVOCABLE}
    assert arguments | {"issuer", "issued_before"} == set(Names.__annotations__)
