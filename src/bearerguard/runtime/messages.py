"""HTTP requests and responses as plain values: for adapters, endpoints and transports.

Knows nothing of ASGI, WSGI, sockets or frameworks.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, cast

from bearerguard.errors import BearerGuardError

# Why a fetch failed (FETCH-01). With `status`, `redirect`, `not_json` and `metadata` there was a
# response, with the others none.
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
    "forbidden",
    "redirect",
    "status",
    "not_json",
    "metadata",
]
# Failures that last until an operator changes something.
_LASTING: frozenset[FetchKind | None] = frozenset(
    (
        *("unknown_host", "tls", "too_large", "encoding", "invalid_url", "forbidden"),
        *("redirect", "not_json"),
    )
)

HeaderPairs: TypeAlias = Iterable[tuple[bytes | str, bytes | str]]


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """The certificate that a client has presented in the TLS handshake.

    Attributes:
        thumbprint: the base64url of the SHA-256 of its DER (`x5t#S256`, RFC 8705 §3.1).
        der: the certificate; None where a proxy has sent its digest alone.
        chain: the certificates after it, in DER, as far as they were sent; none is verified.
    """

    thumbprint: str
    der: bytes | None = field(default=None, repr=False, compare=False)
    chain: tuple[bytes, ...] = field(default=(), repr=False, compare=False)


@dataclass(frozen=True, slots=True, init=False)
class Request:
    """A request as the guard and the authorization server see it.

    Args:
        method: the method as it was sent.
        url: the absolute URL, or its path and query alone.
        headers: a mapping or pairs, of str or bytes. The attribute has them as pairs of bytes in
            the order received, names in lower case, repeated fields included.
        body: the body, which only the authorization server reads.
        peer: the address that the connection comes from, which only the server reads.
        certificate: that of the TLS client, which only the server reads; None for none.
        certificate_problem: why there is none although one was received, for the log.
    """

    method: str
    url: str
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    peer: str
    certificate: ClientCertificate | None
    certificate_problem: str

    def __init__(
        self,
        method: str = "GET",
        url: str = "/",
        headers: Mapping[str, str] | HeaderPairs = (),
        body: bytes = b"",
        *,
        peer: str = "",
        certificate: ClientCertificate | None = None,
        certificate_problem: str = "",
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
        object.__setattr__(self, "certificate", certificate)
        object.__setattr__(self, "certificate_problem", certificate_problem)

    def __repr__(self) -> str:
        """Show the method alone: a URL, a header or a body may hold a token."""
        return f"Request({self.method!r})"

    def values(self, name: bytes) -> list[bytes]:
        """Return the value of every header field called `name`, which is given in lower case."""
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """Return the value of a header field by its lower-case name, None for none.

        The values of a repeated one are joined by commas (RFC 9110 §5.3).
        """
        values = self.values(name.encode())
        return b", ".join(values).decode("latin-1") if values else None


@dataclass(frozen=True, slots=True)
class Response:
    """A complete response: a status, header fields in order, and a body."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """Return the value of the first header field called `name`, in any case, or None."""
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class FetchFailed(BearerGuardError):
    """A fetch had no usable response. The text names the URL and the cause, nothing that was sent.

    A transport raises it.

    Attributes:
        kind: why it failed, None where the transport does not say.
        temporary: whether trying again later may help, without any change.
        status: the status of a response whose body cannot be read, else None.
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
        self.temporary: bool = kind not in _LASTING if temporary is None else temporary


class StoreFailed(BearerGuardError):
    """An operation of a shared store failed. The text names the cause, no value or password."""


def _octets(text: bytes | str) -> bytes:
    # Header text stands for octets (RFC 9110 §5.5); other characters become "?", which no grammar
    # of credentials admits.
    return text if isinstance(text, bytes) else text.encode("latin-1", "replace")
