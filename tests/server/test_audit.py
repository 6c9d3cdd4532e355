"""The audit log: what happened, to whom, and never a secret."""

from __future__ import annotations

import json
import logging

import pytest

from bearerguard import Event
from tests.server.harness import ISSUER, Harness, Make
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
