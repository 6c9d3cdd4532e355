"""Clients that prove themselves by a signed assertion (CONFORMANCE TK-04, RFC 7523)."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from bearerguard.server import Registered
from bearerguard.testing import SigningKey, sign
from tests.server.harness import ISSUER, Harness, Make, Reply

TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
KEY = SigningKey.generate("ES256", "client-key")
OTHER = SigningKey.generate("ES256", "client-key")


@pytest.fixture
def robot(harness: Harness) -> Registered:
    return harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])


def assertion(
    harness: Harness,
    robot: Registered,
    key: SigningKey = KEY,
    head: dict[str, Any] | None = None,
    **claims: Any,
) -> str:
    usual: dict[str, Any] = {
        "iss": robot.client_id,
        "sub": robot.client_id,
        "aud": ISSUER,
        "exp": int(harness.clock()) + 300,
        "jti": uuid.uuid4().hex,
    }
    content = {name: value for name, value in (usual | claims).items() if value is not None}
    return sign({"alg": key.algorithm, "kid": key.kid, **(head or {})}, content, key)


def ask(harness: Harness, text: str, **fields: Any) -> Reply:
    usual = {
        "grant_type": "client_credentials",
        "client_assertion_type": TYPE,
        "client_assertion": text,
    }
    return harness.post("/oauth/token", usual | fields)


def test_TK_04_a_signed_assertion_proves_its_client(harness: Harness, robot: Registered) -> None:
    response = ask(harness, assertion(harness, robot))
    assert response.status == 200
    assert ask(harness, assertion(harness, robot, aud=[ISSUER])).status == 200
    assert ask(harness, assertion(harness, robot), client_id=robot.client_id).status == 200
    typed = assertion(harness, robot, head={"typ": "client-authentication+jwt"})
    assert ask(harness, typed).status == 200


@pytest.mark.parametrize("algorithm", ["EdDSA", "Ed25519", "ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
def test_TK_04_an_assertion_may_be_signed_by_each_algorithm_of_the_metadata(
    harness: Harness, algorithm: str
) -> None:
    key = SigningKey.generate(algorithm, "client-key")
    robot = harness.add("Modern", jwks={"keys": [key.jwk()]}, redirect_uris=[])
    assert ask(harness, assertion(harness, robot, key)).status == 200
    assert ask(harness, assertion(harness, robot, OTHER)).status == 401
    content = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert algorithm in content["token_endpoint_auth_signing_alg_values_supported"]


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
    harness: Harness, robot: Registered, claims: dict[str, Any]
) -> None:
    assert ask(harness, assertion(harness, robot, **claims)).error == (401, "invalid_client")


def test_TK_04_an_assertion_serves_once(harness: Harness, robot: Registered) -> None:
    text = assertion(harness, robot)
    assert ask(harness, text).status == 200
    assert ask(harness, text).error == (401, "invalid_client")


@pytest.mark.parametrize("head", [{"crit": ["exp"]}, {"kid": 7}, {"alg": "none"}])
def test_TK_04_an_assertion_with_an_unsafe_header_is_invalid_client(
    harness: Harness, robot: Registered, head: dict[str, Any]
) -> None:
    assert ask(harness, assertion(harness, robot, head=head)).error == (401, "invalid_client")


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 50, "é.é.é"])
def test_TK_04_what_is_no_assertion_is_refused(harness: Harness, text: str) -> None:
    assert ask(harness, text).status in {400, 401}


def test_TK_04_a_signature_of_another_key_or_a_shared_secret_proves_nothing(
    harness: Harness, robot: Registered
) -> None:
    assert ask(harness, assertion(harness, robot, OTHER)).status == 401
    secret = SigningKey.shared("HS256", b"a secret that has at least 32 bytes")
    assert ask(harness, assertion(harness, robot, secret)).status == 401
    stolen = harness.token(grant_type="client_credentials").json["access_token"]
    assert ask(harness, stolen).status == 401


def test_TK_04_the_type_must_be_named_and_the_method_registered(
    harness: Harness, robot: Registered
) -> None:
    text = assertion(harness, robot)
    assert ask(harness, text, client_assertion_type="other").error == (400, "invalid_request")
    assert ask(harness, text, client_assertion_type=None).error == (400, "invalid_request")
    assert ask(harness, text, client_secret="x").error == (400, "invalid_request")
    response = harness.token(robot, grant_type="client_credentials", client_secret="guess")
    assert response.error == (401, "invalid_client")
    mismatched = assertion(harness, harness.app)
    assert ask(harness, mismatched).error == (401, "invalid_client")


def test_TK_04_endpoint_addresses_are_an_audience_only_where_that_is_allowed(make: Make) -> None:
    harness = make(accept_endpoint_audiences=True)
    robot = harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])
    assert ask(harness, assertion(harness, robot, aud=ISSUER + "/oauth/token")).status == 200
    assert ask(harness, assertion(harness, robot, aud=ISSUER + "/oauth/other")).status == 401


@pytest.mark.parametrize(
    ("audience", "good"),
    [
        (ISSUER, True),
        ([ISSUER], True),
        (ISSUER + "/oauth/token", True),
        (ISSUER + "/oauth/introspect", True),
        (ISSUER + ":443/oauth/token", True),
        ("https://API.example.com/oauth/token", True),
        (ISSUER + "/", True),
        ([ISSUER, ISSUER + "/oauth/token"], True),
        ([ISSUER, "https://other.example.com"], False),
        ([ISSUER + "/oauth/token", 7], False),
        ([], False),
        (7, False),
        (None, False),
        (ISSUER + "/oauth/authorize", False),
        ("https://other.example.com/oauth/token", False),
    ],
)
def test_TK_04_where_endpoints_are_accepted_all_that_is_named_must_be_this_server(
    make: Make, audience: Any, good: bool
) -> None:
    harness = make(accept_endpoint_audiences=True)
    robot = harness.add("Robot", jwks={"keys": [KEY.jwk()]}, redirect_uris=[])
    response = ask(harness, assertion(harness, robot, aud=audience))
    assert response.status == (200 if good else 401)


@pytest.mark.parametrize(
    "audience", [ISSUER + "/", ISSUER + "/oauth/token", [ISSUER, ISSUER + "/oauth/token"]]
)
def test_TK_04_the_audience_is_the_issuer_alone_and_the_log_names_another(
    harness: Harness, robot: Registered, audience: Any
) -> None:
    assert ask(harness, assertion(harness, robot, aud=audience)).error == (401, "invalid_client")
    details = harness.named("client_authentication_failed")[-1].details
    assert details["reason"] == "wrong_assertion_audience"
    assert details["aud"] == (audience if isinstance(audience, str) else repr(audience))


@pytest.mark.parametrize(
    ("claims", "head", "reason"),
    [
        ({"exp": 1_600_000_000}, {}, "assertion_expired"),
        ({"exp": 1_800_000_000}, {}, "assertion_lives_too_long"),
        ({"exp": None}, {}, "assertion_missing_claim"),
        ({"nbf": 1_800_000_000}, {}, "assertion_not_yet_valid"),
        ({"jti": "x" * 300}, {}, "malformed_assertion_id"),
        ({"iss": "another"}, {}, "assertion_of_another_client"),
        ({}, {"kid": "unknown"}, "assertion_unknown_key"),
        ({}, {"alg": "none"}, "assertion_wrong_algorithm"),
        ({}, {"crit": ["x"]}, "assertion_critical_header"),
        ({}, {"kid": 7}, None),
    ],
)
def test_TK_04_the_log_says_what_an_assertion_lacks(
    harness: Harness,
    robot: Registered,
    claims: dict[str, Any],
    head: dict[str, Any],
    reason: str | None,
) -> None:
    text = assertion(harness, robot, head=head, **claims)
    assert ask(harness, text).error == (401, "invalid_client")
    details = harness.named("client_authentication_failed")[-1].details
    assert details["client_id"] == robot.client_id
    assert reason in {None, details["reason"]}
    assert text not in repr(dict(details))


def test_an_assertion_serves_once_on_machines_whose_clocks_differ(
    harness: Harness, robot: Registered
) -> None:
    text = assertion(harness, robot)
    assert ask(harness, text).status == 200
    harness.clock.now += 500
    harness.server.prune()
    harness.clock.now -= 500  # another machine's
    assert ask(harness, text).error == (401, "invalid_client")
