"""What the store keeps, and for how long: no more than it takes to recognise a theft."""

from __future__ import annotations

import secrets
import sqlite3
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from sqlalchemy import event

from bearerguard.protocol.jose import base64url
from bearerguard.server.clients.failures import Failures
from bearerguard.server.elapsed import Elapsed
from bearerguard.server.store import pruning
from tests.server.stage import SECRET, Make, Stage, claims
from tests.server.test_store import _plans
from tests.server.test_waiting_to_write import waiting

DAY = 86_400


def count(stage: Stage, table: str, where: str = "1") -> int:
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        query = f"SELECT count(*) FROM {table} WHERE {where}"
        found: int = database.execute(query).fetchone()[0]
        return found


def refreshed(stage: Stage, times: int, every: float = 3600) -> list[str]:
    """Return the refresh tokens of one session, the first one first."""
    tokens = [stage.tokens()["refresh_token"]]
    for _ in range(times):
        stage.clock.now += every
        answer = stage.refresh(tokens[-1])
        assert answer.status == 200, answer.json
        tokens.append(answer.json["refresh_token"])
    return tokens


def test_a_session_that_refreshes_every_hour_has_two_rows_and_one_when_it_is_tidied(
    stage: Stage,
) -> None:
    refreshed(stage, 50)
    assert count(stage, "refresh_tokens") == 2
    stage.clock.now += 60
    stage.server.prune()
    assert count(stage, "refresh_tokens") == 1


@pytest.mark.parametrize("which", [0, 1, 5, 8])
@pytest.mark.parametrize("grace", [0, 10])
def test_any_earlier_token_of_a_family_ends_it_whether_it_has_a_row_or_not(
    make: Make, which: int, grace: int
) -> None:
    stage = make(refresh_grace=grace)
    tokens = refreshed(stage, 9)
    stage.clock.now += 3 * DAY
    stage.server.prune()
    assert stage.refresh(tokens[which]).error == (400, "invalid_grant")
    assert len(stage.named("refresh_token_reused")) == 1
    assert stage.refresh(tokens[-1]).error == (400, "invalid_grant")


def test_a_token_that_was_used_by_two_at_once_is_a_theft_without_its_row_too(make: Make) -> None:
    stage = make(refresh_grace=0)
    first = stage.tokens()["refresh_token"]
    with waiting(stage, lambda: stage.refresh(first)) as (database, asked):
        # As another process leaves it that refreshed meanwhile, and then pruned.
        database.execute("DELETE FROM refresh_tokens")
        database.execute("UPDATE grants SET generation = 1")
    assert asked.result().error == (400, "invalid_grant")
    assert len(stage.named("refresh_token_reused")) == 1


def test_what_another_client_presents_or_nobody_made_ends_nothing(stage: Stage) -> None:
    tokens = refreshed(stage, 3)
    stage.clock.now += 60
    stage.server.prune()
    other = stage.add("Other")
    octets = base64url.decode(tokens[0][4:].encode())
    altered = [octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :] for at in range(68)]
    made_up = [*altered, octets[:-1], octets + b"x", octets[:20], b""]
    for each in made_up:
        token = "bgr_" + base64url.encode(each).decode()
        assert stage.refresh(token).error == (400, "invalid_grant"), each
    for token in ("bgr_\xff", "bgr_!", tokens[0][4:], "bgx_" + tokens[0][4:], tokens[0] + "="):
        assert stage.refresh(token).error == (400, "invalid_grant")
    assert stage.refresh(tokens[0], other).error == (400, "invalid_grant")
    assert not stage.named("refresh_token_reused")
    assert stage.refresh(tokens[-1]).status == 200


def test_a_token_that_idled_for_its_time_ends_no_access_token(stage: Stage) -> None:
    client = stage.add("Short", refresh_token_lifetime=60)
    tokens = stage.tokens(client)
    stage.clock.now += 61
    stage.server.prune()
    assert count(stage, "refresh_tokens") == 0
    assert stage.refresh(tokens["refresh_token"], client).error == (400, "invalid_grant")
    assert stage.server.introspect(tokens["access_token"])["active"]
    assert not stage.named("refresh_token_reused")


def test_revoking_by_an_earlier_token_ends_the_grant(stage: Stage) -> None:
    tokens = refreshed(stage, 4)
    stage.clock.now += 60
    stage.server.prune()
    assert stage.post("/oauth/revoke", stage.credentials() | {"token": tokens[0]}).status == 200
    assert stage.refresh(tokens[-1]).error == (400, "invalid_grant")


def test_an_earlier_token_is_recognised_after_the_secret_was_renewed(stage: Stage) -> None:
    tokens = refreshed(stage, 3)
    stage.server = stage.another(
        secret=["a newer secret that is only for tests", SECRET], on_event=stage.events.append
    )
    stage.clock.now += 60
    stage.server.prune()
    assert stage.refresh(tokens[0]).error == (400, "invalid_grant")
    assert len(stage.named("refresh_token_reused")) == 1


def test_a_token_of_an_earlier_version_is_succeeded_and_its_reuse_is_a_theft(
    make: Make,
) -> None:
    stage = make(refresh_grace=0)
    given = stage.tokens()["refresh_token"]
    digest = stage.server._engine.revocation._refresh.digest
    old = "bgr_" + secrets.token_urlsafe(32)
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.execute(
            "UPDATE refresh_tokens SET digest = ?, generation = NULL WHERE digest = ?",
            (digest(old), digest(given)),
        )
        database.commit()
    token = stage.refresh(old).json["refresh_token"]
    for _ in range(3):
        token = stage.refresh(token).json["refresh_token"]
    stage.clock.now += DAY
    stage.server.prune()
    assert stage.refresh(old).error == (400, "invalid_grant")
    assert len(stage.named("refresh_token_reused")) == 1
    assert stage.refresh(token).error == (400, "invalid_grant")


def test_a_clock_that_is_set_back_a_little_makes_no_theft_of_a_lost_answer(stage: Stage) -> None:
    first = stage.tokens()["refresh_token"]
    second = stage.refresh(first).json["refresh_token"]
    stage.clock.now -= 5
    assert stage.refresh(first).json["refresh_token"] == second
    stage.clock.now -= 5
    assert stage.refresh(first).error == (400, "invalid_grant")


def test_a_revoked_grant_is_removed_with_all_that_hung_on_it(stage: Stage) -> None:
    stands = stage.tokens()
    ended = [stage.tokens() for _ in range(3)]
    for tokens in ended:
        assert stage.server.revoke(tokens["refresh_token"])
    assert stage.server.prune() == 9
    assert [count(stage, each) for each in ("grants", "access_tokens", "refresh_tokens")] == [1] * 3
    for tokens in ended:
        assert not stage.is_active(tokens["access_token"])
        assert stage.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
        assert not stage.server.revoke_grant(claims(tokens["access_token"])["sid"])
    assert stage.is_active(stands["access_token"])
    assert stage.refresh(stands["refresh_token"]).status == 200


def test_what_an_earlier_version_left_of_a_grant_is_removed_when_it_is_over(stage: Stage) -> None:
    stage.tokens()
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.execute("DELETE FROM refresh_tokens")
        database.execute("DELETE FROM access_tokens")
        database.commit()
    stage.server.prune()
    assert count(stage, "grants") == 1
    stage.clock.now += 180 * DAY
    stage.server.prune()
    assert count(stage, "grants") == 0


def test_what_is_pruned_is_found_and_removed_by_index(stage: Stage) -> None:
    refreshed(stage, 2)
    stage.server.revoke(stage.tokens()["refresh_token"])
    stage.tokens()
    stage.clock.now += 2 * DAY

    def prune(connection: Any) -> None:
        for kind in pruning.KINDS.values():
            found = kind(connection, stage.clock.now, 10.0, 50)
            if found is not None:
                found.remove(connection)

    plans = _plans(stage.server.database, prune)
    assert not [plan for plan in plans if plan.startswith("SCAN")], plans


def test_one_slice_is_bounded_by_its_rows(stage: Stage) -> None:
    for _ in range(12):
        stage.server.revoke(stage.tokens()["refresh_token"])
    revoked = pruning.KINDS["revoked grants"]
    removed = []
    while count(stage, "grants"):
        with stage.server.database.write() as connection:
            found = revoked(connection, stage.clock.now, 10.0, 5)
            assert found is not None
            removed.append(found.remove(connection))
    assert sum(removed) == 36
    assert max(removed) <= 10


def test_only_one_process_prunes_at_a_time_and_one_that_is_gone_does_not_keep_it(
    stage: Stage,
) -> None:
    now = stage.clock.now

    def turn(at: float) -> bool:
        with stage.server.database.write() as connection:
            return pruning.take_turn(connection, at, 30.0)

    assert [turn(now), turn(now + 29), turn(now + 30)] == [True, False, True]
    assert turn(now - 3600), "the clock was set back"


def test_a_sign_in_removes_a_few_rows_however_many_are_over(stage: Stage) -> None:
    with closing(sqlite3.connect(stage.folder / "auth.db")) as database:
        database.executemany(
            "INSERT INTO login_attempts (digest, whole_at) VALUES (?, 1)",
            [(str(number),) for number in range(50)],
        )
        database.commit()
    stage.server._engine.people._sign_in._throttle.charge("ada", "192.0.2.1")
    assert count(stage, "login_attempts", "whole_at = 1") == 45
    stage.server.prune()
    assert count(stage, "login_attempts", "whole_at = 1") == 0


def test_a_request_never_waits_for_the_pruning_that_it_begins(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    upkeep = stage.server._engine.upkeep
    going_on, look = threading.Event(), upkeep._look

    def slow(kind: Callable[..., Any], most: int) -> Any:
        assert going_on.wait(60)
        return look(kind, most)

    monkeypatch.setattr(upkeep, "_look", slow)
    stage.clock.now += 61
    assert stage.token(grant_type="client_credentials").status == 200
    stage.clock.now += 61
    assert stage.token(grant_type="client_credentials").status == 200
    going_on.set()
    upkeep.wait()


def test_a_server_that_is_closed_prunes_no_further(stage: Stage) -> None:
    for _ in range(5):
        stage.tokens()
    stage.clock.now += 40 * DAY
    upkeep = stage.server._engine.upkeep
    upkeep.run_if_due()
    stage.server.close()
    assert not upkeep._thread or not upkeep._thread.is_alive()
    assert stage.server.prune() >= 0


def test_no_thread_to_be_had_harms_no_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    stage.clock.now += 61
    monkeypatch.setattr(threading.Thread, "start", none)
    assert stage.token(grant_type="client_credentials").status == 200
    assert "can't start new thread" in caplog.text
    monkeypatch.undo()
    stage.clock.now += 61
    stage.server._engine.upkeep.run_if_due()
    stage.server._engine.upkeep.wait()


def test_ending_all_that_a_user_allowed_takes_as_many_statements_for_many_grants_as_for_one(
    stage: Stage,
) -> None:
    def statements(grants: int) -> int:
        tokens = [stage.tokens() for _ in range(grants)]
        sent: list[str] = []

        def listen(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            sent.append(statement)

        engine = stage.server.database.engine()
        event.listen(engine, "before_cursor_execute", listen)
        try:
            assert stage.server.revoke_user(user_id="ada") == grants
        finally:
            event.remove(engine, "before_cursor_execute", listen)
        assert not any(stage.is_active(each["access_token"]) for each in tokens)
        return len(sent)

    assert statements(12) == statements(1)


# Durations, when the clock is set


def test_what_passes_is_measured_whatever_the_clock_says() -> None:
    read = {"wall": 1000.0, "ticks": 50.0}
    elapsed = Elapsed(lambda: read["wall"], lambda: read["ticks"])
    assert elapsed() == 0
    read.update(wall=1010.0, ticks=60.0)
    assert elapsed() == 10
    read.update(wall=-3000.0, ticks=65.0)
    assert elapsed() == 15
    read.update(wall=600.0)  # it slept, and nobody counted
    assert elapsed() == 3615


def test_upkeep_is_due_after_a_minute_though_the_clock_was_set_back(stage: Stage) -> None:
    stage.clock.now -= 3600
    upkeep = stage.server._engine.upkeep
    upkeep.run_if_due()
    assert upkeep._thread is None
    stage.clock.now += 61
    upkeep.run_if_due()
    assert upkeep._thread is not None
    upkeep.wait()


def test_a_client_that_failed_too_often_is_let_in_again_though_the_clock_was_set_back() -> None:
    read = {"wall": 1000.0, "ticks": 0.0}
    failures = Failures(Elapsed(lambda: read["wall"], lambda: read["ticks"]))
    assert [failures.count("x") for _ in range(21)][-1] > 0
    read.update(wall=-2600.0, ticks=61.0)
    assert failures.count("x") == 0


def test_sign_ins_are_not_refused_for_an_hour_because_the_clock_was_set_back(
    stage: Stage,
) -> None:
    throttle = stage.server._engine.people._sign_in._throttle
    while not throttle.charge("ada", "192.0.2.1").wait:
        pass
    stage.clock.now -= 10 * 3600
    assert throttle.charge("ada", "192.0.2.1").wait == 0
    wait = throttle.charge("ada", "192.0.2.1").wait
    assert 0 < wait <= 300
    waited = 0
    while wait := throttle.charge("ada", "192.0.2.1").wait:
        stage.clock.now += wait
        waited += wait
    assert waited <= 300
