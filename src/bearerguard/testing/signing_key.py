"""Keys that sign, and the signing of anything with them, well-formed or not."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jose.jwk import ALGORITHMS, SYMMETRIC

Segment: TypeAlias = Mapping[str, Any] | bytes

_MAKERS: Mapping[str, Callable[[], Any]] = {
    "RS": lambda: rsa.generate_private_key(65537, 2048),
    "PS": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "Ed": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, or a shared secret, with the algorithm it signs by and its `kid`."""

    algorithm: str
    kid: str | None
    private: Any = field(repr=False)

    @classmethod
    def generate(cls, algorithm: str, kid: str | None) -> SigningKey:
        """Make a fresh key for an asymmetric algorithm."""
        for prefix, make in _MAKERS.items():
            if algorithm.startswith(prefix) and algorithm in ALGORITHMS:
                return cls(algorithm, kid, make())
        raise ConfigurationError(
            f"algorithm=: {algorithm!r} is none of {', '.join(ALGORITHMS)},"
            " or is symmetric and needs secret="
        )

    @classmethod
    def shared(cls, algorithm: str, secret: bytes) -> SigningKey:
        """Return a shared secret as a key."""
        if algorithm not in SYMMETRIC:
            raise ConfigurationError(f"secret=: needs one of the algorithms {', '.join(SYMMETRIC)}")
        return cls(algorithm, None, secret)

    def jwk(self) -> dict[str, Any]:
        """Return the public key as a JWK (RFC 7517)."""
        algorithm: Any = ALGORITHMS[self.algorithm]
        members: dict[str, Any] = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        members.pop("key_ops", None)
        named = {} if self.kid is None else {"kid": self.kid}
        return {**members, "use": "sig", "alg": self.algorithm, **named}

    def signature(self, signing_input: bytes) -> bytes:
        """Return the signature (RFC 7515) of any octets."""
        return ALGORITHMS[self.algorithm].sign(signing_input, self.private)


def sign(header: Segment, payload: Segment, key: SigningKey) -> str:
    """Return a compact JWS over exactly this header and payload, whatever they say.

    Mappings become JSON; bytes are taken as they are, so that malformed tokens can be
    signed genuinely too.
    """
    signing_input = b".".join(base64url.encode(_octets(part)) for part in (header, payload))
    signature = base64url.encode(key.signature(signing_input))
    return (signing_input + b"." + signature).decode("ascii")


def _octets(segment: Segment) -> bytes:
    if isinstance(segment, bytes):
        return segment
    return json.dumps(dict(segment), separators=(",", ":")).encode()  # as issuers send it
