"""Who is not the client that it says it is, learns nothing and gets nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearerguard.server import Registered
from bearerguard.testing import SigningKey
from tests.server.stage import ISSUER, Make, Stage
from tests.server.test_assertions import KEY, OTHER, ask, assertion

A, B = "https://a.example.com", "https://b.example.com"


@pytest.fixture
def robot(stage: Stage) -> Registered:
    return stage.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])


def test_one_assertion_sent_many_times_at_once_serves_once(stage: Stage, robot: Registered) -> None:
    text = assertion(stage, robot)
    with ThreadPoolExecutor(8) as pool:
        statuses = [answer.status for answer in pool.map(lambda _: ask(stage, text), range(16))]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}


def test_an_assertion_used_at_one_endpoint_is_used_at_all(stage: Stage, robot: Registered) -> None:
    text = assertion(stage, robot)
    fields = {
        "token": "x",
        "client_assertion": text,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert stage.post("/oauth/introspect", fields).status == 200
    assert ask(stage, text).error == (401, "invalid_client")


def test_the_public_key_is_no_shared_secret(stage: Stage, robot: Registered) -> None:
    public = json.dumps(KEY.jwk()).encode()
    forged = assertion(stage, robot, SigningKey.shared("HS256", public))
    assert ask(stage, forged).error == (401, "invalid_client")


def test_another_clients_key_proves_only_that_client(stage: Stage, robot: Registered) -> None:
    rival = stage.add("Rival", jwks={"keys": [OTHER.jwk()]}, redirect_uris=[])
    tried: list[dict[str, Any]] = [{}, {"iss": rival.client_id}, {"sub": rival.client_id}]
    for claims in tried:
        forged = assertion(stage, robot, OTHER, **claims)
        assert ask(stage, forged).error == (401, "invalid_client")
    named = ask(stage, assertion(stage, rival, OTHER), client_id=robot.client_id)
    assert named.error == (400, "invalid_request")
    assert ask(stage, assertion(stage, rival, OTHER)).status == 200


def test_a_key_sent_along_with_the_assertion_is_not_believed(
    stage: Stage, robot: Registered
) -> None:
    for head in ({"jwk": OTHER.jwk()}, {"jku": f"{ISSUER}/keys"}, {"kid": "../client-key"}):
        forged = assertion(stage, robot, OTHER, head=dict(head))
        assert ask(stage, forged).error == (401, "invalid_client")


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
def test_an_unknown_client_and_a_wrong_secret_get_the_same_answer(stage: Stage, path: str) -> None:
    def answer(client_id: str) -> tuple[object, ...]:
        fields = {"client_id": client_id, "client_secret": "guess", "token": "x"}
        response = stage.post(f"/oauth/{path}", fields).response
        return response.status, response.headers, response.body

    assert answer("nobody") == answer(stage.app.client_id)


def test_public_and_foreign_clients_neither_see_nor_end_a_token(make: Make) -> None:
    stage = make(resources=[A, B])
    tokens = stage.tokens(resource=A)
    api = stage.add("The other API", redirect_uris=[], serves=[B])
    public = {"client_id": stage.phone.client_id}
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert stage.introspect(token, api) == {"active": False}
        named = stage.post("/oauth/introspect", {**public, "token": token})
        assert named.error == (401, "invalid_client")
        for sender in (public, stage.credentials(api)):
            answer = stage.post("/oauth/revoke", {**sender, "token": token})
            assert answer.error == (400, "unauthorized_client")
    assert stage.is_active(tokens["access_token"])
    assert stage.refresh(tokens["refresh_token"]).status == 200
