"""Neutral HTTP values: what a face hands to the guard and what a transport brings back.

Knows nothing of ASGI, WSGI, sockets or frameworks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

# What became of a fetch (FETCH-01). A `status` or a document that is no JSON is a response of
# its own; the others say why there is none.
FetchKind: TypeAlias = Literal[
    "unknown_host",
    "refused",
    "unreachable",
    "timed_out",
    "tls",
    "closed",
    "too_large",
    "encoding",
    "invalid_url",
    "redirect",
    "status",
    "not_json",
    "metadata",
]
# Asking again changes nothing about these: an operator has to.
_LASTING: frozenset[FetchKind | None] = frozenset(
    ("unknown_host", "tls", "too_large", "encoding", "invalid_url", "redirect", "not_json")
)

HeaderPairs: TypeAlias = Iterable[tuple[bytes | str, bytes | str]]


@dataclass(frozen=True, slots=True, init=False)
class Request:
    """A request as the guard sees it.

    `headers` may be given as a mapping or as pairs, of str or bytes; they are kept
    as `(lower-case name, value)` pairs of bytes in the order received, repeated
    lines included. `url` is absolute, or the path and query alone. `body` is what the
    authorization server reads, and `peer` the address of who sent it to this process;
    a guard needs neither.
    """

    method: str
    url: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    peer: str

    def __init__(
        self,
        method: str = "GET",
        url: str = "/",
        headers: Mapping[str, str] | HeaderPairs = (),
        body: bytes = b"",
        *,
        peer: str = "",
    ) -> None:
        given = headers.items() if isinstance(headers, Mapping) else headers
        pairs = cast("HeaderPairs", given)
        object.__setattr__(self, "method", method)
        object.__setattr__(self, "url", url)
        object.__setattr__(
            self,
            "headers",
            tuple((_octets(name).lower(), _octets(value)) for name, value in pairs),
        )
        object.__setattr__(self, "body", body)
        object.__setattr__(self, "peer", peer)

    def __repr__(self) -> str:
        """Name the method alone: a URL, a header or a body may carry a token."""
        return f"Request({self.method!r})"

    def values(self, name: bytes) -> list[bytes]:
        """Return the value of every header line called `name` (lower case)."""
        return [value for key, value in self.headers if key == name]


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer: a status, header lines in order, and a body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the first header line called `name`, in any case, or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class FetchFailed(Exception):
    """No usable response came; the text names the address and the cause, never what was sent.

    Attributes:
        kind: which failure it was, None where the transport does not say.
        temporary: whether asking again later may help, without anybody changing anything.
        status: that of an answer whose body cannot be read; None where there is none.
    """

    def __init__(
        self,
        text: str = "",
        *,
        kind: FetchKind | None = None,
        temporary: bool | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(text)
        self.kind: FetchKind | None = kind
        self.status = status
        self.temporary = kind not in _LASTING if temporary is None else temporary


class StoreFailed(Exception):
    """The store shared by the workers gave no usable answer.

    Its text names the cause, never a value nor a password.
    """


def _octets(text: bytes | str) -> bytes:
    # Header text is octets in disguise (RFC 9110 §5.5); what does not fit becomes "?",
    # which no credentials grammar admits.
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")
