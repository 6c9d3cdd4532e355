"""Introspection responses that are signed by the key in use (CONFORMANCE INT-06, RFC 9701)."""

from __future__ import annotations

from typing import Any

import pytest

from bearerguard.protocol.jose import jwk, jwt
from bearerguard.server import Registration, SigningKeys
from tests.server.harness import ISSUER, Harness, Make, Reply, claims, header

SIGNED = "application/token-introspection+jwt"


def ask(harness: Harness, token: str, accept: str = SIGNED) -> Reply:
    fields = harness.credentials() | {"token": token}
    return harness.post("/oauth/introspect", fields, accept=accept)


def checked(harness: Harness, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims of a response, whose key must be a published one."""
    response = ask(harness, token)
    assert response.header("content-type") == SIGNED
    text = response.response.body
    found = header(text.decode())
    keys, _ = jwk.parse_jwks(harness.send("GET", "/oauth/jwks").json)
    parsed = jwt.parse(text)
    (key,) = [each for each in keys.keys if each.kid == found["kid"]]
    assert key.verifies(found["alg"], parsed.signing_input, parsed.signature)
    return found, claims(text.decode())


def test_INT_06_the_key_that_signs_tokens_signs_after_each_rotation(harness: Harness) -> None:
    keys = harness.server.keys
    token = harness.token(grant_type="client_credentials").json["access_token"]
    first = checked(harness, token)[0]["kid"]
    assert first == header(token)["kid"]
    waiting = keys.rotate()
    assert checked(harness, token)[0]["kid"] == first, "caches may lack the new key"
    harness.clock.now += 600
    assert checked(harness, token)[0]["kid"] == waiting
    third = keys.rotate(immediately=True)
    assert checked(harness, token)[0]["kid"] == third
    fourth = keys.withdraw(third)
    found, content = checked(harness, token)
    assert found["kid"] == fourth
    assert content["token_introspection"]["active"] is True


def test_INT_06_the_key_of_another_process_signs_at_once(harness: Harness) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    other = harness.another()
    kid = other.keys.rotate(immediately=True)
    other.close()
    assert checked(harness, token)[0]["kid"] == kid


@pytest.mark.parametrize("algorithm", ["RS256", "EdDSA"])
def test_INT_06_a_new_algorithm_signs_with_its_first_key_and_metadata_lists_it(
    harness: Harness, algorithm: Any
) -> None:
    token = harness.token(grant_type="client_credentials").json["access_token"]
    harness.server.close()
    harness.server = harness.another(
        people=harness.people, signing=SigningKeys(algorithm=algorithm)
    )
    assert checked(harness, token)[0]["alg"] == "ES256"
    harness.server.keys.rotate(immediately=True)
    assert checked(harness, token)[0]["alg"] == algorithm
    listed = harness.send("GET", "/.well-known/oauth-authorization-server").json
    assert algorithm in listed["introspection_signing_alg_values_supported"]
    assert "none" not in listed["introspection_signing_alg_values_supported"]


def test_INT_06_what_is_inactive_is_signed_too_and_says_no_more(harness: Harness) -> None:
    _, content = checked(harness, "unknown")
    assert content == {
        "iss": ISSUER,
        "aud": harness.app.client_id,
        "iat": int(harness.clock()),
        "token_introspection": {"active": False},
    }


@pytest.mark.parametrize(
    ("accept", "signed"),
    [
        (SIGNED, True),
        (SIGNED.upper(), True),
        (f"application/json, {SIGNED};q=0.5", True),
        (f"{SIGNED}; q=1.0", True),
        (f"{SIGNED};q=0", False),
        (f"application/json, {SIGNED}; q=0.000", False),
        ("application/json", False),
        ("*/*", False),
        ("", False),
    ],
)
def test_INT_06_a_response_is_signed_for_who_accepts_it(
    harness: Harness, accept: str, signed: bool
) -> None:
    response = ask(harness, "unknown", accept)
    assert response.header("content-type") == (SIGNED if signed else "application/json")


def test_INT_06_no_client_registers_for_responses_without_a_signature(make: Make) -> None:
    harness = make(registration=Registration())
    content = (
        b'{"redirect_uris":["https://app.example.com/cb"],"introspection_signed_response_alg":'
    )
    json = {"content_type": "application/json"}
    refused = harness.send("POST", "/oauth/register", content + b'"none"}', **json)
    assert refused.error == (400, "invalid_client_metadata")
    assert "introspection_signed_response_alg" in refused.json["error_description"]
    other = harness.send("POST", "/oauth/register", content + b'"PS512"}', **json)
    assert other.status == 201
    assert "introspection_signed_response_alg" not in other.json, "the key in use signs"
    token = harness.token(grant_type="client_credentials").json["access_token"]
    fields = {name: other.json[name] for name in ("client_id", "client_secret")}
    response = harness.post("/oauth/introspect", {**fields, "token": token}, accept=SIGNED)
    assert header(response.response.body.decode())["alg"] == "ES256"
