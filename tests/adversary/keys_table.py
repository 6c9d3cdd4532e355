"""Keys that an issuer publishes and that verify nothing, and forgeries that weak ones allow."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from bearerguard.protocol.jose import base64url
from bearerguard.testing import SigningKey, sign
from tests.adversary.attack import Attack, Send
from tests.adversary.signatures_table import SMALL_ORDER_POINTS
from tests.conformance.drivers import Headers
from tests.conformance.harness import Harness, bearer
from tests.conformance.jwt_table import usual_claims

OWN = {"own_issuer": True}
WEAK_RSA = rsa.generate_private_key(65537, 1024)
ODD_RSA = rsa.generate_private_key(65537, 2040)
CUBE_RSA = rsa.generate_private_key(3, 2048)
P384, P521 = (ec.generate_private_key(curve()) for curve in (ec.SECP384R1, ec.SECP521R1))
K256 = ec.generate_private_key(ec.SECP256K1())
P256 = ec.generate_private_key(ec.SECP256R1())
# DigestInfo of SHA-256 (RFC 8017 §9.2)
DIGEST_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def number(value: int) -> str:
    octets = value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big")
    return base64url.encode(octets).decode()


def text(octets: bytes) -> str:
    return base64url.encode(octets).decode()


def rsa_jwk(key: Any, **members: Any) -> dict[str, Any]:
    numbers = key.public_key().public_numbers()
    return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), "kid": "weak", **members}


def ec_jwk(key: Any, crv: str, **members: Any) -> dict[str, Any]:
    numbers, size = key.public_key().public_numbers(), (key.key_size + 7) // 8
    x, y = (text(each.to_bytes(size, "big")) for each in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": crv, "x": x, "y": y, "kid": "weak", **members}


def published(*keys: Any) -> Callable[[Harness], None]:
    """Have the issuer publish these keys beside its own."""

    def prepare(harness: Harness) -> None:
        harness.issuer.extra_keys = list(keys)

    return prepare


def signed_by(private: Any, algorithm: str, says: str | None = None) -> Send:
    """Send a token whose kid names the weak key, signed by `private`."""

    def send(_: Harness) -> Headers:
        head = {"alg": says or algorithm, "typ": "at+jwt", "kid": "weak"}
        return bearer(sign(head, usual_claims(), SigningKey(algorithm, "weak", private)))

    return send


def forged(algorithm: str, signature: Callable[[bytes], bytes]) -> Send:
    """Send a token whose kid names the weak key, with a signature that needs no private key."""

    def send(_: Harness) -> Headers:
        head = {"alg": algorithm, "typ": "at+jwt", "kid": "weak"}
        token = sign(head, usual_claims(), SigningKey("HS256", None, b"x" * 32))
        signing_input = token.rpartition(".")[0]
        return bearer(f"{signing_input}.{text(signature(signing_input.encode()))}")

    return send


def always(signature: bytes) -> Callable[[bytes], bytes]:
    return lambda _signing_input: signature


def padded(signing_input: bytes, size: int = 256) -> bytes:
    """Return what RSA's public operation must yield (EMSA-PKCS1-v1_5)."""
    info = DIGEST_INFO + hashlib.sha256(signing_input).digest()
    return b"\0\1" + b"\xff" * (size - len(info) - 3) + b"\0" + info


def cube_root(signing_input: bytes) -> bytes:
    """Return a root whose cube begins as the padding does: what a lax verifier accepts (2006)."""
    info = b"\0\1" + b"\xff" * 8 + b"\0" + DIGEST_INFO + hashlib.sha256(signing_input).digest()
    least = int.from_bytes(info.ljust(256, b"\0"), "big")
    low, high = 0, 1 << 700
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if middle**3 < least else (low, middle)
    assert (low**3).to_bytes(256, "big").startswith(info)
    return low.to_bytes(256, "big")


COMPOSITE = 3 * 2**2046 + 1  # even more easily factored than it is short
EVEN = (1 << 2047) + 2

# What the key set has, and a token that it would let pass.
WEAK: dict[str, tuple[dict[str, Any], Send]] = {
    "RSA of 1024 bits": (rsa_jwk(WEAK_RSA), signed_by(WEAK_RSA, "RS256")),
    "RSA of 1024 bits, PSS": (rsa_jwk(WEAK_RSA), signed_by(WEAK_RSA, "PS256")),
    "RSA of 2040 bits": (rsa_jwk(ODD_RSA), signed_by(ODD_RSA, "RS256")),
    "RSA with e = 1": (
        {"kty": "RSA", "n": number(2**2048 - 1), "e": "AQ", "kid": "weak"},
        forged("RS256", padded),
    ),
    "RSA with e = 0": (
        {"kty": "RSA", "n": number(2**2048 - 1), "e": "AA", "kid": "weak"},
        forged("RS256", padded),
    ),
    "RSA with e = 2": (
        {"kty": "RSA", "n": number(2**2048 - 1), "e": "Ag", "kid": "weak"},
        forged("RS256", padded),
    ),
    "RSA with an even modulus": (
        {"kty": "RSA", "n": number(EVEN), "e": "AQAB", "kid": "weak"},
        forged("RS256", padded),
    ),
    "RSA with n = 0": (
        {"kty": "RSA", "n": "AA", "e": "AQAB", "kid": "weak"},
        forged("RS256", lambda _: b""),
    ),
    "RSA of 20 000 bits": (
        {"kty": "RSA", "n": number(2**20_000 - 1), "e": "AQAB", "kid": "weak"},
        forged("RS256", lambda octets: padded(octets, 2500)),
    ),
    "RSA with an exponent as long as the modulus": (
        {"kty": "RSA", "n": number(COMPOSITE), "e": number(2**2047 - 1), "kid": "weak"},
        forged("RS256", padded),
    ),
    "RSA with e = 3 and a cube root": (rsa_jwk(CUBE_RSA), forged("RS256", cube_root)),
    "a P-384 key for ES256": (ec_jwk(P384, "P-384"), signed_by(P384, "ES256")),
    "a P-521 key for ES256": (ec_jwk(P521, "P-521"), signed_by(P521, "ES256")),
    "a P-521 key for ES256, by its alg": (
        ec_jwk(P521, "P-521", alg="ES256"),
        signed_by(P521, "ES256"),
    ),
    "a P-256 key for ES512": (ec_jwk(P256, "P-256"), signed_by(P256, "ES512")),
    "a P-256 key for ES384, by its alg": (
        ec_jwk(P256, "P-256", alg="ES384"),
        signed_by(P256, "ES384"),
    ),
    "secp256k1 as ES256K": (ec_jwk(K256, "secp256k1"), signed_by(K256, "ES256", "ES256K")),
    "secp256k1 as ES256": (ec_jwk(K256, "secp256k1"), signed_by(K256, "ES256")),
    "secp256k1 under the name of P-256": (ec_jwk(K256, "P-256"), signed_by(K256, "ES256")),
    "a point that is not on the curve": (
        {"kty": "EC", "crv": "P-256", "x": text(b"\1" * 32), "y": text(b"\1" * 32), "kid": "weak"},
        forged("ES256", lambda _: b"\0" * 31 + b"\1" + b"\0" * 31 + b"\1"),
    ),
    "the point at infinity": (
        {"kty": "EC", "crv": "P-256", "x": text(bytes(32)), "y": text(bytes(32)), "kid": "weak"},
        forged("ES256", lambda _: bytes(64)),
    ),
    "a point with the other y": (
        ec_jwk(P256, "P-256", y=ec_jwk(P256, "P-256")["x"]),
        signed_by(P256, "ES256"),
    ),
    "a point that is too short": (ec_jwk(P256, "P-256", x="AQ"), signed_by(P256, "ES256")),
    "a key for encryption": (ec_jwk(P256, "P-256", use="enc"), signed_by(P256, "ES256")),
    "a key that only signs": (ec_jwk(P256, "P-256", key_ops=["sign"]), signed_by(P256, "ES256")),
    "a key whose key_ops are text": (
        ec_jwk(P256, "P-256", key_ops="verify"),
        signed_by(P256, "ES256"),
    ),
    "a key whose kid is a number": (ec_jwk(P256, "P-256", kid=7), signed_by(P256, "ES256")),
    "a key of another alg": (ec_jwk(P256, "P-256", alg="ECDH-ES"), signed_by(P256, "ES256")),
    "a secret": (
        {"kty": "oct", "k": text(b"s" * 64), "kid": "weak", "alg": "HS256"},
        signed_by(b"s" * 64, "HS256"),
    ),
    **{
        f"Ed25519 of small order {point.hex()[:4]}{point.hex()[-2:]}, {name}": (
            {"kty": "OKP", "crv": "Ed25519", "x": text(point), "kid": "weak"},
            forged("EdDSA", always(r + bytes(32))),
        )
        for point in SMALL_ORDER_POINTS
        for name, r in (
            ("R neutral", b"\1" + bytes(31)),
            ("R the key", point),
        )
    },
}

TABLE = [
    *(
        Attack(
            id=f"JWKS-02 {name}",
            hostile=hostile,
            prepare=published(key),
            options=OWN,
        )
        for name, (key, hostile) in WEAK.items()
    ),
    *(
        Attack(
            id=f"JWKS-02 {name}, without kids",
            hostile=hostile,
            prepare=published({each: key[each] for each in key if each != "kid"}),
            options=OWN,
        )
        for name, (key, hostile) in WEAK.items()
        if "kid is a number" not in name and "small order" not in name
    ),
    Attack(
        id="JWT-12 a cube root is no signature of a genuine key with e = 3",
        hostile=forged("RS256", cube_root),
        control=signed_by(CUBE_RSA, "RS256"),
        prepare=published(rsa_jwk(CUBE_RSA)),
        options=OWN,
    ),
    Attack(
        id="JWKS-06 a key of the issuer under another kid",
        hostile=lambda harness: harness.bearer(header={"kid": "weak"}),
        control=signed_by(P256, "ES256"),
        prepare=published(ec_jwk(P256, "P-256")),
        options=OWN,
    ),
]
