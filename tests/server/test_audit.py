"""The audit log: what happened and with whom, and never a secret."""

from __future__ import annotations

import json
import logging

import pytest

from bearerguard.server import SecurityEvent
from tests.server.leaks import found
from tests.server.stage import Make, Stage


def test_every_step_of_a_users_grant_is_an_event(stage: Stage) -> None:
    tokens = stage.tokens()
    stage.refresh(tokens["refresh_token"])
    stage.server.revoke(tokens["refresh_token"])
    names = [event.name for event in stage.events]
    assert names == [
        "key_made",
        "client_added",
        "client_added",
        "code_issued",
        "token_issued",
        "token_issued",
        "grant_revoked",
    ]
    issued = stage.named("token_issued")[0]
    assert issued.at == stage.clock()
    assert issued.details["client_id"] == stage.app.client_id
    assert issued.details["user_id"] == "ada"


def test_an_event_is_one_line_of_json_whatever_a_request_names(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "bearerguard.server"):
        stage.token(client_id="evil\nname " + "x" * 500, grant_type="client_credentials")
    (record,) = caplog.records
    name, _, details = record.getMessage().partition(" ")
    assert name == "client_authentication_failed"
    assert "\n" not in details
    assert len(json.loads(details)["client_id"]) <= 100
    assert record.levelno == logging.WARNING
    assert isinstance(vars(record)["security_event"], SecurityEvent)


def test_a_callback_that_fails_harms_no_request(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: SecurityEvent) -> None:
        raise RuntimeError(event.name)

    stage = make(on_event=fail)
    assert stage.token(grant_type="client_credentials").status == 200
    assert "on_event= raised" in caplog.text


def test_no_secret_stands_in_the_database_the_log_or_an_event(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    code = stage.code()
    tokens = stage.redeem(code).json
    refreshed = stage.refresh(tokens["refresh_token"]).json
    stage.redeem(code)
    stage.refresh(tokens["refresh_token"])
    own = stage.token(grant_type="client_credentials").json["access_token"]
    rotated = stage.server.clients.rotate_secret(stage.app.client_id)
    stage.token(client_secret=rotated + "x", grant_type="client_credentials")
    stage.introspect(own)
    secrets = [
        code,
        tokens["access_token"],
        tokens["refresh_token"],
        refreshed["access_token"],
        refreshed["refresh_token"],
        own,
        rotated,
        stage.app.client_secret or "",
    ]
    printed = caplog.text + repr(stage.events) + repr([each.details for each in stage.events])
    assert "token_issued" in printed
    assert found(stage.folder, printed, secrets) == []


def refusals(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """The details of the lines about refused requests."""
    return [
        json.loads(line.partition(" ")[2])
        for line in caplog.messages
        if line.startswith(("request_refused ", "client_authentication_failed "))
    ]


def test_D28_a_stranger_fills_no_disk_with_refusals(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Twenty lines of a kind, then one a minute; each says how many were left out before it."""
    stage.events.clear()
    for number in range(300):
        stage.token(client_id=f"made-up-{number}", grant_type="client_credentials")
        stage.authorize(client_id=f"made-up-{number}")
    lines = refusals(caplog)
    assert len(lines) == 40
    assert not any("lines_left_out" in line for line in lines)
    assert len(stage.events) == 600, "the callback gets every one"
    caplog.clear()
    stage.authorize(response_type="token")
    assert [line["reason"] for line in refusals(caplog)] == ["unsupported_response_type"]
    stage.clock.now += 60
    caplog.clear()
    stage.authorize(client_id="another")
    (line,) = refusals(caplog)
    assert (line["client_id"], line["lines_left_out"]) == ("another", 280)


def test_D28_what_was_left_out_is_told_though_no_more_of_it_comes(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bearerguard.server")
    for number in range(50):
        stage.authorize(client_id=f"made-up-{number}")
    caplog.clear()
    stage.clock.now += 61
    stage.token(grant_type="client_credentials")
    assert caplog.messages[1:] == ['lines_left_out {"lines_left_out": 30}']
    caplog.clear()
    stage.token(grant_type="client_credentials")
    stage.clock.now += 61
    stage.token(grant_type="client_credentials")
    assert all(line.startswith("token_issued") for line in caplog.messages)
