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
from bearerguard.protocol.client_authentication import (
    ASSERTION_TYPE,
    BASIC,
    NONE,
    POST,
    PRIVATE_KEY_JWT,
    Presented,
)
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
    found = client_authentication.parse(fields(proof))
    assert (found.client_ids[0], found.method, found.proofs[0]) == (client_id, BASIC, secret)
    assert "proofs" not in repr(found)
    again = client_authentication.parse(fields(proof), client_id=client_id)
    assert again.client_ids == (client_id,)


def test_what_a_client_sends_by_post_or_assertion_is_parsed_as_it_was_built() -> None:
    post = client_authentication.client_secret_post("api", "s3cret")
    assert client_authentication.parse([], **dict(post.parameters)) == Presented(
        ("api",), POST, ("s3cret",)
    )
    key = signing.private_key(CLIENT_KEYS["ES256"].decode())
    signed = client_authentication.private_key_jwt(
        "api", key, audience="https://issuer.test", now=NOW, assertion_id="one"
    )
    found = client_authentication.parse([b""], **dict(signed.parameters))
    assert (found.client_ids, found.method) == (("api",), PRIVATE_KEY_JWT)
    assert client_authentication.parse([], client_id="app") == Presented(("app",), NONE)


def test_basic_credentials_that_were_not_encoded_are_tried_as_they_are() -> None:
    field = b"basic  " + base64.b64encode(b"api:a+b%20c")
    assert client_authentication.parse([field]).proofs == ("a b c", "a+b%20c")


@pytest.mark.parametrize(
    ("authorization", "parameters", "reason"),
    [
        ([], {}, "no_client_named"),
        ([b"Basic YTpi", b"Basic YTpi"], {}, "repeated_authorization"),
        ([b"Bearer abc"], {}, "unsupported_authentication_scheme"),
        ([b"s3cret"], {}, "unsupported_authentication_scheme"),
        ([b"Basic ???"], {}, "malformed_basic_credentials"),
        ([b"Basic YQ=="], {}, "malformed_basic_credentials"),
        ([b"Basic OmI="], {}, "malformed_basic_credentials"),
        ([b"Basic YTr/"], {}, "malformed_basic_credentials"),
        ([b"Basic YTpi"], {"client_secret": "s"}, "two_authentication_methods"),
        ([], {"client_secret": "s", "client_assertion": "a"}, "two_authentication_methods"),
        ([b"Basic YTpi"], {"client_id": "c"}, "two_clients"),
        ([], {"client_assertion": "a"}, "unknown_assertion_type"),
        (
            [],
            {"client_id": "c", "client_assertion": "a", "client_assertion_type": ASSERTION_TYPE},
            "two_clients",
        ),
    ],
)
def test_a_request_that_does_not_say_who_its_client_is_is_refused(
    authorization: list[bytes], parameters: dict[str, str], reason: str
) -> None:
    with pytest.raises(client_authentication.MalformedAuthentication) as error:
        client_authentication.parse(authorization, **parameters)
    assert error.value.reason == reason
    assert error.value.error in {"invalid_request", "invalid_client"}
    assert "s3cret" not in str(error.value.evidence)


@given(st.lists(st.binary(max_size=40), max_size=2), *[st.none() | st.text(max_size=20)] * 4)
def test_no_request_makes_the_parser_fail(
    authorization: list[bytes],
    client_id: str | None,
    secret: str | None,
    assertion: str | None,
    kind: str | None,
) -> None:
    try:
        found = client_authentication.parse(
            authorization,
            client_id=client_id,
            client_secret=secret,
            client_assertion=assertion,
            client_assertion_type=kind,
        )
    except client_authentication.MalformedAuthentication:
        return
    assert found.client_ids
    assert found.proofs


@pytest.mark.parametrize("claims", [b"[]", b"{}", b'{"sub":7}'])
def test_an_assertion_without_a_subject_names_nobody(claims: bytes) -> None:
    key = SigningKey.generate("ES256", None)
    assertion = key.sign_octets(b'{"alg":"ES256"}', claims)
    found = client_authentication.parse(
        [], client_assertion=assertion, client_assertion_type=ASSERTION_TYPE
    )
    assert found.client_ids == ("",)
