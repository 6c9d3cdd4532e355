"""Client authentication as others read it (RFC 6749 §2.3.1, RFC 7523)."""

from __future__ import annotations

import base64
from contextlib import suppress
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
def test_another_library_accepts_the_assertion(algorithm: str) -> None:
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


SENDABLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


def fields(proof: client_authentication.Proof) -> list[bytes]:
    return [value.encode("ascii") for _, value in proof.headers]


@given(SENDABLE, SENDABLE)
def test_what_a_client_sends_by_basic_is_parsed_as_it_was_built(
    client_id: str, secret: str
) -> None:
    proof = client_authentication.client_secret_basic(client_id, secret)
    found = client_authentication.parse_basic(fields(proof))
    assert found is not None
    assert (found[0][0], found[1][0]) == (client_id, secret)


def test_basic_credentials_that_were_not_encoded_are_tried_as_they_are() -> None:
    field = b"basic  " + base64.b64encode(b"api:a+b%20c")
    assert client_authentication.parse_basic([field]) == (("api",), ("a b c", "a+b%20c"))


@pytest.mark.parametrize("fields_given", [[], [b""]])
def test_a_request_without_the_field_has_no_basic_credentials(fields_given: list[bytes]) -> None:
    assert client_authentication.parse_basic(fields_given) is None


@pytest.mark.parametrize(
    ("authorization", "reason"),
    [
        ([b"Basic YTpi", b"Basic YTpi"], "repeated_authorization"),
        ([b"Bearer abc"], "unsupported_authentication_scheme"),
        ([b"s3cret"], "unsupported_authentication_scheme"),
        ([b"Basic ???"], "malformed_basic_credentials"),
        ([b"Basic YQ=="], "malformed_basic_credentials"),
        ([b"Basic OmI="], "malformed_basic_credentials"),
        ([b"Basic YTr/"], "malformed_basic_credentials"),
    ],
)
def test_malformed_credentials_are_refused(authorization: list[bytes], reason: str) -> None:
    with pytest.raises(client_authentication.MalformedAuthentication) as error:
        client_authentication.parse_basic(authorization)
    assert error.value.reason == reason
    assert error.value.error in {"invalid_request", "invalid_client"}
    assert "s3cret" not in str(error.value.evidence)


@given(st.lists(st.binary(max_size=40), max_size=2))
def test_no_field_makes_the_parser_fail(authorization: list[bytes]) -> None:
    with suppress(client_authentication.MalformedAuthentication):
        found = client_authentication.parse_basic(authorization)
        assert found is None or all(found)
