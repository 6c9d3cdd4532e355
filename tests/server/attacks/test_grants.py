"""Codes and refresh tokens in the wrong hands, twice, at once, or for more than was granted."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearerguard.protocol import pkce
from tests.server.stage import CALLBACK, VERIFIER, Make, Stage, claims

A, B = "https://a.example.com", "https://b.example.com"
OTHER_VERIFIER = "v" * 43


def test_a_code_redeemed_at_once_for_different_resources_serves_one_and_ends_its_grant(
    make: Make,
) -> None:
    stage = make(resources=[A, B])
    code = stage.code(resource=[A, B])
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda n: stage.redeem(code, resource=(A, B)[n % 2]), range(16)))
    won = [answer for answer in answers if answer.status == 200]
    assert len(won) == 1
    assert {answer.error for answer in answers if answer not in won} == {(400, "invalid_grant")}
    assert not stage.is_active(won[0].json["access_token"])
    assert stage.refresh(won[0].json["refresh_token"]).error == (400, "invalid_grant")
    assert len(stage.named("code_replayed")) == 1


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
    stage: Stage, change: dict[str, Any]
) -> None:
    code = stage.code()
    assert stage.redeem(code, **change).error == (400, "invalid_grant")
    assert stage.redeem(code).status == 200


def test_a_code_injected_into_another_client_is_refused_and_stays_its_owners(stage: Stage) -> None:
    code, thief = stage.code(), stage.add("Thief")
    assert stage.redeem(code, thief).error == (400, "invalid_grant")
    assert stage.redeem(code, stage.phone, client_secret=None).error == (400, "invalid_grant")
    assert stage.redeem(code).status == 200


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
    stage: Stage, change: dict[str, Any], *, public: bool
) -> None:
    answer = stage.authorize(stage.phone if public else stage.app, **change)
    assert answer.sent["error"] == "invalid_request"
    assert "code" not in answer.sent


def test_a_client_that_may_do_without_pkce_is_held_to_the_challenge_that_it_sent(
    stage: Stage,
) -> None:
    old = stage.add("Old", require_pkce=False)
    assert stage.redeem(stage.code(old), old, code_verifier=None).error == (400, "invalid_grant")
    bare = {"code_challenge": None, "code_challenge_method": None}
    # Whoever strips the challenge on the way is found out by the verifier (RFC 9700 §2.1.1).
    assert stage.redeem(stage.code(old, **bare), old).error == (400, "invalid_request")
    downgraded = stage.authorize(old, code_challenge_method="plain", code_challenge=VERIFIER)
    assert downgraded.sent["error"] == "invalid_request"


def test_a_refresh_never_widens_scope_or_resource(make: Make) -> None:
    stage = make(resources=[A, B])
    tokens = stage.tokens(scope="read", resource=A)
    token = tokens["refresh_token"]
    assert stage.refresh(token, scope="read write").error == (400, "invalid_scope")
    assert stage.refresh(token, resource=B).error == (400, "invalid_target")
    refreshed = stage.refresh(token).json
    assert refreshed["scope"] == "read"
    assert claims(refreshed["access_token"])["aud"] == A


def test_a_refresh_token_is_of_no_use_to_another_client(stage: Stage) -> None:
    thief, token = stage.add("Thief"), stage.tokens()["refresh_token"]
    assert stage.refresh(token, thief).error == (400, "invalid_grant")
    assert stage.refresh(token, stage.phone, client_secret=None).error == (400, "invalid_grant")
    unproved = stage.refresh(token, client_secret=None)
    assert unproved.error == (401, "invalid_client")
    assert stage.refresh(token).status == 200, "and its owner lost nothing"


def test_tokens_and_codes_are_not_taken_for_each_other(stage: Stage) -> None:
    code = stage.code()
    tokens = stage.tokens()
    access, refresh = tokens["access_token"], tokens["refresh_token"]
    for wrong in (code, access):
        assert stage.refresh(wrong).error == (400, "invalid_grant")
    for wrong in (access, refresh):
        assert stage.redeem(wrong).error == (400, "invalid_grant")
    for wrong in (code, refresh):
        assert stage.introspect(wrong) == {"active": False}


def test_a_client_is_never_taken_for_a_user(stage: Stage) -> None:
    own = claims(stage.token(grant_type="client_credentials").json["access_token"])
    assert own["sub"] == own["client_id"] == stage.app.client_id
    assert "sid" not in own
    assert "auth_time" not in own
    forged = stage.token(grant_type="client_credentials", sub="ada", user_id="ada", username="ada")
    assert claims(forged.json["access_token"])["sub"] == stage.app.client_id
