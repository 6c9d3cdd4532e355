"""JWK thumbprints (RFC 7638), and public keys as JWKs (RFC 7517)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jose.jwk import PublicKey

# The required members, in the order of their names (RFC 7638 §3.2, RFC 8037 §2).
_REQUIRED: Mapping[str, tuple[str, ...]] = {
    "EC": ("crv", "kty", "x", "y"),
    "OKP": ("crv", "kty", "x"),
    "RSA": ("e", "kty", "n"),
}


def public_jwk(key: PublicKey) -> dict[str, str]:
    """Return a public key as a JWK with its required members alone."""
    if isinstance(key, RSAPublicKey):
        members: dict[str, Any] = RSAAlgorithm.to_jwk(key, as_dict=True)
    elif isinstance(key, EllipticCurvePublicKey):
        members = ECAlgorithm.to_jwk(key, as_dict=True)
    else:
        members = OKPAlgorithm.to_jwk(key, as_dict=True)
    return required_members(members)


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the SHA-256 thumbprint of a JWK; raises ValueError for one that cannot sign."""
    canonical = json.dumps(required_members(jwk), separators=(",", ":"), sort_keys=True)
    return base64url.encode(hashlib.sha256(canonical.encode()).digest()).decode("ascii")


def required_members(jwk: Mapping[str, Any]) -> dict[str, str]:
    """Return the required members of a JWK's public key, and no others."""
    names = _REQUIRED.get(str(jwk.get("kty")))
    if names is None:
        raise ValueError("its kty is none of EC, OKP and RSA")
    members = {name: jwk.get(name) for name in names}
    for name, value in members.items():
        if not isinstance(value, str):
            raise ValueError(f"its {name} is missing")  # noqa: TRY004 - as documented
    return {name: str(value) for name, value in members.items()}
