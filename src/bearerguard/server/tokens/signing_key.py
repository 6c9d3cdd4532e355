"""One signing key: generated, sealed and opened. Knows no store and no clock."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from bearerguard.protocol.jose import signing
from bearerguard.protocol.jose.jwk import VerificationKey, parse_jwk
from bearerguard.protocol.jose.signing import PrivateKey
from bearerguard.runtime.sealing import Sealer, SealError
from bearerguard.server.store.keys import NewKey

# What the sealers of private keys are for.
PURPOSE = "signing keys"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A stored key. It is published from `created_at` to `retires_at`, in Unix seconds.

    It signs from `active_at` until a later key does.
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


def make(algorithm: str, sealer: Sealer) -> NewKey:
    """Return a new key as the values of a row, with the private key sealed."""
    kid = secrets.token_hex(8)
    key = PrivateKey(algorithm, kid, signing.generate(algorithm))
    octets = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    return {
        "kid": kid,
        "algorithm": algorithm,
        "public_jwk": json.dumps(key.jwk()),
        "sealed_private": sealer.seal(octets, kid.encode()),
    }


def open_private(key: SigningKey, sealer: Sealer) -> PrivateKey:
    """Return the private key; raises `SealError` when another secret sealed it."""
    octets = sealer.open(key.sealed, key.kid.encode())
    return PrivateKey(key.algorithm, key.kid, load_der_private_key(octets, password=None))


def resealed(key: SigningKey, sealer: Sealer, newest: Sealer) -> bytes | None:
    """Return the private key sealed by `newest`; None if it is already, or cannot be opened."""
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
        return None  # sealed with a removed secret: the key verifies, but signs no longer
