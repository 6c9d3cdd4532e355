"""Strict base64url without padding (RFC 7515 §2): each sequence of octets has one encoding."""

from __future__ import annotations

import base64
import binascii

from bearerguard.protocol.jose.speed import pybase64

_PLUS, _SLASH, _EQUALS, _MINUS, _UNDERSCORE = b"+/=-_"
_TO_BASE64 = bytes.maketrans(b"-_", b"+/")

# The padding by the length of the last group, then by its last letter, whose unused bits
# are zero (RFC 4648 §3.5).
_PADDING: tuple[dict[int, bytes], ...] = (
    {},
    {},
    dict.fromkeys(b"AQgw", b"=="),
    dict.fromkeys(b"AEIMQUYcgkosw048", b"="),
)


def decode(text: bytes) -> bytes:
    """Decode `text`; raises ValueError for anything but canonical base64url."""
    if _PLUS in text or _SLASH in text or _EQUALS in text:
        raise ValueError("not base64url")
    rest = len(text) % 4
    if rest:
        padding = _PADDING[rest].get(text[-1])
        if padding is None:
            raise ValueError("not canonical base64url")
        text += padding
    if pybase64 is not None:
        octets: bytes = pybase64.b64decode(text, b"-_", True)  # noqa: FBT003 - validate
        return octets
    if _MINUS in text or _UNDERSCORE in text:  # JSON in ASCII encodes to neither, but for > ? ~
        text = text.translate(_TO_BASE64)
    return binascii.a2b_base64(text, strict_mode=True)


def encode(octets: bytes) -> bytes:
    """Encode without padding."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=")
