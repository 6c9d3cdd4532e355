"""What the store keeps, and for how long: no more than it takes to recognise a theft."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.server import Lifetimes, Resource
from bearerguard.server.audit import Audit
from bearerguard.server.clients.authentication import Failures
from bearerguard.server.store import pruning
from bearerguard.server.upkeep import Upkeep
from tests.server.harness import ISSUER, SECRET, Clock, Harness, Make, claims
from tests.server.statements import recorded
from tests.server.test_write_contention import waiting

DAY = 86_400


def count(harness: Harness, table: str, where: str = "true") -> int:
    return harness.store.count(table, where)


def refreshed(harness: Harness, times: int, every: float = 3600) -> list[str]:
    """Return the refresh tokens of one session, the first one first."""
    tokens = [harness.tokens()["refresh_token"]]
    for _ in range(times):
        harness.clock.now += every
        response = harness.refresh(tokens[-1])
        assert response.status == 200, response.json
        tokens.append(response.json["refresh_token"])
    return tokens


def test_a_session_that_refreshes_every_hour_has_two_rows_and_one_when_it_is_tidied(
    harness: Harness,
) -> None:
    refreshed(harness, 50)
    assert count(harness, "refresh_tokens") == 2
    harness.clock.now += 60
    harness.server.prune()
    assert count(harness, "refresh_tokens") == 1


@pytest.mark.parametrize("which", [0, 1, 5, 8])
@pytest.mark.parametrize("grace", [0, 10])
def test_any_earlier_token_of_a_family_ends_it_whether_it_has_a_row_or_not(
    make: Make, which: int, grace: int
) -> None:
    harness = make(lifetimes=Lifetimes(refresh_grace=grace))
    tokens = refreshed(harness, 9)
    harness.clock.now += 3 * DAY
    harness.server.prune()
    assert harness.refresh(tokens[which]).error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1
    assert harness.refresh(tokens[-1]).error == (400, "invalid_grant")


def test_a_token_that_was_used_by_two_at_once_is_a_theft_without_its_row_too(make: Make) -> None:
    harness = make(lifetimes=Lifetimes(refresh_grace=0))
    first = harness.tokens()["refresh_token"]
    with waiting(harness, lambda: harness.refresh(first)) as (database, asked):
        # As another process leaves it that refreshed meanwhile, and then pruned.
        database.exec_driver_sql("DELETE FROM refresh_tokens")
        database.exec_driver_sql("UPDATE grants SET generation = 1")
    assert asked.result().error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1


def test_a_forged_or_another_clients_refresh_token_revokes_nothing(harness: Harness) -> None:
    tokens = refreshed(harness, 3)
    harness.clock.now += 60
    harness.server.prune()
    other = harness.add("Other")
    octets = base64url.decode(tokens[0][4:].encode())
    altered = [octets[:at] + bytes([octets[at] ^ 1]) + octets[at + 1 :] for at in range(68)]
    made_up = [*altered, octets[:-1], octets + b"x", octets[:20], b""]
    for each in made_up:
        token = "bgr_" + base64url.encode(each).decode()
        assert harness.refresh(token).error == (400, "invalid_grant"), each
    for token in ("bgr_\xff", "bgr_!", tokens[0][4:], "bgx_" + tokens[0][4:], tokens[0] + "="):
        assert harness.refresh(token).error == (400, "invalid_grant")
    assert harness.refresh(tokens[0], other).error == (400, "invalid_grant")
    assert not harness.named("refresh_token_reused")
    assert harness.refresh(tokens[-1]).status == 200


def test_a_token_that_idled_for_its_time_ends_no_access_token(harness: Harness) -> None:
    client = harness.add("Short", refresh_token_lifetime=60)
    tokens = harness.tokens(client)
    harness.clock.now += 61
    harness.server.prune()
    assert count(harness, "refresh_tokens") == 0
    assert harness.refresh(tokens["refresh_token"], client).error == (400, "invalid_grant")
    assert harness.server.introspect(tokens["access_token"])["active"]
    assert not harness.named("refresh_token_reused")


def test_revoking_by_an_earlier_token_ends_the_grant(harness: Harness) -> None:
    tokens = refreshed(harness, 4)
    harness.clock.now += 60
    harness.server.prune()
    assert harness.post("/oauth/revoke", harness.credentials() | {"token": tokens[0]}).status == 200
    assert harness.refresh(tokens[-1]).error == (400, "invalid_grant")


def test_an_earlier_token_is_recognised_after_the_secret_was_renewed(harness: Harness) -> None:
    tokens = refreshed(harness, 3)
    harness.server = harness.another(
        secret=["a newer secret that is only for tests", SECRET], on_event=harness.events.append
    )
    harness.clock.now += 60
    harness.server.prune()
    assert harness.refresh(tokens[0]).error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1


def test_a_token_of_an_earlier_version_is_succeeded_and_its_reuse_is_a_theft(
    make: Make,
) -> None:
    harness = make(lifetimes=Lifetimes(refresh_grace=0))
    given = harness.tokens()["refresh_token"]
    digest = harness.server._engine.revocation._refresh.digest
    old = "bgr_" + secrets.token_urlsafe(32)
    harness.store.run(
        "UPDATE refresh_tokens SET digest = :old, generation = NULL WHERE digest = :given",
        {"old": digest(old), "given": digest(given)},
    )
    token = harness.refresh(old).json["refresh_token"]
    for _ in range(3):
        token = harness.refresh(token).json["refresh_token"]
    harness.clock.now += DAY
    harness.server.prune()
    assert harness.refresh(old).error == (400, "invalid_grant")
    assert len(harness.named("refresh_token_reused")) == 1
    assert harness.refresh(token).error == (400, "invalid_grant")


def test_a_clock_that_is_set_back_a_little_does_not_turn_a_repeated_refresh_into_reuse(
    harness: Harness,
) -> None:
    first = harness.tokens()["refresh_token"]
    second = harness.refresh(first).json["refresh_token"]
    harness.clock.now -= 5
    assert harness.refresh(first).json["refresh_token"] == second
    harness.clock.now -= 5
    assert harness.refresh(first).error == (400, "invalid_grant")


def test_a_revoked_grant_is_removed_with_all_its_rows(make: Make) -> None:
    harness = make(resources=[Resource(ISSUER, tokens="opaque")])
    stands = harness.tokens()
    ended = [harness.tokens() for _ in range(3)]
    sessions = [harness.introspect(tokens["access_token"])["sid"] for tokens in ended]
    for tokens in ended:
        assert harness.server.revoke(tokens["refresh_token"])
    assert harness.server.prune() == 9
    assert [count(harness, each) for each in ("grants", "access_tokens", "refresh_tokens")] == [
        1
    ] * 3
    for tokens, session in zip(ended, sessions, strict=True):
        assert not harness.is_active(tokens["access_token"])
        assert harness.refresh(tokens["refresh_token"]).error == (400, "invalid_grant")
        assert not harness.server.revoke_grant(session)
    assert harness.is_active(stands["access_token"])
    assert harness.refresh(stands["refresh_token"]).status == 200


def test_a_revoked_grant_of_jwts_is_removed_and_its_tokens_are_refused(harness: Harness) -> None:
    stands, ended = harness.tokens(), harness.tokens()
    assert harness.server.revoke(ended["refresh_token"])
    assert harness.server.prune() == 2
    assert [count(harness, each) for each in ("grants", "access_tokens", "refresh_tokens")] == [
        *(1, 0, 1)
    ]
    assert not harness.is_active(ended["access_token"])
    assert harness.refresh(ended["refresh_token"]).error == (400, "invalid_grant")
    assert not harness.server.revoke_grant(claims(ended["access_token"])["sid"])
    assert harness.is_active(stands["access_token"])


def test_what_an_earlier_version_left_of_a_grant_is_removed_when_it_has_expired(
    harness: Harness,
) -> None:
    harness.tokens()
    for table in ("refresh_tokens", "access_tokens"):
        harness.store.run(f"DELETE FROM {table}")
    harness.server.prune()
    assert count(harness, "grants") == 1
    harness.clock.now += 180 * DAY
    harness.server.prune()
    assert count(harness, "grants") == 0


def test_one_slice_is_bounded_by_its_rows(make: Make) -> None:
    harness = make(resources=[Resource(ISSUER, tokens="opaque")])
    for _ in range(12):
        harness.server.revoke(harness.tokens()["refresh_token"])
    revoked = pruning.KINDS["revoked grants"]
    removed = []
    while count(harness, "grants"):
        with harness.server.database.write() as connection:
            found = revoked(connection, harness.clock.now, 10.0, 5)
            assert found is not None
            removed.append(found.remove(connection))
    assert sum(removed) == 36
    assert max(removed) <= 10


def test_only_one_process_prunes_at_a_time_and_one_that_is_gone_does_not_keep_it(
    harness: Harness,
) -> None:
    now = harness.clock.now

    def takes(at: float) -> bool:
        with harness.server.database.write() as connection:
            return pruning.take_task(connection, at, 30.0)

    assert [takes(now), takes(now + 29), takes(now + 30)] == [True, False, True]
    assert takes(now - 3600), "the clock was set back"


def test_a_sign_in_removes_a_few_rows_however_many_have_expired(harness: Harness) -> None:
    harness.store.run(
        "INSERT INTO login_attempts (digest, whole_at) VALUES (:digest, 1)",
        [{"digest": str(number)} for number in range(50)],
    )
    harness.server._engine.people.throttle.charge("ada", "192.0.2.1")
    assert count(harness, "login_attempts", "whole_at = 1") == 45
    harness.server.prune()
    assert count(harness, "login_attempts", "whole_at = 1") == 0


def test_a_request_never_waits_for_the_pruning_that_it_begins(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    upkeep = harness.server._engine.upkeep
    going_on, look = threading.Event(), upkeep._next_slice

    def slow(kind: Callable[..., Any], most: int) -> Any:
        assert going_on.wait(60)
        return look(kind, most)

    monkeypatch.setattr(upkeep, "_next_slice", slow)
    harness.clock.now += 61
    assert harness.token(grant_type="client_credentials").status == 200
    harness.clock.now += 61
    assert harness.token(grant_type="client_credentials").status == 200
    going_on.set()
    upkeep.wait()


@pytest.mark.parametrize("tokens", ["jwt", "opaque"])
def test_a_revoked_token_is_not_valid_again_where_a_clock_is_behind(
    make: Make, tokens: Any
) -> None:
    """The machine that pruned has a clock that is ahead."""
    harness = make(resources=[Resource(ISSUER, tokens=tokens)])
    token = harness.token(grant_type="client_credentials").json["access_token"]
    assert harness.is_active(token)
    harness.server.revoke(token)
    harness.clock.now += 3600
    harness.server.prune()
    harness.clock.now -= 30
    assert not harness.is_active(token)
    harness.clock.now += 30 + 600
    harness.server.prune()
    assert harness.store.count("access_tokens") == 0


def test_a_server_that_is_closed_prunes_no_further(harness: Harness) -> None:
    for _ in range(5):
        harness.tokens()
    harness.clock.now += 40 * DAY
    upkeep = harness.server._engine.upkeep
    upkeep.run_if_due()
    harness.server.close()
    assert not upkeep._thread or not upkeep._thread.is_alive()
    assert harness.server.prune() >= 0


def test_no_thread_to_be_had_harms_no_request(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import threading

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    harness.clock.now += 61
    monkeypatch.setattr(threading.Thread, "start", none)
    assert harness.token(grant_type="client_credentials").status == 200
    assert "can't start new thread" in caplog.text
    monkeypatch.undo()
    harness.clock.now += 61
    harness.server._engine.upkeep.run_if_due()
    harness.server._engine.upkeep.wait()


def test_ending_all_that_a_user_allowed_takes_as_many_statements_for_many_grants_as_for_one(
    harness: Harness,
) -> None:
    def statements(grants: int) -> int:
        tokens = [harness.tokens() for _ in range(grants)]
        with recorded() as sent:
            assert harness.server.revoke_user(user_id="ada") == grants
        assert not any(harness.is_active(each["access_token"]) for each in tokens)
        return len(sent)

    assert statements(12) == statements(1)


# Durations, when the clock is set


def test_upkeep_is_due_after_a_minute_though_the_clock_was_set_back(harness: Harness) -> None:
    engine, clock, counter = harness.server._engine, harness.clock, Clock()
    upkeep = Upkeep(
        engine.database,
        engine.keys,
        engine.settings,
        clock,
        counter,
        audit=Audit(None, clock),
    )
    clock.now -= 3600
    upkeep.run_if_due()
    assert upkeep._thread is None
    counter.now += 61
    upkeep.run_if_due()
    assert upkeep._thread is not None
    upkeep.wait()


def test_a_client_that_failed_too_often_is_let_in_again_though_the_clock_was_set_back() -> None:
    clock = Clock()
    failures = Failures(elapsed_by(clock))
    assert [failures.count("x") for _ in range(21)][-1] > 0
    clock.now -= 3600
    clock.now += 61
    assert failures.count("x") == 0


def test_sign_ins_are_not_refused_for_an_hour_because_the_clock_was_set_back(
    harness: Harness,
) -> None:
    throttle = harness.server._engine.people.throttle
    while not throttle.charge("ada", "192.0.2.1").wait:
        pass
    harness.clock.now -= 10 * 3600
    assert throttle.charge("ada", "192.0.2.1").wait == 0
    wait = throttle.charge("ada", "192.0.2.1").wait
    assert 0 < wait <= 300
    waited = 0
    while wait := throttle.charge("ada", "192.0.2.1").wait:
        harness.clock.now += wait
        waited += wait
    assert waited <= 300
