"""Strict base64url without padding (RFC 7515 §2): one text for one sequence of octets."""

from __future__ import annotations

import base64
import binascii

# The two letters that differ from base64 are mapped; what base64url does not have
# (+, /, =) becomes an octet that the strict decoder refuses, like everything else.
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")

# A last letter whose unused bits are zero, by the length of the last group (RFC 4648 §3.5).
_CANONICAL_LAST = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
_PADDING = {0: b"", 2: b"==", 3: b"="}


def decode(text: bytes) -> bytes:
    """Decode `text`; raises ValueError for anything but its one canonical spelling."""
    rest = len(text) % 4
    if rest == 1 or (rest and text[-1] not in _CANONICAL_LAST[rest]):
        raise ValueError("not canonical base64url")
    return binascii.a2b_base64(text.translate(_TO_BASE64) + _PADDING[rest], strict_mode=True)


def encode(octets: bytes) -> bytes:
    """Encode without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
