"""Clients that prove themselves by a signed assertion (CONFORMANCE TK-04, RFC 7523)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from bearerguard.server import Registered
from bearerguard.testing import SigningKey, sign
from tests.server.stage import ISSUER, Answer, Make, Stage

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = SigningKey.generate("ES256", "client-key")
OTHER = SigningKey.generate("ES256", "client-key")


@pytest.fixture
def robot(stage: Stage) -> Registered:
    return stage.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])


def assertion(
    stage: Stage,
    robot: Registered,
    key: SigningKey = KEY,
    head: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    usual: dict[str, Any] = {
        "iss": robot.client_id,
        "sub": robot.client_id,
        "aud": ISSUER,
        "exp": int(stage.clock()) + 300,
        "jti": uuid.uuid4().hex,
    }
    content = {name: value for name, value in (usual | claims).items() if value is not None}
    return sign({"alg": key.algorithm, "kid": key.kid, **(head or {})}, content, key)


def ask(stage: Stage, text: str, **fields: Any) -> Answer:
    usual = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": text,
    }
    return stage.post("/oauth/token", usual | fields)


def test_TK_04_a_signed_assertion_proves_its_client(stage: Stage, robot: Registered) -> None:
    answer = ask(stage, assertion(stage, robot))
    assert answer.status == 200
    assert ask(stage, assertion(stage, robot, aud=[ISSUER])).status == 200
    assert ask(stage, assertion(stage, robot), client_id=robot.client_id).status == 200
    typed = assertion(stage, robot, head={"typ": "client-authentication+jwt"})
    assert ask(stage, typed).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"iss": "another"},
        {"iss": None},
        {"sub": "another"},
        {"sub": None},
        {"sub": 7},
        {"aud": "https://other.example.com"},
        {"aud": ISSUER + "/"},
        {"aud": ISSUER + "/oauth/token"},
        {"aud": [ISSUER, "https://other.example.com"]},
        {"aud": []},
        {"aud": None},
        {"exp": None},
        {"exp": 1},
        {"exp": "soon"},
        {"exp": 2**40},
        {"jti": None},
        {"jti": 7},
        {"jti": ""},
        {"jti": "x" * 300},
        {"nbf": 2**33},
    ],
)
def test_TK_04_an_assertion_that_lacks_something_is_invalid_client(
    stage: Stage, robot: Registered, claims: dict[str, Any]
) -> None:
    assert ask(stage, assertion(stage, robot, **claims)).error == (401, "invalid_client")


def test_TK_04_an_assertion_serves_once(stage: Stage, robot: Registered) -> None:
    text = assertion(stage, robot)
    assert ask(stage, text).status == 200
    assert ask(stage, text).error == (401, "invalid_client")


@pytest.mark.parametrize("head", [{"crit": ["exp"]}, {"kid": 7}, {"alg": "none"}])
def test_TK_04_a_header_that_nobody_may_trust_is_invalid_client(
    stage: Stage, robot: Registered, head: dict[str, Any]
) -> None:
    assert ask(stage, assertion(stage, robot, head=head)).error == (401, "invalid_client")


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 50, "é.é.é"])
def test_TK_04_what_is_no_assertion_is_refused(stage: Stage, text: str) -> None:
    assert ask(stage, text).status in {400, 401}


def test_TK_04_a_signature_of_another_key_or_a_shared_secret_proves_nothing(
    stage: Stage, robot: Registered
) -> None:
    assert ask(stage, assertion(stage, robot, OTHER)).status == 401
    secret = SigningKey.shared("HS256", b"a secret that has at least 32 bytes")
    assert ask(stage, assertion(stage, robot, secret)).status == 401
    stolen = stage.token(grant_type="client_credentials").json["access_token"]
    assert ask(stage, stolen).status == 401


def test_TK_04_the_type_must_be_named_and_the_method_registered(
    stage: Stage, robot: Registered
) -> None:
    text = assertion(stage, robot)
    assert ask(stage, text, client_assertion_type="other").error == (400, "invalid_request")
    assert ask(stage, text, client_assertion_type=None).error == (400, "invalid_request")
    assert ask(stage, text, client_secret="x").error == (400, "invalid_request")
    answer = stage.token(robot, grant_type="client_credentials", client_secret="guess")
    assert answer.error == (401, "invalid_client")
    mismatched = assertion(stage, stage.app)
    assert ask(stage, mismatched).error == (401, "invalid_client")


def test_TK_04_endpoint_addresses_are_an_audience_only_where_that_is_allowed(make: Make) -> None:
    stage = make(accept_endpoint_audiences=True)
    robot = stage.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])
    assert ask(stage, assertion(stage, robot, aud=ISSUER + "/oauth/token")).status == 200
    assert ask(stage, assertion(stage, robot, aud=ISSUER + "/oauth/other")).status == 401
