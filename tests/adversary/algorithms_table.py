"""Algorithms: none, names that almost fit, and keys that are taken for secrets."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from bearerguard.protocol.jose import base64url
from bearerguard.testing import SigningKey, sign
from tests.adversary.attack import Attack, Send
from tests.adversary.keys_table import CUBE_RSA, OWN, published, rsa_jwk, signed_by
from tests.conformance.drivers import Headers
from tests.conformance.harness import Harness, bearer
from tests.conformance.jwt_table import usual_claims

NONES = (
    "None",
    "NONE",
    "nOnE",
    "none ",
    " none",
    "none\x00",
    "n\u03bfne",
    "\ufeffnone",
    "null",
    "",
)
WRONG_TYPES: tuple[Any, ...] = (None, ["none"], [], {}, {"none": 1}, 0, 1, True, False, 1.5)
# Each with a genuine ES256 signature of the issuer's key.
ALMOST = (
    *("es256", "Es256", "ES256 ", " ES256", "ES256\x00", "ES256\n", "ES-256", "ES256K", "ESP256"),
    *("\uff25\uff33\uff12\uff15\uff16", "E\u0421256", "ES384", "ES512", "EdDSA", "Ed25519"),
    *("RS256", "PS256", "HS256", "HS384", "HS512", "ML-DSA-44", "dir", "RSA-OAEP", "A128KW"),
    *("ECDSA", "SHA256", "SHA256withECDSA", "1.2.840.10045.4.3.2", "-7", "*", "ES256,none"),
    "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
)


def announced(header: dict[str, Any], *, keep_signature: bool = True) -> Send:
    """Send a token with exactly this header, signed by the issuer's key."""

    def send(harness: Harness) -> Headers:
        kid = {"kid": harness.issuer.key.kid}
        octets = json.dumps({"typ": "at+jwt", **kid, **header}).encode()
        token = harness.forge(octets, usual_claims())
        return bearer(token if keep_signature else token.rpartition(".")[0] + ".")

    return send


def without_alg(harness: Harness) -> Headers:
    octets = json.dumps({"typ": "at+jwt", "kid": harness.issuer.key.kid}).encode()
    return bearer(harness.forge(octets, usual_claims()))


def _public(harness: Harness) -> Any:
    return harness.issuer.key.private.public_key()


def _encoded(encoding: Encoding, kind: PublicFormat) -> Callable[[Harness], bytes]:
    def octets(harness: Harness) -> bytes:
        encoded: bytes = _public(harness).public_bytes(encoding, kind)
        return encoded

    return octets


SPKI_PEM = _encoded(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
SPKI_DER = _encoded(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _jwk(harness: Harness) -> dict[str, Any]:
    return {name: value for name, value in harness.issuer.key.jwk().items() if name != "use"}


def _member(name: str) -> Callable[[Harness], bytes]:
    return lambda harness: base64url.decode(_jwk(harness)[name].encode())


# What of a public key somebody may have taken for the secret of HMAC.
OF_ANY_KEY: dict[str, Callable[[Harness], bytes]] = {
    "the PEM": SPKI_PEM,
    "the PEM without its last newline": lambda harness: SPKI_PEM(harness).rstrip(),
    "the PEM with CRLF": lambda harness: SPKI_PEM(harness).replace(b"\n", b"\r\n"),
    "the PEM without armour": lambda harness: b"".join(SPKI_PEM(harness).splitlines()[1:-1]),
    "the DER": SPKI_DER,
    "the digest of the DER": lambda harness: hashlib.sha256(SPKI_DER(harness)).digest(),
    "the JWK": lambda harness: json.dumps(_jwk(harness)).encode(),
    "the compact JWK": lambda harness: json.dumps(_jwk(harness), separators=(",", ":")).encode(),
    "the JWK Set": lambda harness: json.dumps(harness.issuer.jwks()).encode(),
    "nothing": lambda _: b"",
    "a zero octet": lambda _: b"\0",
    "the kid": lambda harness: (harness.issuer.key.kid or "").encode(),
    "the issuer": lambda harness: harness.issuer.url.encode(),
    "a usual word": lambda _: b"secret",
}
OF_RSA = {
    "the DER of PKCS #1": _encoded(Encoding.DER, PublicFormat.PKCS1),
    "the PEM of PKCS #1": _encoded(Encoding.PEM, PublicFormat.PKCS1),
    "the modulus": _member("n"),
    "the modulus in base64url": lambda harness: _jwk(harness)["n"].encode(),
    "the exponent": _member("e"),
}
OF_EC = {
    "the point": _encoded(Encoding.X962, PublicFormat.UncompressedPoint),
    "the compressed point": _encoded(Encoding.X962, PublicFormat.CompressedPoint),
    "x": _member("x"),
}
OF_ED = {"the point": _encoded(Encoding.Raw, PublicFormat.Raw)}


def with_hmac(algorithm: str, secret: Callable[[Harness], bytes]) -> Send:
    def send(harness: Harness) -> Headers:
        key = SigningKey(algorithm, harness.issuer.key.kid, secret(harness))
        header = {"alg": algorithm, "typ": "at+jwt", "kid": key.kid}
        return bearer(sign(header, usual_claims(), key))

    return send


TABLE = [
    *(
        Attack(id=f"JWT-02 alg {name!r}, {how}", hostile=announced({"alg": name}, keep_signature=k))
        for name in NONES
        for how, k in (("signature kept", True), ("signature removed", False))
    ),
    *(
        Attack(id=f"JWT-16 alg {json.dumps(value)}", hostile=announced({"alg": value}))
        for value in WRONG_TYPES
    ),
    Attack(id="JWT-16 alg absent", hostile=without_alg),
    *(Attack(id=f"JWT-02 alg {name!r}", hostile=announced({"alg": name})) for name in ALMOST),
    *(
        Attack(
            id=f"JWT-02 {algorithm} with {name} of {kind}",
            hostile=with_hmac(algorithm, secret),
            options={"algorithm": kind},
        )
        for kind, secrets in (
            ("RS256", {**OF_ANY_KEY, **OF_RSA}),
            ("ES256", {**OF_ANY_KEY, **OF_EC}),
            ("Ed25519", {**OF_ANY_KEY, **OF_ED}),
        )
        for name, secret in secrets.items()
        for algorithm in ("HS256", "HS512")
    ),
    *(
        Attack(
            id=f"JWT-02 signed by {signs}, announced as {says}",
            hostile=signed_by(CUBE_RSA, signs, says),
            control=signed_by(CUBE_RSA, signs),
            prepare=published(rsa_jwk(CUBE_RSA)),  # whose JWK fits each of them: it has no alg
            options=OWN,
        )
        for signs, says in (
            *(("RS256", "PS256"), ("PS256", "RS256"), ("RS256", "RS512"), ("PS384", "PS256")),
            *(("RS512", "RS256"), ("PS256", "PS512")),
        )
    ),
]
