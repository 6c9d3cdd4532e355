"""The audit log: what happened, to whom, and never a secret."""

from __future__ import annotations

import json
import logging

import pytest

from bearerguard import Event, Guard, Request, TokenError
from bearerguard.runtime.reporting import vocabulary
from tests.server.harness import ISSUER, SECRET, Harness, Make, claims
from tests.server.leaks import found


def test_every_step_of_a_users_grant_is_an_event(harness: Harness) -> None:
    tokens = harness.tokens()
    harness.refresh(tokens["refresh_token"])
    harness.server.revoke(tokens["refresh_token"])
    names = [event.code for event in harness.events]
    assert names == [
        "key_made",
        "client_added",
        "client_added",
        "code_issued",
        "token_issued",
        "token_issued",
        "grant_revoked",
    ]
    issued = harness.named("token_issued")[0]
    assert (issued.at, issued.issuer) == (harness.clock(), ISSUER)
    assert json.loads(issued.detail) == dict(issued.details)
    assert issued.details["client_id"] == harness.app.client_id
    assert issued.details["user_id"] == "ada"


def test_an_event_is_one_line_of_json_whatever_a_request_names(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bearerguard.server"):
        harness.token(client_id="evil\nname " + "x" * 500, grant_type="client_credentials")
    (record,) = caplog.records
    name, _, details = record.getMessage().partition(" ")
    assert name == "client_authentication_failed"
    assert "\n" not in details
    assert len(json.loads(details)["client_id"]) <= 100
    assert record.levelno == logging.WARNING
    assert isinstance(vars(record)["event"], Event)


def test_a_callback_that_fails_harms_no_request(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: Event) -> None:
        raise RuntimeError(event.code)

    harness = make(on_event=fail)
    assert harness.token(grant_type="client_credentials").status == 200
    assert "on_event= raised" in caplog.text


def test_no_secret_stands_in_the_database_the_log_or_an_event(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code = harness.code()
    tokens = harness.redeem(code).json
    refreshed = harness.refresh(tokens["refresh_token"]).json
    harness.redeem(code)
    harness.refresh(tokens["refresh_token"])
    own = harness.token(grant_type="client_credentials").json["access_token"]
    rotated = harness.server.clients.rotate_secret(harness.app.client_id)
    harness.token(client_secret=rotated + "x", grant_type="client_credentials")
    harness.introspect(own)
    secrets = [
        code,
        tokens["access_token"],
        tokens["refresh_token"],
        refreshed["access_token"],
        refreshed["refresh_token"],
        own,
        rotated,
        harness.app.client_secret or "",
    ]
    printed = caplog.text + repr(harness.events) + repr([each.details for each in harness.events])
    assert "token_issued" in printed
    assert found(harness.store, printed, secrets) == []


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The details of the lines about refused requests."""
    return [
        json.loads(line.partition(" ")[2])
        for line in caplog.messages
        if line.startswith(("request_refused ", "client_authentication_failed "))
    ]


def test_D28_a_stranger_fills_no_disk_with_refusals(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty lines of a kind, then one a minute; each says how many were left out before it."""
    harness.events.clear()
    for number in range(300):
        harness.token(client_id=f"made-up-{number}", grant_type="client_credentials")
        harness.authorize(client_id=f"made-up-{number}")
    lines = refusals(caplog)
    assert len(lines) == 40
    assert not any("lines_left_out" in line for line in lines)
    assert len(harness.events) == 600, "the callback gets every one"
    caplog.clear()
    harness.authorize(response_type="token")
    assert [line["reason"] for line in refusals(caplog)] == ["unsupported_response_type"]
    harness.clock.now += 60
    caplog.clear()
    harness.authorize(client_id="another")
    (line,) = refusals(caplog)
    assert (line["client_id"], line["lines_left_out"]) == ("another", 280)


def test_D28_omitted_lines_are_counted_even_if_no_more_follow(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bearerguard.server")
    for number in range(50):
        harness.authorize(client_id=f"made-up-{number}")
    caplog.clear()
    harness.clock.now += 61
    harness.token(grant_type="client_credentials")
    assert caplog.messages[1:] == ['lines_left_out {"lines_left_out": 30}']
    caplog.clear()
    harness.token(grant_type="client_credentials")
    harness.clock.now += 61
    harness.token(grant_type="client_credentials")
    assert all(line.startswith("token_issued") for line in caplog.messages)


def details(harness: Harness, code: str) -> list[dict[str, object]]:
    return [dict(event.details) for event in harness.named(code)]


def test_what_happens_to_an_account_is_an_event_without_its_names(harness: Harness) -> None:
    users = harness.server.users
    user_id = users.add("ada", "correct horse battery", name="Ada Lovelace").user_id
    harness.server._engine.people._sessions.begin(Request(), user_id)
    users.set_password("ada", "another good one")
    users.disable("ada")
    users.enable("ada")
    known = {"user_id": user_id, "by": "app"}
    for code in ("user_added", "password_changed", "user_disabled", "user_enabled"):
        assert details(harness, code) == [known]
    ended = {**known, "sessions": 1, "reason": "password_changed"}
    assert details(harness, "sessions_ended") == [ended]
    assert details(harness, "user_revoked") == [{**known, "grants": 0, "reason": "user_disabled"}]
    assert "Ada" not in repr([event.details for event in harness.events])
    assert "'ada'" not in repr([event.details for event in harness.events])


def test_consent_that_is_given_refused_or_forgotten_is_an_event(harness: Harness) -> None:
    page = harness.add("Page", public=True)
    known = {"client_id": page.client_id, "user_id": "ada"}
    harness.consent(harness.authorize(page, scope="read"), remember="yes")
    harness.consent(harness.authorize(page), decision="deny")
    given = {**known, "scope": "read", "remembered": True}
    assert details(harness, "consent_given") == [given]
    (refused,) = details(harness, "consent_refused")
    assert known.items() <= refused.items()
    assert not harness.named("request_refused")
    harness.server.revoke_user(user_id="ada")
    forgotten = {"user_id": "ada", "consents": 1, "by": "app"}
    assert details(harness, "consents_forgotten") == [forgotten]


def test_a_revoked_grant_says_whose_it_was_and_who_revoked_it_why(harness: Harness) -> None:
    known = {"client_id": harness.app.client_id, "user_id": "ada"}
    asked, replayed, reused = harness.tokens(), harness.code(), harness.tokens()
    harness.post("/oauth/revoke", harness.credentials() | {"token": asked["refresh_token"]})
    harness.redeem(replayed)
    harness.redeem(replayed)
    harness.server._engine.revocations.grant(
        claims(reused["access_token"])["sid"], reason="revoked"
    )
    reasons = [
        (each["reason"], each.get("by"))
        for each in details(harness, "grant_revoked")
        if known.items() <= each.items()
    ]
    assert reasons == [("revoked", None), ("code_replayed", None), ("revoked", "app")]
    (replay,) = details(harness, "code_replayed")
    assert known.items() <= replay.items()


def test_a_key_that_leaves_the_jwks_is_an_event_of_the_upkeep(harness: Harness) -> None:
    first = harness.server.keys.all()[0].kid
    harness.clock.now += 1
    harness.server.keys.rotate(immediately=True)
    harness.clock.now += 86_400
    harness.token(grant_type="client_credentials")
    harness.server._engine.upkeep.wait()
    assert details(harness, "key_retired") == [{"kid": first, "by": "upkeep"}]


def test_a_secret_of_a_client_that_the_servers_new_secret_keys_is_an_event(
    harness: Harness,
) -> None:
    new = "another secret of the server that is long enough"
    harness.server = harness.another(secret=[new, SECRET], on_event=harness.events.append)
    for _ in range(2):
        assert harness.token(grant_type="client_credentials").status == 200
    assert details(harness, "client_secret_renewed") == [{"client_id": harness.app.client_id}]


def test_one_callback_serves_the_server_and_the_guard_and_gets_each_event_once(
    harness: Harness,
) -> None:
    events: list[Event] = []
    harness.server = harness.another(people=harness.people, on_event=events.append)
    issuer = harness.server.issuer(audience=ISSUER)
    with Guard(issuer, on_event=events.append, clock=harness.clock) as guard:
        tokens = harness.tokens()
        assert guard.verify(tokens["access_token"]).subject == "ada"
        harness.server.revoke(tokens["refresh_token"])
        with pytest.raises(TokenError):
            guard.verify(tokens["access_token"])
        harness.server.clients.remove(harness.phone.client_id)
        harness.server.keys.rotate()
    assert [event.code for event in events] == [
        "code_issued",
        "token_issued",
        "keys_fetched",
        "grant_revoked",
        "revoked",
        "client_removed",
        "key_made",
    ]
    assert {event.issuer for event in events} == {ISSUER}


def test_the_codes_of_both_roles_are_known_with_one_level_each() -> None:
    assert not vocabulary.INFO & vocabulary.WARNING
