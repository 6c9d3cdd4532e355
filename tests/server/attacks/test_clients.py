"""Who is not the client that it says it is, learns nothing and gets nothing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from bearerguard.server import Registered
from bearerguard.testing import SigningKey
from tests.server.harness import ISSUER, Harness, Make
from tests.server.test_assertions import KEY, OTHER, ask, assertion

A, B = "https://a.example.com", "https://b.example.com"


@pytest.fixture
def robot(harness: Harness) -> Registered:
    return harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])


def test_one_assertion_sent_many_times_at_once_serves_once(
    harness: Harness, robot: Registered
) -> None:
    text = assertion(harness, robot)
    with ThreadPoolExecutor(8) as pool:
        statuses = [
            response.status for response in pool.map(lambda _: ask(harness, text), range(16))
        ]
    assert statuses.count(200) == 1
    assert set(statuses) <= {200, 401, 429}


def test_an_assertion_used_at_one_endpoint_is_used_at_all(
    harness: Harness, robot: Registered
) -> None:
    text = assertion(harness, robot)
    fields = {
        "token": "x",
        "client_assertion": text,
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    }
    assert harness.post("/oauth/introspect", fields).status == 200
    assert ask(harness, text).error == (401, "invalid_client")


def test_the_public_key_is_no_shared_secret(harness: Harness, robot: Registered) -> None:
    public = json.dumps(KEY.jwk()).encode()
    forged = assertion(harness, robot, SigningKey.shared("HS256", public))
    assert ask(harness, forged).error == (401, "invalid_client")


def test_another_clients_key_proves_only_that_client(harness: Harness, robot: Registered) -> None:
    rival = harness.add("Rival", jwks={"keys": [OTHER.jwk()]}, redirect_uris=[])
    tried: list[dict[str, Any]] = [{}, {"iss": rival.client_id}, {"sub": rival.client_id}]
    for claims in tried:
        forged = assertion(harness, robot, OTHER, **claims)
        assert ask(harness, forged).error == (401, "invalid_client")
    named = ask(harness, assertion(harness, rival, OTHER), client_id=robot.client_id)
    assert named.error == (400, "invalid_request")
    assert ask(harness, assertion(harness, rival, OTHER)).status == 200


def test_a_key_sent_along_with_the_assertion_is_ignored(
    harness: Harness, robot: Registered
) -> None:
    for head in ({"jwk": OTHER.jwk()}, {"jku": f"{ISSUER}/keys"}, {"kid": "../client-key"}):
        forged = assertion(harness, robot, OTHER, head=dict(head))
        assert ask(harness, forged).error == (401, "invalid_client")


@pytest.mark.parametrize("path", ["token", "revoke", "introspect"])
def test_an_unknown_client_and_a_wrong_secret_get_the_same_response(
    harness: Harness, path: str
) -> None:
    def response_to(client_id: str) -> tuple[object, ...]:
        fields = {"client_id": client_id, "client_secret": "guess", "token": "x"}
        response = harness.post(f"/oauth/{path}", fields).response
        return response.status, response.headers, response.body

    assert response_to("nobody") == response_to(harness.app.client_id)


def test_public_and_foreign_clients_neither_see_nor_end_a_token(make: Make) -> None:
    harness = make(resources=[A, B])
    tokens = harness.tokens(resource=A)
    api = harness.add("The other API", redirect_uris=[], introspects=[B])
    public = {"client_id": harness.phone.client_id}
    for token in (tokens["access_token"], tokens["refresh_token"]):
        assert harness.introspect(token, api) == {"active": False}
        named = harness.post("/oauth/introspect", {**public, "token": token})
        assert named.error == (401, "invalid_client")
        for sender in (public, harness.credentials(api)):
            response = harness.post("/oauth/revoke", {**sender, "token": token})
            assert response.error == (400, "unauthorized_client")
    assert harness.is_active(tokens["access_token"])
    assert harness.refresh(tokens["refresh_token"]).status == 200
