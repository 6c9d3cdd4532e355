"""Making signed JWTs (RFC 7515, RFC 7519): private keys and the compact serialization.

Reads private keys given as JWK or PEM and holds them to the strength that `jwk` demands of
the public ones. A key's private part never shows in a repr.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from bearerguard.protocol.jose import base64url, jwk

_KEY_KINDS = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_READERS: Mapping[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}

GivenKey: TypeAlias = Mapping[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key with the algorithm it signs by, and the `kid` that names it."""

    algorithm: str
    kid: str | None
    material: Any = field(repr=False)

    def sign(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
        """Return the compact JWS of `payload`; `alg` and `kid` are this key's."""
        named = {} if self.kid is None else {"kid": self.kid}
        head = {**header, "alg": self.algorithm, **named}
        signing_input = b".".join(
            base64url.encode(json.dumps(part, separators=(",", ":")).encode())
            for part in (head, dict(payload))
        )
        signature = jwk.ALGORITHMS[self.algorithm].sign(signing_input, self.material)
        return (signing_input + b"." + base64url.encode(signature)).decode("ascii")


def private_key(
    given: GivenKey, *, algorithm: str | None = None, kid: str | None = None
) -> PrivateKey:
    """Return a private JWK or PEM as a key that signs by `algorithm`, or by its usual one.

    Raises ValueError with the reason why it is unusable; the reason holds nothing of the key.
    """
    if isinstance(given, Mapping):
        material = _from_jwk(given)
        algorithm = algorithm or given.get("alg")
        kid = kid or given.get("kid")
    elif isinstance(given, str | bytes):
        material = _from_pem(given.encode() if isinstance(given, str) else given)
    else:
        raise ValueError("it is neither PEM nor a JWK")  # noqa: TRY004 - as documented
    if not isinstance(material, _KEY_KINDS):
        raise ValueError("it is no private key that signs JWTs")  # noqa: TRY004 - as documented
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is no string")
    public = jwk.from_public_key(material.public_key(), algorithm=algorithm)
    return PrivateKey(algorithm or public.algorithms[0], kid, material)


def _from_jwk(given: Mapping[str, Any]) -> object:
    reader = _READERS.get(str(given.get("kty")))
    if reader is None:
        raise ValueError("its kty is none of RSA, EC and OKP")
    try:
        material: object = reader.from_jwk(dict(given))
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        raise ValueError("it is not a valid JWK") from None  # the cause may quote the key
    return material


def _from_pem(pem: bytes) -> object:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("it is encrypted: decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is no PEM private key") from None
