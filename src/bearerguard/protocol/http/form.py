"""Strict decoding of form-encoded text (WHATWG URL §5.1, RFC 6749 appendix B)."""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_STRAY_PERCENT = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class FormError(ValueError):
    """A text is not form-encoded: `reason` names what is wrong, and the message quotes nothing."""

    def __init__(self, reason: str, description: str) -> None:
        super().__init__(description)
        self.reason = reason


def decode(octets: bytes) -> str:
    """Decode one name or value; raises `FormError` where it is not encoded properly."""
    octets = octets.replace(b"+", b" ")
    if b"%" in octets:
        if _STRAY_PERCENT.search(octets):
            raise FormError("malformed_encoding", "A parameter is not percent-encoded properly")
        octets = unquote_to_bytes(octets)
    try:
        text = octets.decode("utf-8")
    except UnicodeDecodeError:
        raise FormError("malformed_utf_8", "A parameter is not encoded as UTF-8") from None
    if "\0" in text:
        raise FormError("nul_character", "A parameter has a NUL character")
    return text
