"""Client authentication as others read it (RFC 6749 §2.3.1, RFC 7523)."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol import client_authentication
from bearerguard.protocol.jose import signing
from bearerguard.testing import SigningKey
from tests.conformance.introspection_table import CLIENT_KEYS, pem

NOW = 1_800_000_000
CREDENTIALS = st.text(st.characters(codec="utf-8"), min_size=1)


@given(CREDENTIALS, CREDENTIALS)
def test_basic_credentials_are_form_encoded_before_they_are_joined(
    client_id: str, secret: str
) -> None:
    ((name, value),) = client_authentication.client_secret_basic(client_id, secret).headers
    scheme, encoded = value.split(" ")
    assert (name, scheme) == ("authorization", "Basic")
    user, colon, password = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
    assert colon
    assert (unquote_plus(user), unquote_plus(password)) == (client_id, secret)


def test_the_example_of_the_rfc() -> None:
    # RFC 6749 §2.3.1.
    proof = client_authentication.client_secret_basic("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")
    encoded = "czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"
    assert proof.headers == (("authorization", f"Basic {encoded}"),)


def test_no_proof_shows_its_secret() -> None:
    for proof in (
        client_authentication.client_secret_basic("api", "s3cret"),
        client_authentication.client_secret_post("api", "s3cret"),
        client_authentication.bearer("s3cret"),
    ):
        assert repr(proof) == "Proof()"


@pytest.mark.parametrize("algorithm", CLIENT_KEYS)
def test_another_library_believes_the_assertion(algorithm: str) -> None:
    key = signing.private_key(CLIENT_KEYS[algorithm].decode(), kid="k1")
    assert key.algorithm == algorithm
    proof = client_authentication.private_key_jwt(
        "api", key, audience="https://issuer.test", now=NOW + 0.7, assertion_id="one"
    )
    parameters = dict(proof.parameters)
    assert parameters["client_assertion_type"].endswith(":jwt-bearer")
    assertion = parameters["client_assertion"]
    assert jwt.get_unverified_header(assertion) == {"alg": algorithm, "kid": "k1"}
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key.private.public_key(),
        algorithms=[algorithm],
        audience="https://issuer.test",
        options={"verify_exp": False, "verify_iat": False},
    )
    assert claims == {
        "iss": "api",
        "sub": "api",
        "aud": "https://issuer.test",
        "jti": "one",
        "iat": NOW,
        "exp": NOW + 60,
    }


@pytest.mark.parametrize("algorithm", ["RS256", "PS512", "ES384", "EdDSA"])
def test_a_private_jwk_signs_by_the_algorithm_and_name_it_has(algorithm: str) -> None:
    made = SigningKey.generate(algorithm, "k2")
    reader = {"R": "RSAAlgorithm", "P": "RSAAlgorithm", "E": "ECAlgorithm"}
    name = "OKPAlgorithm" if algorithm == "EdDSA" else reader[algorithm[0]]
    members = getattr(jwt.algorithms, name).to_jwk(made.private, as_dict=True)
    key = signing.private_key({**members, "alg": algorithm, "kid": "k2"})
    assert (key.algorithm, key.kid) == (algorithm, "k2")
    token = key.sign({"typ": "x"}, {"a": 1})
    assert jwt.decode(token, made.private.public_key(), algorithms=[algorithm]) == {"a": 1}
    assert "PrivateKey(algorithm=" in repr(key)
    assert str(members["d"]) not in repr(key)


def test_one_of_several_algorithms_that_fit_is_chosen() -> None:
    assert signing.private_key(CLIENT_KEYS["RS256"], algorithm="PS256").algorithm == "PS256"


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (pem(ec.generate_private_key(ec.SECP256K1())), "no supported algorithm"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "no PEM private key"),
        ({"kty": "RSA", "n": "AQAB"}, "not a valid JWK"),
        ({"kty": ["RSA"]}, "kty"),
        (None, "neither PEM nor a JWK"),
    ],
)
def test_an_unusable_key_is_refused_with_the_reason(given: Any, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        signing.private_key(given)
