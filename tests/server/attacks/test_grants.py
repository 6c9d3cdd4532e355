"""Codes and refresh tokens in the wrong hands, twice, at once, or for more than was granted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearerguard.protocol import pkce
from tests.server.harness import CALLBACK, VERIFIER, Harness, Make, claims

A, B = "https://a.example.com", "https://b.example.com"
OTHER_VERIFIER = "v" * 43


def test_a_code_redeemed_at_once_for_different_resources_serves_one_and_ends_its_grant(
    make: Make,
) -> None:
    harness = make(resources=[A, B])
    code = harness.code(resource=[A, B])
    with ThreadPoolExecutor(8) as pool:
        responses = list(
            pool.map(lambda n: harness.redeem(code, resource=(A, B)[n % 2]), range(16))
        )
    won = [response for response in responses if response.status == 200]
    assert len(won) == 1
    assert {response.error for response in responses if response not in won} == {
        (400, "invalid_grant")
    }
    assert not harness.is_active(won[0].json["access_token"])
    assert harness.refresh(won[0].json["refresh_token"]).error == (400, "invalid_grant")
    assert len(harness.named("code_replayed")) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": CALLBACK + "/"},
        {"redirect_uri": CALLBACK + "?"},
        {"redirect_uri": CALLBACK.upper()},
        {"code_verifier": OTHER_VERIFIER},
        {"code_verifier": None},
        {"code_verifier": pkce.challenge(VERIFIER)},
    ],
)
def test_a_stolen_code_with_a_proof_that_does_not_fit_spoils_nothing_for_its_owner(
    harness: Harness, change: dict[str, Any]
) -> None:
    code = harness.code()
    assert harness.redeem(code, **change).error == (400, "invalid_grant")
    assert harness.redeem(code).status == 200


def test_a_code_injected_into_another_client_is_refused_and_stays_its_owners(
    harness: Harness,
) -> None:
    code, thief = harness.code(), harness.add("Thief")
    assert harness.redeem(code, thief).error == (400, "invalid_grant")
    assert harness.redeem(code, harness.phone, client_secret=None).error == (400, "invalid_grant")
    assert harness.redeem(code).status == 200


@pytest.mark.parametrize(
    "change",
    [
        {"code_challenge": None, "code_challenge_method": None},
        {"code_challenge": None},
        {"code_challenge_method": "plain"},
        {"code_challenge_method": None},
        {"code_challenge_method": "s256"},
        {"code_challenge": "short"},
        {"code_challenge": VERIFIER + "="},
    ],
)
@pytest.mark.parametrize("public", [True, False])
def test_pkce_is_neither_stripped_nor_downgraded(
    harness: Harness, change: dict[str, Any], *, public: bool
) -> None:
    response = harness.authorize(harness.phone if public else harness.app, **change)
    assert response.sent["error"] == "invalid_request"
    assert "code" not in response.sent


def test_a_client_that_may_do_without_pkce_is_held_to_the_challenge_that_it_sent(
    harness: Harness,
) -> None:
    old = harness.add("Old", require_pkce=False)
    assert harness.redeem(harness.code(old), old, code_verifier=None).error == (
        400,
        "invalid_grant",
    )
    bare = {"code_challenge": None, "code_challenge_method": None}
    # Whoever strips the challenge on the way is found out by the verifier (RFC 9700 §2.1.1).
    assert harness.redeem(harness.code(old, **bare), old).error == (400, "invalid_request")
    downgraded = harness.authorize(old, code_challenge_method="plain", code_challenge=VERIFIER)
    assert downgraded.sent["error"] == "invalid_request"


def test_a_refresh_never_widens_scope_or_resource(make: Make) -> None:
    harness = make(resources=[A, B])
    tokens = harness.tokens(scope="read", resource=A)
    token = tokens["refresh_token"]
    assert harness.refresh(token, scope="read write").error == (400, "invalid_scope")
    assert harness.refresh(token, resource=B).error == (400, "invalid_target")
    refreshed = harness.refresh(token).json
    assert refreshed["scope"] == "read"
    assert claims(refreshed["access_token"])["aud"] == A


def test_a_refresh_token_is_of_no_use_to_another_client(harness: Harness) -> None:
    thief, token = harness.add("Thief"), harness.tokens()["refresh_token"]
    assert harness.refresh(token, thief).error == (400, "invalid_grant")
    assert harness.refresh(token, harness.phone, client_secret=None).error == (400, "invalid_grant")
    unproved = harness.refresh(token, client_secret=None)
    assert unproved.error == (401, "invalid_client")
    assert harness.refresh(token).status == 200, "and its owner lost nothing"


def test_tokens_and_codes_are_not_taken_for_each_other(harness: Harness) -> None:
    code = harness.code()
    tokens = harness.tokens()
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    for wrong in (code, access):
        assert harness.refresh(wrong).error == (400, "invalid_grant")
    for wrong in (access, refresh):
        assert harness.redeem(wrong).error == (400, "invalid_grant")
    for wrong in (code, refresh):
        assert harness.introspect(wrong) == {"active": False}


def test_a_client_is_never_taken_for_a_user(harness: Harness) -> None:
    own = claims(harness.token(grant_type="client_credentials").json["access_token"])
    assert own["sub"] == own["client_id"] == harness.app.client_id
    assert "sid" not in own
    assert "auth_time" not in own
    forged = harness.token(
        grant_type="client_credentials", sub="ada", user_id="ada", username="ada"
    )
    assert claims(forged.json["access_token"])["sub"] == harness.app.client_id
