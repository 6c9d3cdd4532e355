"""JWK thumbprints (RFC 7638), and public keys as JWKs (RFC 7517)."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from bearerguard.protocol.jose import base64url, ml_dsa
from bearerguard.protocol.jose.jwk import PublicKey

# The required members, in the order of their names (RFC 7638 §3.2, RFC 8037 §2, RFC 9964 §6).
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "AKP": ("alg", "kty", "pub"),
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}

# The base64url of a SHA-256 digest.
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


def is_thumbprint(value: object) -> bool:
    """Whether a value is spelled as a thumbprint by SHA-256, of a key or of a certificate."""
    return isinstance(value, str) and _THUMBPRINT.fullmatch(value) is not None


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Return a public key as a JWK with its required members alone."""
    if isinstance(key, RSAPublicKey):
        members: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, Ed25519PublicKey):
        members = OKPAlgorithm.to_jwk(key, as_dict=True)
    else:
        pub = base64url.encode(key.public_bytes_raw()).decode("ascii")
        members = {"kty": "AKP", "alg": ml_dsa.name_of(key), "pub": pub}
    return required_members(members)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a JWK; raises ValueError for one that cannot sign."""
    canonical = json.dumps(required_members(jwk), separators=(",", ":"), sort_keys=True)
    return base64url.encode(hashlib.sha256(canonical.encode()).digest()).decode("ascii")


def required_members(jwk: Mapping[str, Any]) -> dict[str, str]:
    """Return the required members of a JWK's public key, and no others."""
    names = _REQUIRED.get(str(jwk.get("kty")))
    if names is None:
        raise ValueError("its kty is none of AKP, EC, OKP and RSA")
    members = {name: jwk.get(name) for name in names}
    for name, value in members.items():
        if not isinstance(value, str):
            raise ValueError(f"its {name} is missing")  # noqa: TRY004 - as documented
    return {name: str(value) for name, value in members.items()}
