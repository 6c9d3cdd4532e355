"""JSON Web Keys: which are accepted, and why others are refused."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearerguard.protocol.jose import base64url, jwk

# RFC 8037 appendix A.2 and A.4: an Ed25519 key and a signature by it.
RFC8037_KEY = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
RFC8037_TOKEN = (
    b"eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
    b"hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
)
# RFC 7515 appendix A.3: a P-256 key and a signature by it.
RFC7515_KEY = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}
RFC7515_TOKEN = (
    b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFt"
    b"cGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
    b"DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"
)


@pytest.mark.parametrize(
    ("key", "algorithm", "token"),
    [(RFC8037_KEY, "EdDSA", RFC8037_TOKEN), (RFC7515_KEY, "ES256", RFC7515_TOKEN)],
)
def test_the_signatures_of_the_rfcs_verify(
    key: dict[str, str], algorithm: str, token: bytes
) -> None:
    signing_input, _, signature = token.rpartition(b".")
    octets = base64url.decode(signature)
    parsed = jwk.parse_jwk(key)
    assert parsed.verifies(algorithm, signing_input, octets)
    assert not parsed.verifies(algorithm, signing_input + b"x", octets)
    assert not parsed.verifies("RS256", signing_input, octets)


def pem(key: Any) -> bytes:
    octets: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return octets


RSA = rsa.generate_private_key(65537, 2048)


@pytest.mark.parametrize(
    ("key", "fits"),
    [
        (RSA, ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")),
        (ec.generate_private_key(ec.SECP384R1()), ("ES384",)),
        (ed25519.Ed25519PrivateKey.generate(), ("EdDSA", "Ed25519")),
    ],
)
def test_a_pem_key_knows_the_algorithms_it_fits(key: Any, fits: tuple[str, ...]) -> None:
    assert jwk.parse_pem(pem(key)).algorithms == fits
    assert jwk.parse_pem(pem(key).decode()).octets == jwk.parse_pem(pem(key)).octets


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("no PEM", "not a PEM"),
        (pem(dsa.generate_private_key(2048)), "cannot sign a JWT"),
        (pem(ed448.Ed448PrivateKey.generate()), "cannot sign a JWT"),
        (pem(ec.generate_private_key(ec.SECP256K1())), "no supported algorithm"),
        (pem(rsa.generate_private_key(65537, 1024)), "fewer than 2048 bits"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "not a PEM"),
    ],
)
def test_an_unusable_pem_says_why(text: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        jwk.parse_pem(text)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kid": 1}, "kid is no string"),
        ({"use": "enc"}, "use is not sig"),
        ({"key_ops": ["sign"]}, "key_ops"),
        ({"key_ops": "verify"}, "key_ops"),
        ({"kty": "oct"}, "not supported"),
        ({"kty": ["EC"]}, "not supported"),
        ({"crv": "secp256k1"}, "not supported"),
        ({"x": None}, "x is missing"),
        ({"x": "AA=="}, "canonical|Incorrect|Invalid|padding|Only|Excess|base64"),
        ({"x": "AAAA"}, "not a valid key"),
        ({"y": RFC7515_KEY["x"]}, "not on the curve"),
        ({"alg": "ES384"}, "no supported algorithm"),
        ({"alg": "RS256"}, "no supported algorithm"),
        ({"alg": 7}, "no supported algorithm"),
    ],
)
def test_an_unusable_jwk_says_why(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        jwk.parse_jwk({**RFC7515_KEY, **change})


def test_a_jwk_is_an_object() -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        jwk.parse_jwk("x")


def test_either_name_of_ed25519_fits_the_other() -> None:
    for name in ("EdDSA", "Ed25519"):
        key = jwk.parse_jwk({**RFC8037_KEY, "alg": name})
        assert key.algorithms == ("EdDSA", "Ed25519")


def test_verify_among_the_key_operations_is_enough() -> None:
    assert jwk.parse_jwk({**RFC7515_KEY, "key_ops": ["verify", "sign"], "use": "sig"}).kid is None


def test_the_repr_of_a_key_has_no_key() -> None:
    assert "0123456789" not in repr(jwk.from_secret(b"0123456789" * 4))


def test_candidates_are_eight_at_most_and_named_ones_first() -> None:
    named = jwk.parse_jwk({**RFC7515_KEY, "kid": "a"})
    unnamed = jwk.parse_jwk(RFC7515_KEY)
    keys = jwk.KeySet((unnamed, named, jwk.parse_jwk({**RFC7515_KEY, "kid": "b"})))
    assert keys.candidates("ES256", "a") == [named, unnamed]
    assert keys.candidates("ES256", "z") == [unnamed]
    assert len(keys.candidates("ES256", None)) == 3
    assert keys.candidates("RS256", None) == []
    assert len(jwk.KeySet((unnamed,) * 20).candidates("ES256", None)) == 8


def test_problems_are_counted_and_the_good_keys_kept() -> None:
    keys, problems = jwk.parse_jwks({"keys": [RFC7515_KEY, {"kty": "oct"}, 3]})
    assert len(keys.keys) == 1
    assert [problem[:5] for problem in problems] == ["key 1", "key 2"]
    with pytest.raises(ValueError, match="no usable key"):
        jwk.parse_jwks({"keys": [{"kty": "oct"}]})
    with pytest.raises(ValueError, match="not a JWK Set"):
        jwk.parse_jwks([RFC7515_KEY])
