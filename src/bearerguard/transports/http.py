"""The HTTP transport: answers `Fetch` over httpx2, for threads and for tasks.

Owns the limits that make a fetch safe: no redirects, a size cap, a deadline. A fetch opens
and closes its own connection, unless it says that more will follow soon. Knows nothing of
tokens or keys.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from collections.abc import Iterable
from contextlib import aclosing, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from bearerguard.addresses import is_loopback
from bearerguard.errors import ConfigurationError
from bearerguard.flow import Fetch
from bearerguard.messages import FetchFailed, Response
from bearerguard.transports.connections import Lines, LoopClients

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger("bearerguard")


class HttpTransport:
    """Fetches over HTTP/1.1.

    Args:
        timeout: seconds within which the whole answer must have come.
        ssl_context: for issuers behind a private certificate authority, or mutual TLS.
        proxy: the URL of a proxy; by default the environment's, but not for this machine.
        max_bytes: the longest body accepted; a JWKS of 100 keys has about 50 000.

    Raises:
        ConfigurationError: a limit is not positive.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        proxy: str | None = None,
        max_bytes: int = 524_288,
    ) -> None:
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigurationError("timeout=: pass a positive number of seconds")
        if not isinstance(max_bytes, int) or not max_bytes > 0:
            raise ConfigurationError("max_bytes=: pass a positive number of bytes")
        self._timeout = timeout
        self._ssl_context = ssl_context
        self._proxy = proxy
        self._max_bytes = max_bytes
        self._warned = False
        self._lines = Lines(self._client)
        self._loop_clients = LoopClients(self._async_client)
        self._direct_loop_clients = LoopClients(lambda: self._async_client(direct=True))

    def fetch(self, request: Fetch) -> Response:
        """Answer in the calling thread; raises `FetchFailed` when there is no answer."""
        self._warn_on_a_running_loop()
        if not request.keep_alive:
            with self._client(_origin(request.url)) as client:
                return self._exchange(request, client, _Deadline(self._timeout))
        origin = _origin(request.url)
        line = self._lines.take(origin)
        deadline = _Deadline(self._timeout, line.stream)
        try:
            try:
                answer = self._exchange(request, line.client, deadline)
            except _Dead:
                line.client.close()
                line = self._lines.take(origin, fresh=True)
                deadline = _Deadline(self._timeout)
                answer = self._exchange(request, line.client, deadline)
        except BaseException:
            line.client.close()
            raise
        line.stream = deadline.stream
        self._lines.give_back(origin, line)
        return answer

    async def afetch(self, request: Fetch) -> Response:
        """Answer in the running event loop; raises `FetchFailed` when there is no answer."""
        import anyio  # noqa: PLC0415

        try:
            direct = is_here(request.url)
            with anyio.fail_after(self._timeout):
                if not request.keep_alive:
                    async with self._async_client(direct=direct) as client:
                        return await self._aexchange(request, client)
                clients = self._direct_loop_clients if direct else self._loop_clients
                client = await clients.client()
                try:
                    return await self._aexchange(request, client)
                except _Dead:  # as were perhaps all that were kept: this one is new
                    async with self._async_client(direct=direct) as fresh:
                        return await self._aexchange(request, fresh)
        except TimeoutError:
            raise FetchFailed(f"{request.url}: no whole answer in {self._timeout} s") from None

    def close(self) -> None:
        """Close the connections kept for threads; the next fetch opens another."""
        self._lines.close()

    async def aclose(self) -> None:
        """Do as `close`, and close the connections kept for the running event loop."""
        self.close()
        await self._loop_clients.aclose()
        await self._direct_loop_clients.aclose()

    def _exchange(self, request: Fetch, client: httpx2.Client, deadline: _Deadline) -> Response:
        import httpx2  # noqa: PLC0415 - costly to import, and warm requests never need it

        try:
            with (
                deadline,
                client.stream(
                    **_arguments(request), extensions={"trace": deadline.trace}
                ) as answer,
            ):
                body = _Body(request.url, answer.headers, self._max_bytes)
                for chunk in answer.iter_raw():
                    body.add(chunk)
                if not deadline.passed:
                    return body.response(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            if not deadline.passed:
                raise _failure(request, error, connected=deadline.connected) from error
        raise FetchFailed(f"{request.url}: no whole answer in {self._timeout} s")

    async def _aexchange(self, request: Fetch, client: httpx2.AsyncClient) -> Response:
        import httpx2  # noqa: PLC0415

        connected = False

        async def trace(event: str, _info: dict[str, Any]) -> None:
            nonlocal connected
            connected |= event.endswith(".connect_tcp.started")

        try:
            async with (
                client.stream(**_arguments(request), extensions={"trace": trace}) as answer,
                aclosing(answer.aiter_raw()) as chunks,
            ):
                body = _Body(request.url, answer.headers, self._max_bytes)
                async for chunk in chunks:
                    body.add(chunk)
                return body.response(answer)
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            raise _failure(request, error, connected=connected) from error

    def _client(self, origin: str) -> httpx2.Client:
        import httpx2  # noqa: PLC0415

        return httpx2.Client(**self._options(direct=is_here(origin)))

    def _async_client(self, *, direct: bool = False) -> httpx2.AsyncClient:
        import httpx2  # noqa: PLC0415

        return httpx2.AsyncClient(**self._options(direct=direct))

    def _options(self, *, direct: bool) -> dict[str, Any]:
        """Return a client's options; `direct` for this machine, where secrets go in plain http."""
        import httpx2  # noqa: PLC0415

        if self._ssl_context is None:
            self._ssl_context = httpx2.create_ssl_context()
        return {
            "verify": self._ssl_context,
            "proxy": self._proxy,
            "trust_env": not direct,  # no proxy of the environment gets what is for this machine
            "timeout": self._timeout,
            "follow_redirects": False,
            # A kept client must not carry one answer's cookies into the next request.
            "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        }

    def _warn_on_a_running_loop(self) -> None:
        if not self._warned and _loop_is_running():
            self._warned = True
            _log.warning(
                "a synchronous call fetches over HTTP on a running event loop and blocks it:"
                " use averify(), awarm() or arun() in async code"
            )


class _Deadline:
    """Cuts a thread's connection when the time for the whole answer is over.

    httpx2's own timeouts bound each read, so that an answer that trickles would hold its
    reader for ever.
    """

    def __init__(self, seconds: float, stream: Any = None) -> None:
        self.passed = False
        self.connected = False
        self.stream: Any = stream
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note the connection: the one over TLS takes the place of the one below it."""
        self.connected |= event.endswith(".connect_tcp.started")
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.stream = info["return_value"]
            if self.passed:  # connecting alone took too long
                self._cut()

    def _cut(self) -> None:
        self.passed = True
        if self.stream is not None:
            with suppress(OSError):  # is closed already
                self.stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _Body:
    """Collects a body up to the size cap."""

    def __init__(self, url: str, headers: httpx2.Headers, max_bytes: int) -> None:
        self._url = url
        self._left = max_bytes
        self._chunks: list[bytes] = []
        # Identity was asked for; a compressed body would get around the size cap.
        if headers.get("content-encoding", "identity").lower() != "identity":
            raise FetchFailed(f"{url}: the answer is compressed")
        announced = headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > max_bytes:
            raise self._too_large()

    def add(self, chunk: bytes) -> None:
        self._left -= len(chunk)
        if self._left < 0:
            raise self._too_large()
        self._chunks.append(chunk)

    def _too_large(self) -> FetchFailed:
        return FetchFailed(f"{self._url}: the answer is too large")

    def response(self, answer: httpx2.Response) -> Response:
        headers: Iterable[tuple[str, str]] = answer.headers.multi_items()
        return Response(answer.status_code, tuple(headers), b"".join(self._chunks))


def _arguments(request: Fetch) -> dict[str, Any]:
    return {
        "method": request.method,
        "url": request.url,
        "headers": [*request.headers, ("accept-encoding", "identity")],
        "content": request.body,
    }


class _Dead(FetchFailed):
    """A kept connection that the server had closed: a new one may well do."""


def _failure(request: Fetch, error: Exception, *, connected: bool) -> FetchFailed:
    import httpx2  # noqa: PLC0415

    lost = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
    kind = _Dead if lost and request.keep_alive and not connected else FetchFailed
    # The error's own text may quote what was sent; its type says enough.
    return kind(f"{request.url}: {type(error).__name__}")


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine, so that no proxy of the environment may see it."""
    with suppress(ValueError):  # which is refused as a URL elsewhere
        return is_loopback(urlsplit(url).hostname or "")
    return False


def _loop_is_running() -> bool:
    asyncio, trio = sys.modules.get("asyncio"), sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return True
    if asyncio is None:
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
