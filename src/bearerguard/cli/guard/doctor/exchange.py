"""The doctor's requests, bounded in number and time, and their responses.

No request carries credentials. A host that cannot be reached gets no further request.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import urlsplit

from bearerguard.protocol.http import document
from bearerguard.protocol.resource_metadata import origin
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, FetchKind, HeaderPairs, Response
from bearerguard.transports.tls_peer import TlsPeer, tls_peer

MAX_REQUESTS, MAX_SECONDS = 100, 60.0
_HTTPS_PORT = 443
# After such a failure, or after two timeouts, the other requests to the origin are not sent.
_LASTING: frozenset[FetchKind | None] = frozenset({"unknown_host", "refused", "unreachable", "tls"})
_MAX_TIMEOUTS = 2


class Fetcher(Protocol):
    """Sends one request, as a transport does."""

    def fetch(self, request: Fetch) -> Response:
        """Return the response; raise `FetchFailed` when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, and its response or why there was none.

    `seconds` is how long it took, `received_at` the time of the response in Unix seconds.
    """

    request: Fetch
    response: Response | None
    failure: FetchFailed | None
    seconds: float
    received_at: float

    @property
    def url(self) -> str:
        """The URL of the request."""
        return self.request.url

    @property
    def status(self) -> int:
        """The status of the response; 0 for none."""
        return 0 if self.response is None else self.response.status

    @property
    def body(self) -> bytes:
        """The body of the response; empty for none."""
        return b"" if self.response is None else self.response.body

    @property
    def is_success(self) -> bool:
        """Whether there is a response, with a status of success."""
        return self.response is not None and document.is_success(self.response)

    @property
    def is_redirect(self) -> bool:
        """Whether there is a response, and it redirects."""
        return self.response is not None and document.redirect(self.response) != ""

    def values(self, name: str) -> list[str]:
        """Return the values of the response's fields called `name`, which is in lower case."""
        headers = () if self.response is None else self.response.headers
        return [value for key, value in headers if key.lower() == name]

    def field(self, name: str) -> str:
        """Return the values of a field, joined by commas; empty for none."""
        return ", ".join(self.values(name))


class Requester:
    """Sends the requests of one examination; the same request is sent once.

    Args:
        transport: sends each request.
        ssl_context: checks certificates.
        timeout: seconds for the TLS handshake that reads a certificate.
        clock: returns Unix seconds.
        max_requests: how many requests are sent at most.
        max_seconds: for how many seconds requests are sent at most.

    Attributes:
        left_out: how many requests were not sent because of these limits.
    """

    def __init__(
        self,
        transport: Fetcher,
        ssl_context: ssl.SSLContext,
        *,
        timeout: float = 5.0,
        clock: Callable[[], float] = time.time,
        max_requests: int = MAX_REQUESTS,
        max_seconds: float = MAX_SECONDS,
    ) -> None:
        self._transport = transport
        self._ssl_context = ssl_context
        self._timeout = timeout
        self.clock: Callable[[], float] = clock
        self._max_requests = max_requests
        self._ends = time.monotonic() + max_seconds
        self._failed: dict[str, list[FetchFailed]] = {}
        self._known: dict[Fetch, Exchange] = {}
        self.left_out: int = 0

    @property
    def exchanges(self) -> tuple[Exchange, ...]:
        """All exchanges, in order."""
        return tuple(self._known.values())

    def get(self, url: str, *headers: tuple[str, str]) -> Exchange:
        """Send a GET request."""
        return self.send("GET", url, headers)

    def send(self, method: str, url: str, headers: HeaderPairs = (), body: bytes = b"") -> Exchange:
        """Send a request, unless the same was sent before."""
        pairs = tuple((str(name), str(value)) for name, value in headers)
        request = Fetch(method, url, pairs, body)
        if request not in self._known:
            self._known[request] = self._sent(request)
        return self._known[request]

    def _sent(self, request: Fetch) -> Exchange:
        try:
            place = origin(request.url)
        except ValueError:
            place = request.url
        failed = self._failed.setdefault(place, [])
        began = time.monotonic()
        if failed and (failed[-1].kind in _LASTING or len(failed) >= _MAX_TIMEOUTS):
            return Exchange(request, None, failed[-1], 0.0, self.clock())
        if len(self._known) >= self._max_requests or began > self._ends:
            self.left_out += 1
            skipped = FetchFailed(f"{request.url}: not requested: the limit was reached")
            return Exchange(request, None, skipped, 0.0, self.clock())
        try:
            response = self._transport.fetch(request)
        except FetchFailed as error:
            if error.kind in _LASTING or error.kind == "timed_out":
                failed.append(error)
            return Exchange(request, None, error, time.monotonic() - began, self.clock())
        return Exchange(request, response, None, time.monotonic() - began, self.clock())

    def tls_peer(self, url: str) -> TlsPeer | FetchFailed:
        """Return what the TLS handshake with a URL's host shows, or why it fails."""
        parts = urlsplit(url)
        try:
            return tls_peer(
                parts.hostname or "",
                parts.port or _HTTPS_PORT,
                context=self._ssl_context,
                timeout=self._timeout,
            )
        except FetchFailed as error:
            return error
