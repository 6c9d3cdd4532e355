"""Refresh rotation (CONFORMANCE RT): a lost response can be repeated, a theft is detected."""

from __future__ import annotations

import pytest

from bearerguard.server import Lifetimes
from tests.server.harness import Harness, Make
from tests.server.leaks import found

pytestmark = pytest.mark.both_engines


def test_RT_01_a_token_that_was_used_before_ends_its_family_with_one_event(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(refresh_grace=0))
    first = harness.tokens(harness.phone)
    second = harness.refresh(first["refresh_token"], harness.phone).json
    assert second["refresh_token"] != first["refresh_token"]
    for _ in range(3):
        assert harness.refresh(first["refresh_token"], harness.phone).error == (
            400,
            "invalid_grant",
        )
    assert harness.refresh(second["refresh_token"], harness.phone).error == (400, "invalid_grant")
    assert not harness.server.introspect(second["access_token"])["active"]
    assert len(harness.named("refresh_token_reused")) == 1


def test_RT_02_a_lost_response_can_be_repeated_within_the_grace_period(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json
    harness.clock.now += 9
    again = harness.refresh(first).json
    assert again["refresh_token"] == second["refresh_token"]
    assert harness.refresh(again["refresh_token"]).status == 200
    assert not harness.named("refresh_token_reused")


def test_RT_02_after_the_grace_it_is_a_theft(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    harness.clock.now += 10
    assert harness.refresh(first).error == (400, "invalid_grant")
    assert harness.refresh(second).error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1


def test_RT_02_once_the_successor_was_used_its_parent_is_a_theft(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    third = harness.refresh(second).json["refresh_token"]
    assert harness.refresh(first).error == (400, "invalid_grant")
    assert harness.refresh(third).error == (400, "invalid_grant")


def test_RT_02_reuse_is_detected_whatever_scope_is_requested(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    harness.clock.now += 11
    assert harness.refresh(first, scope="everything").error == (400, "invalid_grant")
    assert harness.refresh(second).error == (400, "invalid_grant")


def test_RT_02_a_stolen_database_yields_no_refresh_token(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    sealed = [row[0] for row in harness.store.run("SELECT sealed_successor FROM refresh_tokens")]
    assert any(sealed)
    assert found(harness.store, "", [first, second]) == []


def test_RT_02_a_successor_that_was_tampered_with_is_not_handed_out(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    harness.refresh(first)
    damage = "UPDATE refresh_tokens SET sealed_successor = :other WHERE used_at > 0"
    harness.store.run(damage, {"other": b"\x01"})
    assert harness.refresh(first).error == (400, "invalid_grant")


def test_RT_03_another_clients_attempt_revokes_nothing(harness: Harness) -> None:
    token = harness.tokens()["refresh_token"]
    other = harness.add("Other")
    assert harness.refresh(token, other).error == (400, "invalid_grant")
    assert harness.refresh("made-up").error == (400, "invalid_grant")
    assert harness.refresh(token).status == 200


def test_RT_03_a_token_idles_for_thirty_days(harness: Harness) -> None:
    day = 86_400
    token = harness.tokens()["refresh_token"]
    harness.clock.now += 30 * day - 1
    token = harness.refresh(token).json["refresh_token"]
    harness.clock.now += 30 * day
    assert harness.refresh(token).error == (400, "invalid_grant")


def test_RT_03_rotation_never_extends_the_hundred_and_eighty_days(harness: Harness) -> None:
    day = 86_400
    token = harness.tokens()["refresh_token"]
    for _ in range(8):
        harness.clock.now += 20 * day
        token = harness.refresh(token).json["refresh_token"]
    harness.clock.now += 20 * day - 1
    token = harness.refresh(token).json["refresh_token"]
    harness.clock.now += 1
    assert harness.refresh(token).error == (400, "invalid_grant")


def test_RT_03_a_client_may_have_lifetimes_of_its_own(harness: Harness) -> None:
    client = harness.add("Short", refresh_token_lifetime=60, refresh_token_max_lifetime=100)
    token = harness.tokens(client)["refresh_token"]
    harness.clock.now += 59
    token = harness.refresh(token, client).json["refresh_token"]
    harness.clock.now += 41
    assert harness.refresh(token, client).error == (400, "invalid_grant")


def test_a_client_without_the_grant_gets_no_refresh_token(harness: Harness) -> None:
    client = harness.add("Once", grant_types=["authorization_code"])
    assert "refresh_token" not in harness.tokens(client)
    token = harness.tokens()["refresh_token"]
    assert harness.refresh(token, client).error == (400, "unauthorized_client")
