"""The format of personal access tokens: a prefix, random letters and digits, and a checksum.

Scanners for leaked secrets find one by its alphabet and length alone, and know by the checksum that
it is no other text. The server tests the checksum before it looks a token up, so that a token that
somebody made up costs no statement. The checksum is no protection: anybody can compute it.
"""

from __future__ import annotations

import re
import secrets
import zlib

PREFIX = "bgp_"
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
# 30 of 62 characters are 178 bits; 6 of them hold the 32 bits of the checksum.
_RANDOM, _CHECKSUM = 30, 6
_PREFIX = "[a-z][a-z0-9]{1,14}_"
_BODY = f"[0-9A-Za-z]{{{_RANDOM + _CHECKSUM}}}"
_TOKEN = re.compile(_PREFIX + _BODY)


def is_prefix(text: object) -> bool:
    """Whether tokens may begin with a text."""
    return isinstance(text, str) and re.fullmatch(_PREFIX, text) is not None


def make(prefix: str) -> str:
    """Return a new token."""
    body = prefix + "".join(secrets.choice(_LETTERS) for _ in range(_RANDOM))
    return body + _checksum(body)


def is_token(text: str) -> bool:
    """Whether a text has the format of a token, with any prefix, and the right checksum."""
    if _TOKEN.fullmatch(text) is None:
        return False
    return _checksum(text[:-_CHECKSUM]) == text[-_CHECKSUM:]


def _checksum(body: str) -> str:
    """Return the CRC-32 (ISO-HDLC, that of zlib) of a token's beginning, in base 62."""
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(_CHECKSUM):
        number, digit = divmod(number, len(_LETTERS))
        digits = _LETTERS[digit] + digits
    return digits
