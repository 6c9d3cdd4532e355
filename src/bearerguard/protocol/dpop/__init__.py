"""DPoP (RFC 9449): a request proves that its sender holds the key to which its token is bound.

`proof` builds proofs, `checking` checks them, and `nonces` makes and checks the nonces that a
server demands in them. All of it is pure: the caller gives the time, and stores what was used.
"""

from __future__ import annotations

from bearerguard.protocol.dpop.checking import (
    ALGORITHMS,
    MAX_AGE,
    CheckedProof,
    ProofChecker,
    check_content_digest,
)
from bearerguard.protocol.dpop.nonces import Nonces
from bearerguard.protocol.dpop.proof import (
    JKT,
    content_digest,
    key_thumbprint,
    nonce,
    proof,
    target,
    token_digest,
    token_type,
)

__all__ = [
    "ALGORITHMS",
    "JKT",
    "MAX_AGE",
    "CheckedProof",
    "Nonces",
    "ProofChecker",
    "check_content_digest",
    "content_digest",
    "key_thumbprint",
    "nonce",
    "proof",
    "target",
    "token_digest",
    "token_type",
]
