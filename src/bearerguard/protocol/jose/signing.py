"""Signing JWTs (RFC 7515, RFC 7519): private keys, and the compact serialization.

The one signer of the package. Parses private keys given as JWK or PEM, and demands the strength
that `jwk` demands of public ones. A key's private part never shows in a repr.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError

from bearerguard.protocol.jose import base64url, jwk, ml_dsa
from bearerguard.protocol.jose.thumbprint import public_jwk

_KEY_KINDS = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey
_READERS: Mapping[str, Any] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm, "OKP": OKPAlgorithm}

_MAKERS: Mapping[str, Callable[[], Any]] = {
    "RS": lambda: rsa.generate_private_key(65537, 2048),
    "PS": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed": Ed25519PrivateKey.generate,
    **{name: partial(ml_dsa.generate, name) for name in ml_dsa.NAMES},
}

# `json.dumps` would make a new encoder for each text.
_encoded = json.JSONEncoder(separators=(",", ":")).encode

GivenKey: TypeAlias = Mapping[str, Any] | str | bytes


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A private key, or a shared secret, with the algorithm it signs by and its `kid`."""

    algorithm: str
    kid: str | None
    private: Any = field(repr=False)

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JWK with its `use` and `alg` (RFC 7517)."""
        named = {} if self.kid is None else {"kid": self.kid}
        return {
            **public_jwk(self.private.public_key()),
            "use": "sig",
            "alg": self.algorithm,
            **named,
        }

    def sign(self, header: Mapping[str, Any], payload: Mapping[str, Any]) -> str:
        """Return the compact JWS of `payload`; `alg` and `kid` are this key's."""
        named = {} if self.kid is None else {"kid": self.kid}
        head = {**header, "alg": self.algorithm, **named}
        return self.sign_octets(_json(head), _json(payload))

    def sign_octets(self, header: bytes, payload: bytes) -> str:
        """Return the compact JWS of exactly this header and payload (RFC 7515 §3.1)."""
        signing_input = base64url.encode(header) + b"." + base64url.encode(payload)
        if self.algorithm in ml_dsa.NAMES:
            signature = self.private.sign(signing_input)
        else:
            signature = jwk.ALGORITHMS[self.algorithm].sign(signing_input, self.private)
        return (signing_input + b"." + base64url.encode(signature)).decode("ascii")


def _json(members: Mapping[str, Any]) -> bytes:
    return _encoded(dict(members)).encode()


def generate(algorithm: str) -> Any:
    """Make a fresh private key for an asymmetric algorithm; raises ValueError for another.

    It is raised, too, where cryptography does not have the algorithm.
    """
    make = next((make for prefix, make in _MAKERS.items() if algorithm.startswith(prefix)), None)
    if make is None or algorithm not in {*jwk.ASYMMETRIC, *ml_dsa.NAMES}:
        raise ValueError(f"{algorithm!r} is none of {', '.join(jwk.ASYMMETRIC)}")
    return make()


def private_key(
    given: GivenKey, *, algorithm: str | None = None, kid: str | None = None
) -> PrivateKey:
    """Return a private JWK or PEM as a key that signs by `algorithm`.

    By default that is the JWK's `alg`, or the first algorithm that fits. Raises ValueError with the
    reason why a key is unusable; the reason quotes nothing of it.
    """
    material: Any
    if isinstance(given, Mapping):
        material = _from_jwk(given)
        algorithm = algorithm or given.get("alg")
        kid = kid or given.get("kid")
    elif isinstance(given, str | bytes):
        material = _from_pem(given.encode() if isinstance(given, str) else given)
    else:
        raise ValueError("it is neither PEM nor a JWK")  # noqa: TRY004 - as documented
    if not isinstance(material, _KEY_KINDS) and ml_dsa.name_of(material) is None:
        raise ValueError("it is no private key that signs JWTs")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is no string")
    public = jwk.from_public_key(material.public_key(), algorithm=algorithm)
    return PrivateKey(algorithm or public.algorithms[0], kid, material)


def _from_jwk(given: Mapping[str, Any]) -> object:
    if given.get("kty") == "AKP":
        return _from_akp(given)
    reader = _READERS.get(str(given.get("kty")))
    if reader is None:
        raise ValueError("its kty is none of RSA, EC, OKP and AKP")
    try:
        material: object = reader.from_jwk(dict(given))
    except (InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        raise ValueError("it is not a valid JWK") from None  # the cause may quote the key
    return material


def _from_akp(given: Mapping[str, Any]) -> object:
    """Return the private key of an AKP key, whose seed is `priv` (RFC 9964 §3)."""
    try:
        seed = base64url.decode(str(given.get("priv")).encode())
    except ValueError:
        raise ValueError("it is not a valid JWK") from None  # the cause may quote the key
    material = ml_dsa.private_key(given.get("alg"), seed)
    if public_jwk(material.public_key())["pub"] != given.get("pub"):
        raise ValueError("its pub is not the public key of its priv")
    return material


def _from_pem(pem: bytes) -> object:
    try:
        return load_pem_private_key(pem, password=None)
    except TypeError:
        raise ValueError("it is encrypted: decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it is no PEM private key") from None
