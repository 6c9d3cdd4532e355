"""The body of a response, up to a limit, decompressed where the server compressed it.

Requests ask for an uncompressed body, but some servers compress nevertheless. The limit holds
before and after decompression, so that a small body cannot become a large one.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

from bearerguard.errors import quoted
from bearerguard.runtime.messages import FetchFailed

if TYPE_CHECKING:
    import httpx2

_GZIP, _DEFLATE = frozenset({"gzip", "x-gzip"}), "deflate"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
# RFC 1950 §2.2: a zlib header is a multiple of 31, and its method is 8.
_CHECK, _METHOD_MASK, _METHOD = 31, 0x0F, 8
_HEADER = 2
# RFC 1952 §2.2 allows several members in sequence; thousands of empty ones would only cost time.
_MAX_MEMBERS = 16
_MAX_DIGITS = 20  # Python refuses to parse a number of thousands of digits
# Fields that describe the body as it was sent.
_CODING_FIELDS = frozenset({"content-encoding", "content-length"})


class Body:
    """Collects the body of one response."""

    def __init__(self, url: str, response: httpx2.Response, max_bytes: int) -> None:
        self._url = url
        self._status = response.status_code
        self._headers = headers = response.headers
        self._max_bytes = self._left = max_bytes
        self._chunks: list[bytes] = []
        named = headers.get("content-encoding", "").lower().split(",")
        codings = [each.strip() for each in named if each.strip() not in {"", "identity"}]
        if len(codings) > 1 or not _GZIP.issuperset({*codings} - {_DEFLATE}):
            raise self._failed(f"the response is compressed by {quoted(', '.join(codings))}")
        self._coding = codings[0] if codings else None
        announced = headers.get("content-length", "")
        if announced.isdecimal() and (len(announced) > _MAX_DIGITS or int(announced) > max_bytes):
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        """Add a part of the body; raises `FetchFailed` when the body is too large."""
        self._left -= len(chunk)
        if self._left < 0:
            raise self._too_large()
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Return the body; raises `FetchFailed` where decompression fails or exceeds the limit."""
        body = b"".join(self._chunks)
        if self._coding is None or not body:
            return body
        try:
            return self._decompressed(body)
        except zlib.error:
            raise self._failed("the body does not match its Content-Encoding") from None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the header fields, without those that describe a coding which was removed."""
        fields = self._headers.multi_items()
        if self._coding is None:
            return tuple(fields)
        return tuple(field for field in fields if field[0].lower() not in _CODING_FIELDS)

    def _decompressed(self, body: bytes) -> bytes:
        bits = _GZIP_BITS if self._coding != _DEFLATE else _deflate_bits(body)
        parts: list[bytes] = []
        left = self._max_bytes
        for _ in range(_MAX_MEMBERS):
            decompressor = zlib.decompressobj(bits)
            parts.append(decompressor.decompress(body, left + 1))
            left -= len(parts[-1])
            if left < 0:
                raise self._too_large()
            if not decompressor.eof:
                raise self._failed("the compressed body is cut off")
            body = decompressor.unused_data
            if not body:
                return b"".join(parts)
        raise self._too_large()

    def _too_large(self) -> FetchFailed:
        return FetchFailed(
            f"{self._url}: the response is too large: HttpTransport(max_bytes={self._max_bytes})",
            kind="too_large",
            status=self._status,
        )

    def _failed(self, words: str) -> FetchFailed:
        return FetchFailed(f"{self._url}: {words}", kind="encoding", status=self._status)


def _deflate_bits(body: bytes) -> int:
    """Return the format of a "deflate" body: zlib (RFC 9110 §8.4.1.2), or raw from some servers."""
    start = int.from_bytes(body[:_HEADER], "big")
    is_zlib = start % _CHECK == 0 and (body[0] & _METHOD_MASK) == _METHOD
    return _ZLIB_BITS if is_zlib else _RAW_BITS
