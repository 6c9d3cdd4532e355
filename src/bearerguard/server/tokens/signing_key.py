"""One signing key: how it is made, sealed, opened and shown. Knows no store and no time."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jose.jwk import ALGORITHMS, VerificationKey, parse_jwk
from bearerguard.runtime.sealing import Sealer, SealError

_MAKERS: Mapping[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A key as the store has it; times are Unix seconds.

    It is published from `created_at` to `retires_at` and signs from `active_at` until a
    later key does.
    """

    kid: str
    algorithm: str
    created_at: float
    active_at: float
    retires_at: float | None
    jwk: dict[str, Any] = field(repr=False)
    verification: VerificationKey = field(repr=False)
    sealed: bytes = field(repr=False)

    @classmethod
    def from_row(cls, row: Any) -> SigningKey:
        """Return the key of a row."""
        jwk = json.loads(row.public_jwk)
        return cls(
            row.kid,
            row.algorithm,
            row.created_at,
            row.active_at,
            row.retires_at,
            jwk,
            parse_jwk(jwk),
            row.sealed_private,
        )


def make(algorithm: str, sealer: Sealer) -> dict[str, Any]:
    """Return a fresh key as values for a row, the private part sealed."""
    private = _MAKERS[algorithm]()
    kid = secrets.token_hex(8)
    primitive: Any = ALGORITHMS[algorithm]
    members: dict[str, Any] = primitive.to_jwk(private.public_key(), as_dict=True)
    members.pop("key_ops", None)
    jwk = {**members, "use": "sig", "alg": algorithm, "kid": kid}
    octets = private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {
        "kid": kid,
        "algorithm": algorithm,
        "public_jwk": json.dumps(jwk),
        "sealed_private": sealer.seal(octets, kid.encode()),
    }


def open_private(key: SigningKey, sealer: Sealer) -> Any:
    """Return the private key; raises `SealError` when another secret sealed it."""
    return load_der_private_key(sealer.open(key.sealed, key.kid.encode()), password=None)


def sign(header: Mapping[str, Any], claims: Mapping[str, Any], private: Any) -> str:
    """Return a compact JWS (RFC 7515 §3.1)."""
    parts = (json.dumps(dict(each), separators=(",", ":")).encode() for each in (header, claims))
    signing_input = b".".join(base64url.encode(part) for part in parts)
    signature = ALGORITHMS[header["alg"]].sign(signing_input, private)
    return (signing_input + b"." + base64url.encode(signature)).decode("ascii")


def sealed_anew(key: SigningKey, sealer: Sealer, newest: Sealer) -> bytes | None:
    """Return the private key as `newest` seals it, None where it did so already, or cannot."""
    context = key.kid.encode()
    try:
        newest.open(key.sealed, context)
    except SealError:
        pass
    else:
        return None
    try:
        return newest.seal(sealer.open(key.sealed, context), context)
    except SealError:
        return None  # a key that signs no more, of a secret that is gone: it only verifies
