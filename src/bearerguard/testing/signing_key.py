"""Keys that sign anything, well-formed or not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Self, TypeAlias

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.jose import signing
from bearerguard.protocol.jose.jwk import SYMMETRIC

Segment: TypeAlias = Mapping[str, Any] | bytes

_RSA = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
# Generating an RSA key takes a tenth of a second: those of a closed issuer are reused.
_spare_rsa_keys: list[Any] = []


class SigningKey(signing.PrivateKey):
    """A private key, or a shared secret, with the algorithm it signs by and its `kid`."""

    __slots__ = ()

    @classmethod
    def generate(cls, algorithm: str, kid: str | None) -> Self:
        """Return a key that no open issuer of this process has.

        Raises:
            ConfigurationError: the algorithm is unknown or symmetric.
        """
        try:
            if algorithm in _RSA:
                with suppress(IndexError):
                    return cls(algorithm, kid, _spare_rsa_keys.pop())
            return cls(algorithm, kid, signing.generate(algorithm))
        except ValueError as error:
            raise ConfigurationError(
                f"algorithm=: {error}; the symmetric ones need secret="
            ) from None

    def recycle(self) -> None:
        """Let `generate` reuse the key, if it is slow to generate; it must not sign any more."""
        if self.algorithm in _RSA:
            _spare_rsa_keys.append(self.private)

    @classmethod
    def shared(cls, algorithm: str, secret: bytes) -> Self:
        """Return a shared secret as a key for HS256, HS384 or HS512.

        Raises:
            ConfigurationError: the algorithm is another one.
        """
        if algorithm not in SYMMETRIC:
            raise ConfigurationError(f"secret=: needs one of the algorithms {', '.join(SYMMETRIC)}")
        return cls(algorithm, None, secret)


def sign(header: Segment, payload: Segment, key: signing.PrivateKey) -> str:
    """Return a compact JWS (RFC 7515) over exactly this header and payload.

    A mapping becomes JSON, and bytes are taken as they are, so that a malformed token can have a
    genuine signature.
    """
    return key.sign_octets(_octets(header), _octets(payload))


def _octets(segment: Segment) -> bytes:
    if isinstance(segment, bytes):
        return segment
    return json.dumps(dict(segment), separators=(",", ":")).encode()
