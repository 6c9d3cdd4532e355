"""Scopes that imply others (SCOPE-01): `Guard(implies=...)`."""

from __future__ import annotations

import pickle
from copy import copy
from dataclasses import replace
from typing import Any

import pytest

from bearerguard import (
    ANONYMOUS,
    Allow,
    ConfigurationError,
    Deny,
    Guard,
    Principal,
    Request,
    role,
    scopes,
)
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.testing import LocalIssuer

IMPLIES = {"admin": ["write", "audit"], "write": "read"}
ISSUER = LocalIssuer(algorithm="ES256")


def decide(guard: Guard, token: str) -> Any:
    return guard.run(guard.authenticate(Request(headers={"authorization": f"Bearer {token}"})))


@pytest.mark.parametrize("introspects", [False, True])
@pytest.mark.parametrize("required", ["read", "write", "audit", "admin"])
def test_SCOPE_01_a_scope_implies_others_transitively(required: str, introspects: bool) -> None:
    with ISSUER.guard(require=scopes(required), implies=IMPLIES, introspects=introspects) as guard:
        make = ISSUER.opaque_token if introspects else ISSUER.token
        token = make(scopes=["admin"])
        for _ in range(2):  # the second time, the token is cached
            assert isinstance(decide(guard, token), Allow)


def test_SCOPE_01_nothing_is_implied_the_other_way_round() -> None:
    with ISSUER.guard(require=scopes("write"), implies=IMPLIES) as guard:
        denied = decide(guard, ISSUER.token(scopes=["read", "audit"]))
        assert isinstance(denied, Deny)
        assert denied.status == 403


def test_SCOPE_01_the_principal_has_what_the_token_has() -> None:
    with ISSUER.guard(implies=IMPLIES) as guard:
        principal = guard.verify(ISSUER.token(scopes=["write", "other"]))
    assert principal.scopes == {"write", "other"}
    assert principal.effective_scopes == {"write", "other", "read"}
    assert principal.to_dict()["scopes"] == ["other", "write"]
    for same in (copy(principal), pickle.loads(pickle.dumps(principal))):
        assert same == principal
        assert same.effective_scopes == principal.effective_scopes
    assert replace(principal, scopes=frozenset({"x"})).effective_scopes == {"x"}


def test_without_a_hierarchy_the_effective_scopes_are_the_same_object() -> None:
    with ISSUER.guard() as guard:
        principal = guard.verify(ISSUER.token(scopes=["admin"]))
    assert principal.effective_scopes is principal.scopes
    assert ANONYMOUS.effective_scopes == frozenset()


def test_SCOPE_01_the_challenge_names_the_scopes_of_the_operation() -> None:
    needed = scopes("read", "write")
    with ISSUER.guard(require=needed, implies=IMPLIES) as guard:
        weak = decide(guard, ISSUER.token(scopes=["audit"]))
        none: Any = guard.run(guard.authenticate(Request()))
    assert (weak.status, weak.scope, weak.challenges[0].scope) == (403, "read write", "read write")
    assert (none.status, none.scope) == (401, "read write")


def test_SCOPE_01_implied_scopes_count_in_one_alternative_and_beside_a_role() -> None:
    needed = (scopes("read") & role("boss")) | scopes("audit", "other")
    with ISSUER.guard(require=needed, implies=IMPLIES) as guard:
        assert isinstance(decide(guard, ISSUER.token(scopes=["admin", "other"])), Allow)
        assert isinstance(decide(guard, ISSUER.token(scopes=["write"], roles=["boss"])), Allow)
        assert decide(guard, ISSUER.token(scopes=["write"])).status == 403


def test_SCOPE_01_a_principal_of_the_application_is_measured_by_the_same_rule() -> None:
    made = Principal(issuer=ISSUER.url, scopes=["admin"])
    with ISSUER.guard(implies=IMPLIES) as guard:
        assert guard.meets(made, scopes("read"))
        assert guard.authorize(made, scopes("read")) is None
        assert not guard.meets(made, scopes("more"))
    with ISSUER.guard() as guard:
        assert not guard.meets(made, scopes("read"))


def test_SCOPE_01_an_explanation_says_which_scopes_imply_the_requirement() -> None:
    with ISSUER.guard(implies=IMPLIES, introspects=True) as guard:
        for make in (ISSUER.token, ISSUER.opaque_token):
            explained = guard.explain(make(scopes=["admin"]), require=scopes("read"))
            (check,) = [each for each in explained.checks if each.name == "requirement"]
            assert (check.status, check.expected) == ("passed", "scope 'read'")
            assert check.actual == "the token's scopes imply it: ['admin']"
            explained = guard.explain(make(scopes=["read"]), require=scopes("read"))
            (check,) = [each for each in explained.checks if each.name == "requirement"]
            assert check.actual == "the token has it"


@pytest.mark.parametrize(
    ("implies", "message"),
    [
        ({"a": ["b"], "b": ["c"], "c": ["a"]}, "a scope implies itself, 'a' -> 'b' -> 'c' -> 'a'"),
        ({"a": ["a"]}, "a scope implies itself, 'a' -> 'a'"),
        ({"x": ["a"], "a": ["b"], "b": ["a"]}, "a scope implies itself, 'a' -> 'b' -> 'a'"),
        ({"a": []}, "'a' implies nothing: pass a dict"),
        ({"a": None}, "'a' implies nothing: pass a dict"),
        ({"a": {"b": ["c"]}}, "'a' implies nothing: pass a dict"),
        ({"a": ["b c"]}, "'b c' is no scope"),
        ({"a b": ["c"]}, "'a b' is no scope"),
        ({"a": [7]}, "'a' implies nothing: pass a dict"),
        ({7: ["a"]}, "7 is no scope"),
        ([("a", "b")], "pass a dict"),
        ("admin", "pass a dict"),
    ],
)
def test_SCOPE_01_cycles_and_unknown_shapes_are_refused_at_start(
    implies: Any, message: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        ISSUER.guard(implies=implies)
    assert str(refused.value).startswith("implies=: ")
    assert message in str(refused.value)


def test_an_empty_hierarchy_implies_nothing() -> None:
    assert ScopeHierarchy({}).effective(frozenset({"a"})) == {"a"}
    with ISSUER.guard(implies={}) as guard:
        assert guard.implies == {}


def test_two_ways_to_one_scope_are_no_cycle() -> None:
    hierarchy = ScopeHierarchy({"a": ["b", "c"], "b": ["d"], "c": ["d"]})
    assert hierarchy.effective(frozenset({"a"})) == {"a", "b", "c", "d"}
