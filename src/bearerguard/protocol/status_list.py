"""Token Status List (draft-ietf-oauth-status-list-21): a token's place in a list, and the list.

Pure: reads the claims of tokens and of status list tokens whose signatures are verified elsewhere.
A list is kept as the octets of its array, so that a million statuses of one bit take 125 kB.
"""

from __future__ import annotations

import binascii
import re
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from bearerguard.errors import BAD_STATUS, TokenError, quoted
from bearerguard.protocol import names
from bearerguard.protocol.jose import base64url
from bearerguard.protocol.jose.jwt import MAX_FUTURE, is_date

MEDIA_TYPE = f"application/{names.STATUS_LIST_JWT}"
# 67 million statuses of one bit. A compressed list of half a megabyte may expand a thousandfold.
MAX_OCTETS = 2**23
MAX_URI = 2048
# The values that the draft defines (§7.1); others have a meaning that issuer and API agree on.
VALID, INVALID, SUSPENDED = 0, 1, 2

_BITS = (1, 2, 4, 8)
# Larger numbers are not exact as a double.
_MAX_NUMBER = 2**53


@dataclass(frozen=True, slots=True)
class StatusReference:
    """Where the status of a token is: its index in the list at `uri` (§6.2)."""

    uri: str
    index: int


@dataclass(frozen=True, slots=True)
class StatusList:
    """The statuses of many tokens (§4.1).

    Attributes:
        bits: how many bits each status has: 1, 2, 4 or 8.
        octets: the array; the first status is in the lowest bits of the first octet.
    """

    bits: int
    octets: bytes = field(repr=False)

    def __len__(self) -> int:
        return len(self.octets) * 8 // self.bits

    def __getitem__(self, index: int) -> int:
        """Return a status; raises IndexError for an index that is not in the list."""
        octet, position = divmod(index * self.bits, 8)
        if index < 0:
            raise IndexError(index)
        return (self.octets[octet] >> position) & ((1 << self.bits) - 1)


@dataclass(frozen=True, slots=True)
class PublishedList:
    """A status list token (§5.1).

    Attributes:
        statuses: the list.
        ttl: for how many seconds it may be cached, None where it does not say.
        expires_at: its `exp` in Unix seconds, None without one.
    """

    statuses: StatusList
    ttl: float | None
    expires_at: float | None


def reference(claims: Mapping[str, Any]) -> StatusReference | None:
    """Return where the status of a token is; None for a token that does not say (§6.2).

    Raises `TokenError` for a malformed reference.
    """
    status = claims.get("status")
    if status is None:
        return None
    if not isinstance(status, Mapping):
        raise _bad("its status is no object")
    place = status.get("status_list")
    if place is None:
        # Another mechanism (§6.1), of which nothing is known here.
        raise _bad("its status has no status_list: let the issuer send one")
    if not isinstance(place, Mapping):
        raise _bad("its status_list is no object")
    uri, index = place.get("uri"), place.get("idx")
    if not isinstance(uri, str) or not 0 < len(uri) <= MAX_URI:
        raise _bad("the uri of its status_list is no text")
    if not _is_integer(index) or not 0 <= index < _MAX_NUMBER:
        raise _bad(f"the idx of its status_list is {quoted(index)}, no index")
    return StatusReference(uri, index)


def read(
    claims: Mapping[str, Any],
    *,
    uri: str,
    issuers: Collection[str],
    now: float,
    leeway: float,
) -> PublishedList:
    """Return the list in a status list token whose signature and `typ` are verified (§8.3).

    Args:
        claims: those of the token.
        uri: where it was fetched; `sub` must be equal.
        issuers: the names of the issuer whose key signed it. `iss` may be absent.
        now: Unix seconds.
        leeway: seconds for which an expired list is accepted.

    Raises ValueError: the text says what is wrong.
    """
    if claims.get("sub") != uri:
        raise ValueError(f"its sub is {quoted(claims.get('sub'))}, not the uri")
    issuer = claims.get("iss")
    if issuer is not None and issuer not in issuers:
        raise ValueError(f"its iss is {quoted(issuer)}")
    if _number(claims, "iat", required=True) > now + MAX_FUTURE:
        raise ValueError("its iat is in the future")
    expires_at = _number(claims, "exp") if claims.get("exp") is not None else None
    if expires_at is not None and now >= expires_at + leeway:
        raise ValueError(f"it expired {now - expires_at:.0f} s ago")
    if claims.get("nbf") is not None and _number(claims, "nbf") > now + leeway:
        raise ValueError("its nbf is in the future")
    ttl = _number(claims, "ttl") if claims.get("ttl") is not None else None
    if ttl is not None and not ttl > 0:
        raise ValueError("its ttl is not positive")
    return PublishedList(decode(claims.get("status_list")), ttl, expires_at)


def decode(status_list: object) -> StatusList:
    """Return the list in a claim `status_list` (§4.2); raises ValueError for anything else."""
    if not isinstance(status_list, Mapping):
        raise ValueError("its status_list is no object")  # noqa: TRY004 - one error for all
    bits, packed = status_list.get("bits"), status_list.get("lst")
    if not _is_integer(bits) or bits not in _BITS:
        raise ValueError(f"its bits are {quoted(bits)}, not 1, 2, 4 or 8")
    if not isinstance(packed, str):
        raise ValueError("its lst is no text")  # noqa: TRY004 - as above
    try:
        compressed = base64url.decode(packed.encode("ascii"))
    except (ValueError, binascii.Error):
        raise ValueError("its lst is no base64url") from None
    return StatusList(bits, _decompressed(compressed))


def encode(statuses: Iterable[int], bits: int = 1) -> dict[str, Any]:
    """Return the claim `status_list` for these statuses, in the order of their indices (§4.2).

    Raises ValueError for a status that does not fit `bits`, and for other bits than 1, 2, 4 and 8.
    """
    if bits not in _BITS:
        raise ValueError("bits: choose 1, 2, 4 or 8")
    octets, position = bytearray(), 0
    for status in statuses:
        if not 0 <= status < 1 << bits:
            raise ValueError(f"a status of {bits} bits is from 0 to {(1 << bits) - 1}")
        if not position:
            octets.append(0)
        octets[-1] |= status << position
        position = (position + bits) % 8
    packed = base64url.encode(zlib.compress(bytes(octets), 9)).decode()
    return {"bits": bits, "lst": packed}


def named(status: int) -> str:
    """Return the name of a status for an operator (§7.1)."""
    text = {VALID: "VALID", INVALID: "INVALID", SUSPENDED: "SUSPENDED"}.get(status)
    return f"{text} ({status})" if text else f"{status}, whose meaning the issuer defines"


def _decompressed(compressed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        octets = unpacking.decompress(compressed, MAX_OCTETS + 1)
    except zlib.error:
        raise ValueError("its lst is not compressed with ZLIB") from None
    if len(octets) > MAX_OCTETS:
        raise ValueError(f"its lst has more than {MAX_OCTETS} octets")
    if not unpacking.eof or unpacking.unused_data:
        raise ValueError("its lst is cut off, or followed by something else")
    return octets


def _number(claims: Mapping[str, Any], name: str, *, required: bool = False) -> float:
    value = claims.get(name)
    if not is_date(value):
        missing = "missing or " if required else ""
        raise ValueError(f"its {name} is {missing}no number of seconds")
    return value


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _bad(remedy: str) -> TokenError:
    return TokenError(BAD_STATUS, remedy)


# Where lists may be fetched

# What `*` stands for: path segments, none of them "." or "..", and no query.
_REST = re.compile(r"(?:(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+(?:/|$))+")
_PATTERN = re.compile(r"https?://[^/?#@*\s\\]+/[^?#*\s\\]*\*?")


def pattern_mistake(pattern: str) -> str | None:
    """Return what is wrong with a pattern of URIs, None if nothing is.

    A pattern is a URL, whose path may end with `*`.
    """
    if not _PATTERN.fullmatch(pattern):
        return "is no URL with a path, which may end with *"
    return None


def is_allowed(uri: str, patterns: Iterable[str]) -> bool:
    """Whether a URI fits one of the patterns; a `*` stands for one or more path segments."""
    for pattern in patterns:
        if uri == pattern and not pattern.endswith("*"):
            return True
        prefix = pattern[:-1]
        if pattern.endswith("*") and uri.startswith(prefix) and _REST.fullmatch(uri[len(prefix) :]):
            return True
    return False
