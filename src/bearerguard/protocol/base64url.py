"""Strict base64url without padding (RFC 7515 §2): one text for one sequence of octets."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable

from bearerguard.protocol.speed import pybase64

# The two letters that differ from base64 are mapped; what base64url does not have
# (+, /, =) becomes an octet that the strict decoder refuses, like everything else.
_TO_BASE64 = bytes.maketrans(b"-_+/=", b"+/!!!")

# A last letter whose unused bits are zero, by the length of the last group (RFC 4648 §3.5).
_CANONICAL_LAST = {2: frozenset(b"AQgw"), 3: frozenset(b"AEIMQUYcgkosw048")}
_PLUS, _SLASH, _EQUALS = b"+/="
_PADDING = {0: b"", 2: b"==", 3: b"="}


def _padding(text: bytes) -> bytes:
    rest = len(text) % 4
    if rest == 1 or (rest and text[-1] not in _CANONICAL_LAST[rest]):
        raise ValueError("not canonical base64url")
    return _PADDING[rest]


def _decode(text: bytes) -> bytes:
    padded = text.translate(_TO_BASE64) + _padding(text)
    return binascii.a2b_base64(padded, strict_mode=True)


def _decode_fast(text: bytes) -> bytes:
    # pybase64 takes both alphabets at once, and padding of the text's own.
    if _PLUS in text or _SLASH in text or _EQUALS in text:
        raise ValueError("not base64url")
    padded = text + _padding(text) if len(text) % 4 else text
    octets: bytes = _b64decode(padded, b"-_", True)  # noqa: FBT003 - validate, by position only
    return octets


decode: Callable[[bytes], bytes]
"""Decode `text`; raises ValueError for anything but its one canonical spelling."""

if pybase64 is None:
    decode = _decode
else:
    _b64decode = pybase64.b64decode
    decode = _decode_fast


def encode(octets: bytes) -> bytes:
    """Encode without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
