"""Proof Key for Code Exchange (RFC 7636), S256 only: `plain` reveals the verifier."""

from __future__ import annotations

import hashlib
import hmac
import re

from bearerguard.protocol.jose import base64url

METHOD = "S256"

# code-verifier = 43*128unreserved (RFC 7636 §4.1)
_VERIFIER = re.compile(r"[A-Za-z0-9\-._~]{43,128}")
# An S256 challenge is 32 octets in base64url.
_CHALLENGE = re.compile(r"[A-Za-z0-9_-]{43}")


def is_challenge(text: str) -> bool:
    """Whether `text` can be an S256 challenge."""
    return _CHALLENGE.fullmatch(text) is not None


def challenge(verifier: str) -> str:
    """Return the S256 challenge of a verifier (RFC 7636 §4.2)."""
    return base64url.encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode("ascii")


def proves(verifier: str, expected: str) -> bool:
    """Whether `verifier` is well-formed and has the challenge `expected`."""
    if _VERIFIER.fullmatch(verifier) is None:
        return False
    return hmac.compare_digest(challenge(verifier).encode(), expected.encode())
