"""Requirements: who meets them, and what a refusal may ask for."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard import ConfigurationError, Principal, claim, role, scopes, step_up
from bearerguard.guard.config.requirement import Moment, combined
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


NOW = 1_800_000_000.0
AT = Moment(NOW, leeway=30)
RECENT, STRONG = step_up(max_age=300), step_up(acr=["phr", "phrh"])


def login(acr: str | None = None, age: float | None = None, scope: str = "") -> Principal:
    return Principal(
        scopes=scope.split(), acr=acr, auth_time=None if age is None else NOW - age, issuer="i"
    )


@pytest.mark.parametrize(
    ("requirement", "who", "met"),
    [
        (RECENT, login(age=0), True),
        (RECENT, login(age=330), True),
        (RECENT, login(age=330.1), False),
        (RECENT, login(), False),
        (RECENT, login(age=-300), True),
        (RECENT, login(age=-301), False),
        (STRONG, login("phr"), True),
        (STRONG, login("phrh"), True),
        (STRONG, login("pwd"), False),
        (STRONG, login(), False),
        (RECENT & STRONG, login("phr", 10), True),
        (RECENT & STRONG, login("phr", 400), False),
        (RECENT | STRONG, login("phr", 400), True),
        (RECENT & step_up(max_age=60), login(age=100), False),
        (STRONG & step_up(acr="phrh"), login("phr"), False),
        (STRONG & step_up(acr="phrh"), login("phrh"), True),
    ],
)
def test_STEP_01_a_login_suffices_or_not(requirement: Any, who: Principal, met: bool) -> None:
    assert requirement.met_by(who, AT) is met


def test_STEP_01_without_the_time_no_login_is_recent_and_the_rest_is_decided() -> None:
    assert not RECENT.met_by(login(age=0))
    assert STRONG.met_by(login("phr"))
    assert (RECENT | scopes("a")).met_by(login(scope="a"))


@pytest.mark.parametrize(
    ("requirement", "who", "needed"),
    [
        (STRONG & RECENT, login("phr", 400), (None, ("phr", "phrh"), 300)),
        (STRONG & RECENT, login("pwd", 1), (None, ("phr", "phrh"), 300)),
        (scopes("a", "b") & RECENT, login(age=400, scope="a b"), (None, (), 300)),
        (scopes("a", "b") & RECENT, login(age=400, scope="a"), ("a b", (), 300)),
        (scopes("a", "b") & RECENT, login(age=1, scope="a"), ("a b", (), None)),
        (RECENT & step_up(max_age=60), login(), (None, (), 60)),
        (STRONG & step_up(acr="phrh"), login(), (None, ("phrh",), None)),
        (RECENT | scopes("a"), login(), (None, (), 300)),
        (scopes("a") | RECENT, login(), ("a", (), None)),
        (role("boss") & RECENT | STRONG, login(), (None, ("phr", "phrh"), None)),
    ],
)
def test_HDR_17_the_first_alternative_that_scopes_or_a_login_can_meet_is_named(
    requirement: Any, who: Principal, needed: tuple[Any, ...]
) -> None:
    assert requirement.obtainable(who, AT) == needed


def test_HDR_17_no_login_is_named_where_a_role_or_a_claim_is_lacking() -> None:
    assert (role("boss") & RECENT).obtainable(login(), AT) is None
    assert (claim("tier") & STRONG).obtainable(login(), AT) is None


def test_a_challenge_without_a_token_names_the_scopes_beside_a_login() -> None:
    assert (role("x") | scopes("a") & RECENT).advertised_scope() == "a"
    assert RECENT.advertised_scope() is None


def test_STEP_01_what_is_lacking_is_said_in_words() -> None:
    both = STRONG & RECENT
    assert str(both) == "a login by 'phr' or 'phrh' and a login at most 300 s old"
    sent = "(the issuer must send it in access tokens)"
    assert both.unmet_by(login(), AT)[1] == f"no acr {sent} and no auth_time {sent}"
    assert both.unmet_by(login("pwd", 7200), AT)[1] == "acr 'pwd' and a login 2 h old"
    assert RECENT.unmet_by(login(age=-1000), AT)[1] == "a login in the future"
    assert RECENT.unmet_by(login(age=1))[1] == "a login of some age"


def test_STEP_01_the_same_login_required_twice_counts_once() -> None:
    assert RECENT & RECENT == RECENT
    assert (RECENT | scopes("a")) & (RECENT | scopes("a")) == RECENT | scopes("a")
    assert step_up(acr=["phr", "phr"]) == step_up(acr="phr")
    assert scopes("a") & RECENT & step_up(max_age=60) == scopes("a") & step_up(max_age=60)


def test_STEP_01_two_kinds_of_login_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="'phr' and a login by 'pwd' are both required"):
        _ = step_up(acr="phr") & step_up(acr="pwd")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "pass acr=, max_age= or both"),
        ({"acr": []}, "pass acr=, max_age= or both"),
        ({"acr": "two words"}, "acr='two words'"),
        ({"acr": ""}, "acr=''"),
        ({"acr": 'a"b'}, "printable ASCII"),
        ({"acr": [1]}, r"acr=\[1\]"),
        ({"max_age": 0}, "max_age=0"),
        ({"max_age": True}, "max_age=True"),
        ({"max_age": 1.5}, "whole seconds"),
        ({"max_age": "60"}, "max_age='60'"),
    ],
)
def test_a_malformed_step_up_is_refused(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        step_up(**options)
