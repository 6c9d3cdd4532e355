"""Scopes that nobody knows are left out, and named where nothing remains (AZ-09, TK-08)."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest

from tests.server.harness import Harness, Make, Reply

# RFC 6749 §5.2: error-description.
DESCRIPTION = re.compile(r"[\x20-\x21\x23-\x5B\x5D-\x7E]+")
NARROWED = [
    "read offline_access",
    "openid read",
    "openid profile email offline_access read",
    "read admin",
    "read read  offline_access",
]


def own(harness: Harness, scope: str) -> Reply:
    return harness.token(grant_type="client_credentials", scope=scope)


@pytest.mark.parametrize("scope", NARROWED)
def test_AZ_09_an_unknown_scope_beside_a_known_one_is_left_out_and_the_response_says_so(
    harness: Harness, scope: str
) -> None:
    tokens = harness.tokens(scope=scope)
    assert tokens["scope"] == "read"
    assert own(harness, scope).json["scope"] == "read"


@pytest.mark.parametrize("scope", NARROWED)
def test_AZ_09_people_are_asked_for_what_remains_alone(harness: Harness, scope: str) -> None:
    page = harness.authorize(harness.phone, scope=scope)
    assert page.status == 200
    shown = page.response.body.decode()
    assert "Read your recordings" in shown
    assert "admin" not in shown
    assert "offline_access" not in shown.replace("%20offline_access", "")
    code = harness.consent(page).sent["code"]
    assert harness.redeem(code, harness.phone).json["scope"] == "read"


@pytest.mark.parametrize(
    ("scope", "named"),
    [
        ("admin", "admin"),
        ("admin delete", "admin delete"),
        ("openid", "openid"),
        ("offline_access admin", "offline_access admin"),
        ('read "', "%22"),
        ("read caf\xe9\r\nx", "caf%C3%A9%0D%0Ax"),
        ("read a\\b", "a%5Cb"),
        ("x" * 500, "x" * 57 + "..."),
        (" ".join(f"s{n}" for n in range(40)), "s0 s1 s2 s3 s4 and 35 more"),
    ],
)
def test_AZ_09_a_scope_that_is_refused_is_named_in_safe_characters(
    harness: Harness, caplog: pytest.LogCaptureFixture, scope: str, named: str
) -> None:
    sent = harness.authorize(scope=scope).sent
    assert sent["error"] == "invalid_scope"
    assert sent["error_description"].endswith(": " + named)
    assert DESCRIPTION.fullmatch(sent["error_description"])
    caplog.clear()
    response = own(harness, scope)
    assert response.error == (400, "invalid_scope")
    assert response.json["error_description"] == sent["error_description"]
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    details = json.loads(record.getMessage().partition(" ")[2])
    assert details["scope"] == named
    assert details["client_id"] == harness.app.client_id


def test_AZ_09_strictness_refuses_the_whole_request(make: Make) -> None:
    harness = make(unknown_scopes="refuse")
    sent = harness.authorize(scope="read openid admin").sent
    assert (sent["error"], "admin" in sent["error_description"]) == ("invalid_scope", True)
    assert "openid" not in sent["error_description"]
    assert own(harness, "read admin").error == (400, "invalid_scope")
    tokens = harness.tokens(scope="openid read offline_access")
    assert tokens["scope"] == "read"
    refreshed = harness.refresh(tokens["refresh_token"], scope="openid read offline_access").json
    assert refreshed["scope"] == "read"
    refused = harness.refresh(refreshed["refresh_token"], scope="read admin")
    assert refused.error == (400, "invalid_scope")


def test_AZ_09_a_scope_of_that_name_is_an_ordinary_one_where_it_is_registered(make: Make) -> None:
    harness = make(
        scopes={"read": "Read", "write": "Write", "offline_access": "While you are away"}
    )
    client = harness.add("Own", scopes=["read", "offline_access"])
    assert harness.tokens(client, scope="read offline_access")["scope"] == "read offline_access"
    assert harness.tokens(client, scope="offline_access")["scope"] == "offline_access"


@pytest.mark.parametrize("scope", ["offline_access", "openid offline_access"])
def test_AZ_09_who_asks_for_a_refresh_token_alone_gets_no_scope_of_the_api(
    harness: Harness, scope: str
) -> None:
    tokens = harness.tokens(scope=scope)
    assert (tokens["scope"], "refresh_token" in tokens) == ("", True)
    assert harness.refresh(tokens["refresh_token"], scope="read").error == (400, "invalid_scope")


def test_AZ_09_a_client_without_scopes_may_ask_for_what_is_no_apis(harness: Harness) -> None:
    client = harness.add("Plain", scopes=[])
    assert harness.tokens(client, scope="openid offline_access")["scope"] == ""
    assert harness.authorize(client, scope="read openid").sent["error"] == "invalid_scope"


def test_AZ_09_a_scope_that_the_server_has_no_longer_is_unknown(harness: Harness) -> None:
    harness.events.clear()
    harness.server = harness.another(
        scopes={"read": "Read"}, people=harness.people, on_event=harness.events.append
    )
    assert own(harness, "read write").json["scope"] == "read"
    assert own(harness, "write").error == (400, "invalid_scope")
    assert harness.token(grant_type="client_credentials").json["scope"] == "read"
    assert [each.details["ignored_scope"] for each in harness.named("token_issued")] == [
        "write"
    ] * 2


@pytest.mark.parametrize(
    ("scope", "got"),
    [
        ("read offline_access openid", "read"),
        ("read profile", "read"),
        ("read write", None),
        ("write", None),
        ("profile", None),
        ("openid", None),
        ("offline_access", ""),
    ],
)
def test_TK_08_a_refresh_ignores_unknown_scopes_and_refuses_those_not_granted(
    harness: Harness, scope: str, got: str | None
) -> None:
    token = harness.tokens(scope="read")["refresh_token"]
    response = harness.refresh(token, scope=scope)
    if got is None:
        assert response.error == (400, "invalid_scope")
        assert response.json["error_description"].split()[-1] in scope.split()
    else:
        assert response.json["scope"] == got


def test_scopes_left_out_are_in_the_audit_log(harness: Harness) -> None:
    tokens = harness.tokens(scope="read offline_access admin")
    (issued,) = harness.named("code_issued")
    assert issued.details["ignored_scope"] == "offline_access admin"
    harness.refresh(tokens["refresh_token"], scope="read openid")
    assert harness.named("token_issued")[-1].details["ignored_scope"] == "openid"


def test_very_many_scopes_are_one_short_line(harness: Harness) -> None:
    scope = "read " + " ".join(f"s{n}" for n in range(9000))
    assert own(harness, scope).json["scope"] == "read"
    (issued,) = harness.named("token_issued")
    assert issued.details["ignored_scope"] == "s0 s1 s2 s3 s4 and 8995 more"


def test_scopes_of_strangers_stay_nowhere_in_memory(harness: Harness) -> None:
    from bearerguard.protocol import scope

    before = scope.parse.cache_info().currsize if hasattr(scope.parse, "cache_info") else 0
    for number in range(20):
        own(harness, f"stranger{number}")
    after: Any = scope.parse.cache_info().currsize if hasattr(scope.parse, "cache_info") else 0
    assert after == before
