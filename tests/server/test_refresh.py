"""Refresh rotation (CONFORMANCE RT): who loses an answer gets it again, who steals gets nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from tests.server.stage import Make, Stage


def test_RT_01_a_token_that_was_used_before_ends_its_family_with_one_event(make: Make) -> None:
    stage = make(refresh_grace=0)
    first = stage.tokens(stage.phone)
    second = stage.refresh(first["refresh_token"], stage.phone).json
    assert second["refresh_token"] != first["refresh_token"]
    for _ in range(3):
        assert stage.refresh(first["refresh_token"], stage.phone).error == (400, "invalid_grant")
    assert stage.refresh(second["refresh_token"], stage.phone).error == (400, "invalid_grant")
    assert not stage.server.introspect(second["access_token"])["active"]
    assert len(stage.named("refresh_token_reused")) == 1


def test_RT_02_a_lost_answer_is_had_again_within_the_grace(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json
    stage.clock.now += 9
    again = stage.refresh(first).json
    assert again["refresh_token"] == second["refresh_token"]
    assert stage.refresh(again["refresh_token"]).status == 200
    assert not stage.named("refresh_token_reused")


def test_RT_02_after_the_grace_it_is_a_theft(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json["refresh_token"]
    stage.clock.now += 10
    assert stage.refresh(first).error == (400, "invalid_grant")
    assert stage.refresh(second).error == (400, "invalid_grant")
    assert len(stage.named("refresh_token_reused")) == 1


def test_RT_02_once_the_successor_was_used_its_parent_is_a_theft(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json["refresh_token"]
    third = stage.refresh(second).json["refresh_token"]
    assert stage.refresh(first).error == (400, "invalid_grant")
    assert stage.refresh(third).error == (400, "invalid_grant")


def test_RT_02_a_theft_is_one_whatever_scope_it_asks_for(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json["refresh_token"]
    stage.clock.now += 11
    assert stage.refresh(first, scope="everything").error == (400, "invalid_grant")
    assert stage.refresh(second).error == (400, "invalid_grant")


def test_RT_02_a_stolen_database_yields_no_refresh_token(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json["refresh_token"]
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        dump = "\n".join(database.iterdump())
        sealed = [row[0] for row in database.execute("SELECT sealed_successor FROM refresh_tokens")]
    assert first not in dump
    assert second not in dump
    assert any(sealed)
    assert all(second.encode() not in each for each in sealed if each)


def test_RT_02_a_successor_that_was_tampered_with_is_not_handed_out(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    stage.refresh(first)
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.execute("UPDATE refresh_tokens SET sealed_successor = x'01' WHERE used_at > 0")
        database.commit()
    assert stage.refresh(first).error == (400, "invalid_grant")


def test_RT_03_another_clients_attempt_revokes_nothing(stage: Stage) -> None:
    token = stage.tokens()["refresh_token"]
    other = stage.add("Other")
    assert stage.refresh(token, other).error == (400, "invalid_grant")
    assert stage.refresh("made-up").error == (400, "invalid_grant")
    assert stage.refresh(token).status == 200


def test_RT_03_a_token_idles_for_thirty_days(stage: Stage) -> None:
    day = 86_400
    token = stage.tokens()["refresh_token"]
    stage.clock.now += 30 * day - 1
    token = stage.refresh(token).json["refresh_token"]
    stage.clock.now += 30 * day
    assert stage.refresh(token).error == (400, "invalid_grant")


def test_RT_03_rotation_never_extends_the_hundred_and_eighty_days(stage: Stage) -> None:
    day = 86_400
    token = stage.tokens()["refresh_token"]
    for _ in range(8):
        stage.clock.now += 20 * day
        token = stage.refresh(token).json["refresh_token"]
    stage.clock.now += 20 * day - 1
    token = stage.refresh(token).json["refresh_token"]
    stage.clock.now += 1
    assert stage.refresh(token).error == (400, "invalid_grant")


def test_RT_03_a_client_may_have_lifetimes_of_its_own(stage: Stage) -> None:
    client = stage.add("Short", refresh_token_lifetime=60, refresh_token_max_lifetime=100)
    token = stage.tokens(client)["refresh_token"]
    stage.clock.now += 59
    token = stage.refresh(token, client).json["refresh_token"]
    stage.clock.now += 41
    assert stage.refresh(token, client).error == (400, "invalid_grant")


def test_a_client_without_the_grant_gets_no_refresh_token(stage: Stage) -> None:
    client = stage.add("Once", grant_types=["authorization_code"])
    assert "refresh_token" not in stage.tokens(client)
    token = stage.tokens()["refresh_token"]
    assert stage.refresh(token, client).error == (400, "unauthorized_client")
