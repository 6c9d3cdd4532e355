"""Requirements: who meets them, and what a refusal may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import Principal, claim, role, scopes
from bearerguard.guard.config.requirement import combined
from bearerguard.principal import Claims


def principal(scope: str = "", roles: str = "", **claims: Any) -> Principal:
    return Principal(
        issuer="i",
        scopes=frozenset(scope.split()),
        roles=frozenset(roles.split()),
        claims=Claims(claims),
    )


@pytest.mark.parametrize(
    ("requirement", "who", "met"),
    [
        (claim("tenant"), principal(tenant="a"), True),
        (claim("tenant"), principal(tenant=None), False),
        (claim("tenant"), principal(), False),
        (claim("tenant", "a", "b"), principal(tenant="b"), True),
        (claim("tenant", "a"), principal(tenant="b"), False),
        (claim("groups", "a"), principal(groups=["x", "a"]), True),
        (claim("groups", "a"), principal(groups=[]), False),
        (claim("level", 1), principal(level=True), False),
        (claim("level", True), principal(level=True), True),
        (claim("level", 1), principal(level=1.0), True),
        (role("boss"), principal(roles="boss"), True),
        (role("boss") & scopes("a"), principal("a", "boss"), True),
        (role("boss") & scopes("a"), principal("a"), False),
        (role("boss") | scopes("a"), principal("a"), True),
        (role("boss") | scopes("a"), principal("b"), False),
    ],
)
def test_a_requirement_is_met_or_not(requirement: Any, who: Principal, met: bool) -> None:
    assert requirement.met_by(who) is met


def test_a_challenge_without_a_token_names_an_alternative_of_scopes_alone_if_there_is_one() -> None:
    assert (role("x") & scopes("a") | scopes("b", "c")).advertised_scope() == "b c"
    assert (role("x") & scopes("a")).advertised_scope() == "a"
    assert role("x").advertised_scope() is None


def test_combining_nothing_is_nothing() -> None:
    assert combined(None, None) is None
    assert combined(None, scopes("a"), None) == scopes("a")
    assert combined(scopes("a"), scopes("b")) == scopes("a", "b")


def test_the_value_that_a_claim_must_have_is_not_shown() -> None:
    assert "top" not in repr(claim("clearance", "top"))


def test_what_a_router_and_its_route_both_require_counts_once() -> None:
    either = role("admin") | claim("department", "archive")
    needed = either & scopes("write") & either
    assert needed == either & scopes("write")
    assert str(needed) == (
        "role 'admin' and scope 'write' or claim 'department' of a certain value and scope 'write'"
    )


def test_a_requirement_of_many_alternatives_may_be_repeated() -> None:
    many = role("r0")
    for number in range(1, 64):
        many |= role(f"r{number}")
    assert many & many & many == many


def test_alternatives_in_another_order_do_not_cancel_each_other() -> None:
    assert (scopes("a", "b") | scopes("b", "a")) & scopes("a") == scopes("a", "b") & scopes("a")
