"""ML-DSA keys (RFC 9964, FIPS 204), where the installed cryptography has them.

Their names are those of the parameter sets. Knows no JWK; the octets are raw public keys and seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

NAMES = ("ML-DSA-44", "ML-DSA-65", "ML-DSA-87")
MISSING = "the installed cryptography has no ML-DSA: upgrade it (version 50 has it)"

# The classes, by the names of the algorithms; empty where cryptography has none.
_PUBLIC: dict[str, Any] = {}
_PRIVATE: dict[str, Any] = {}
try:
    from cryptography.hazmat.primitives.asymmetric.mldsa import (
        MLDSA44PrivateKey,
        MLDSA44PublicKey,
        MLDSA65PrivateKey,
        MLDSA65PublicKey,
        MLDSA87PrivateKey,
        MLDSA87PublicKey,
    )
except ImportError:  # an earlier version
    pass
else:
    _PUBLIC.update(zip(NAMES, (MLDSA44PublicKey, MLDSA65PublicKey, MLDSA87PublicKey), strict=True))
    _PRIVATE.update(
        zip(NAMES, (MLDSA44PrivateKey, MLDSA65PrivateKey, MLDSA87PrivateKey), strict=True)
    )

SUPPORTED = tuple(_PUBLIC)
"""The algorithms that can be used here: all of `NAMES`, or none."""


class PublicKey(Protocol):
    """What is used of a public key; cryptography's classes are not there in each version."""

    def public_bytes(self, encoding: Encoding, format: PublicFormat) -> bytes:  # noqa: A002 - as inherited
        """Return the key in an encoding."""
        ...

    def public_bytes_raw(self) -> bytes:
        """Return its octets (FIPS 204)."""
        ...


def name_of(key: object) -> str | None:
    """Return the algorithm of a public or private key, None for another kind of key."""
    for kinds in (_PUBLIC, _PRIVATE):
        for name, kind in kinds.items():
            if isinstance(key, kind):
                return name
    return None


def public_key(name: object, octets: bytes) -> PublicKey:
    """Return the public key of these octets; raises ValueError unless there is one."""
    key: PublicKey = _made(_PUBLIC, name, lambda kind: kind.from_public_bytes(octets))
    return key


def private_key(name: object, seed: bytes) -> Any:
    """Return the private key of a seed of 32 octets; raises ValueError for another length."""
    return _made(_PRIVATE, name, lambda kind: kind.from_seed_bytes(seed))


def generate(name: str) -> Any:
    """Return a fresh private key; raises ValueError where there is no ML-DSA."""
    return _made(_PRIVATE, name, lambda kind: kind.generate())


def _made(kinds: Mapping[str, Any], name: object, make: Callable[[Any], Any]) -> Any:
    if not isinstance(name, str) or name not in kinds:
        raise ValueError(MISSING if name in NAMES else f"its alg is none of {', '.join(NAMES)}")
    try:
        return make(kinds[name])
    except UnsupportedAlgorithm:  # the classes are there, and the library beneath lacks it
        raise ValueError(MISSING) from None
