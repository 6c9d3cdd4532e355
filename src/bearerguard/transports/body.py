"""The body of a response, up to a cap: as it came, and decompressed where a server compresses it.

Identity is asked for; some servers compress whatever is asked. The cap holds for what is read and
for what comes out of it, so that a small body cannot become a large one.
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
# RFC 1952 §2.2 lets members follow one another; thousands of empty ones only cost time.
_MAX_MEMBERS = 16
# What describes the body as it was sent.
_OF_THE_CODING = frozenset({"content-encoding", "content-length"})


class Body:
    """Collects a body."""

    def __init__(self, url: str, answer: httpx2.Response, max_bytes: int) -> None:
        self._url = url
        self._status = answer.status_code
        self._headers = headers = answer.headers
        self._max_bytes = self._left = max_bytes
        self._chunks: list[bytes] = []
        named = headers.get("content-encoding", "").lower().split(",")
        codings = [each.strip() for each in named if each.strip() not in {"", "identity"}]
        if len(codings) > 1 or not _GZIP.issuperset({*codings} - {_DEFLATE}):
            raise self._failed(f"the answer is compressed by {quoted(', '.join(codings))}")
        self._coding = codings[0] if codings else None
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        """Take a part of the body; raises `FetchFailed` when it is too large."""
        self._left -= len(chunk)
        if self._left < 0:
            raise self._too_large()
        self._chunks.append(chunk)

    def whole(self) -> bytes:
        """Return the body; raises `FetchFailed` where it does not decompress, or to too much."""
        body = b"".join(self._chunks)
        if self._coding is None or not body:
            return body
        try:
            return self._decompressed(body)
        except zlib.error:
            raise self._failed("the answer is not what its Content-Encoding says") from None

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the header lines, without those on a coding that is undone."""
        lines = self._headers.multi_items()
        if self._coding is None:
            return tuple(lines)
        return tuple(line for line in lines if line[0].lower() not in _OF_THE_CODING)

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
                raise self._failed("the compressed answer is cut off")
            body = decompressor.unused_data
            if not body:
                return b"".join(parts)
        raise self._too_large()

    def _too_large(self) -> FetchFailed:
        return FetchFailed(
            f"{self._url}: the answer is too large: HttpTransport(max_bytes={self._max_bytes})",
            kind="too_large",
            status=self._status,
        )

    def _failed(self, words: str) -> FetchFailed:
        return FetchFailed(f"{self._url}: {words}", kind="encoding", status=self._status)


def _deflate_bits(body: bytes) -> int:
    """Return how to read "deflate": as RFC 9110 §8.4.1.2 says, or raw as some servers send it."""
    start = int.from_bytes(body[:_HEADER], "big")
    is_zlib = start % _CHECK == 0 and (body[0] & _METHOD_MASK) == _METHOD
    return _ZLIB_BITS if is_zlib else _RAW_BITS
