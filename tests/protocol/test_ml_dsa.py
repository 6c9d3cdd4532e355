"""ML-DSA keys (RFC 9964): parsed, published, signing, and refused where cryptography lacks them."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from bearerguard.protocol.jose import base64url, jwk, ml_dsa, signing, thumbprint

# The examples of RFC 9964: the thumbprints of the keys whose seeds are zeros.
THUMBPRINTS = {
    "ML-DSA-44": "T4xl70S7MT6Zeq6r9V9fPJGVn76wfnXJ21-gyo0Gu6o",
    "ML-DSA-65": "Suiu29qbfuaBaR4Ats-c6XQBePB_OpAxAwcTR_0KXVM",
}
SIGNATURE_BYTES = {"ML-DSA-44": 2420, "ML-DSA-65": 3309, "ML-DSA-87": 4627}  # FIPS 204, table 2


def private_jwk(name: str, **changes: Any) -> dict[str, Any]:
    public = thumbprint.public_jwk(ml_dsa.private_key(name, bytes(32)).public_key())
    return {**public, "priv": base64url.encode(bytes(32)).decode(), **changes}


@pytest.mark.parametrize("name", THUMBPRINTS)
def test_thumbprints_are_those_of_the_rfc(name: str) -> None:
    public = private_jwk(name)
    assert thumbprint.thumbprint(public) == THUMBPRINTS[name]
    assert set(thumbprint.required_members(public)) == {"alg", "kty", "pub"}


@pytest.mark.parametrize("name", ml_dsa.NAMES)
def test_a_private_jwk_signs_what_its_public_jwk_verifies(name: str) -> None:
    key = signing.private_key(private_jwk(name, kid="k"))
    assert (key.algorithm, key.kid) == (name, "k")
    assert set(key.jwk()) == {"kty", "alg", "pub", "use", "kid"}
    signing_input, _, signature = key.sign({}, {"a": 1}).rpartition(".")
    octets = base64url.decode(signature.encode())
    assert len(octets) == SIGNATURE_BYTES[name]
    public = jwk.parse_jwk(key.jwk())
    assert public.algorithms == (name,)
    assert public.verifies(name, signing_input.encode(), octets)
    other = next(each for each in ml_dsa.NAMES if each != name)
    assert not public.verifies(other, signing_input.encode(), octets)
    for bad in (b"", octets[:-1], octets + b"\0", bytes(len(octets))):
        assert not public.verifies(name, signing_input.encode(), bad)


@pytest.mark.parametrize("name", ml_dsa.NAMES)
def test_pem_is_read_too(name: str) -> None:
    made = signing.generate(name)
    pem = made.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    key = signing.private_key(pem)
    assert key.algorithm == name
    spki = made.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert jwk.parse_pem(spki).algorithms == (name,)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"alg": None}, "its alg is none of ML-DSA-44"),
        ({"alg": "ML-DSA-33"}, "its alg is none of ML-DSA-44"),
        ({"alg": ["ML-DSA-44"]}, "its alg is none of ML-DSA-44"),
        ({"alg": "ML-DSA-65"}, "1952 bytes"),
        ({"pub": None}, "its pub is missing"),
        ({"pub": "AAAA"}, "1312 bytes"),
        ({"pub": "AB=="}, "base64url"),
        ({"pub": "ü"}, "base64url"),
    ],
)
def test_an_unusable_public_key_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        jwk.parse_jwk(private_jwk("ML-DSA-44", **changes))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"priv": None}, "32 bytes|valid JWK"),
        ({"priv": "AAAA"}, "32 bytes"),
        ({"priv": "A==="}, "not a valid JWK"),
        ({"alg": "RS256"}, "its alg is none of ML-DSA-44"),
        ({"pub": "AAAA"}, "its pub is not the public key of its priv"),
    ],
)
def test_an_unusable_private_key_says_why(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        signing.private_key(private_jwk("ML-DSA-44", **changes))


def test_a_library_beneath_without_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    class Lacking:
        @classmethod
        def generate(cls) -> None:
            raise UnsupportedAlgorithm("not here")

    monkeypatch.setitem(ml_dsa._PRIVATE, "ML-DSA-44", Lacking)
    with pytest.raises(ValueError, match="has no ML-DSA: upgrade it"):
        signing.generate("ML-DSA-44")


WITHOUT = """
from cryptography import x509  # which imports the module itself
from cryptography.hazmat.primitives.asymmetric import mldsa

del mldsa.MLDSA44PublicKey  # as in a version that does not have it
from bearerguard import ConfigurationError, Issuer
from bearerguard.protocol.jose import jwk, ml_dsa, signing
from bearerguard.server import SigningKeys
from bearerguard.testing import LocalIssuer

assert ml_dsa.SUPPORTED == () and "ML-DSA-44" not in jwk.ASYMMETRIC
local = LocalIssuer(algorithm="ES256")
local.extra_keys = [{"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}]
assert local.guard().verify(local.token()).subject == "user", "the other keys are used"
for act in (
    lambda: Issuer("https://id.test", audience="api", algorithms=["ML-DSA-65"]),
    lambda: SigningKeys(algorithm="ML-DSA-87"),
    lambda: LocalIssuer(algorithm="ML-DSA-44"),
    lambda: Issuer("https://id.test", audience="api", keys=local.extra_keys[0]),
):
    try:
        act()
    except ConfigurationError as error:
        print(error)
"""


def test_where_cryptography_lacks_it_each_option_says_what_to_do() -> None:
    said = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert [line.partition(":")[0] for line in said] == [
        "algorithms=",
        "SigningKeys(algorithm=)",
        "algorithm=",
        "keys=",
    ]
    assert all("has no ML-DSA: upgrade it" in line for line in said)
