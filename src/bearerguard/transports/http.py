"""The HTTP transport: handles `Fetch` over httpx2, for threads and for tasks.

Owns the limits that make a fetch safe: no redirects, a maximum size, a deadline. A fetch opens and
closes a connection of its own, unless its connection may be kept (`Fetch.keep_alive`). Knows
nothing of tokens or keys.
"""

from __future__ import annotations

import logging
import socket
import ssl
import sys
import threading
from contextlib import aclosing, suppress
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.runtime.addresses import is_loopback
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.transports.body import Body
from bearerguard.transports.connections import IdleConnections, LoopClients
from bearerguard.transports.request_headers import GivenHeaders, HeaderFields, checked_headers

if TYPE_CHECKING:
    import httpx2

_log = logging.getLogger("bearerguard")


class HttpTransport:
    """Fetches over HTTP/1.1.

    Args:
        timeout: seconds until the whole response must have arrived, name resolution included.
        ssl_context: for issuers with a private certificate authority.
        client_certificate: what is presented to servers that ask for a certificate (mutual TLS):
            the path of a PEM file with the certificate, its chain and its key, or a pair of paths,
            of the certificate and of the key. It is loaded into `ssl_context`, if that is passed.
        proxy: the URL of a proxy; by default the environment's, but none for this machine.
        max_bytes: the longest body accepted in bytes, before and after decompression; a JWKS
            of 100 keys has about 50 000.
        headers: further header fields for every request, as a dict or pairs, such as a
            `User-Agent` that a firewall accepts instead of `bearerguard/VERSION`. Their values
            are never logged; credentials have options of their own.

    Raises:
        ConfigurationError: a limit is not positive, a header field cannot be sent, or there is no
            certificate.
    """

    def __init__(
        self,
        *,
        timeout: float = 5.0,
        ssl_context: ssl.SSLContext | None = None,
        client_certificate: str | tuple[str, str] | None = None,
        proxy: str | None = None,
        max_bytes: int = 524_288,
        headers: GivenHeaders | None = None,
    ) -> None:
        if not isinstance(timeout, int | float) or not timeout > 0:
            raise ConfigurationError("timeout=: pass a positive number of seconds")
        if not isinstance(max_bytes, int) or not max_bytes > 0:
            raise ConfigurationError("max_bytes=: pass a positive number of bytes")
        self._timeout = timeout
        self._ssl_context = (
            ssl_context
            if client_certificate is None
            else _presenting(client_certificate, ssl_context)
        )
        self._proxy = proxy
        self._max_bytes = max_bytes
        self._headers = _with_user_agent(checked_headers(headers))
        self._warned = False
        self._idle = IdleConnections(self._client)
        self._loop_clients = LoopClients(self._async_client)
        self._direct_loop_clients = LoopClients(lambda: self._async_client(direct=True))

    def fetch(self, request: Fetch) -> Response:
        """Return the response, in the calling thread; raises `FetchFailed` when there is none."""
        self._warn_on_a_running_loop()
        seconds = self._timeout * request.share
        if not request.keep_alive:
            with self._client(_origin(request.url)) as client:
                return self._exchange(request, client, _Deadline(seconds))
        origin = _origin(request.url)
        connection = self._idle.take(origin)
        deadline = _Deadline(seconds, connection.stream)
        try:
            try:
                response = self._exchange(request, connection.client, deadline)
            except _Dead:
                connection.client.close()
                connection = self._idle.take(origin, fresh=True)
                deadline = _Deadline(seconds)
                response = self._exchange(request, connection.client, deadline)
        except BaseException:
            connection.client.close()
            raise
        connection.stream = deadline.stream
        self._idle.give_back(origin, connection)
        return response

    async def afetch(self, request: Fetch) -> Response:
        """Do as `fetch`, in the running event loop."""
        import anyio  # noqa: PLC0415 - at the first request

        seconds = self._timeout * request.share
        try:
            direct = is_here(request.url)
            with anyio.fail_after(seconds):
                if not request.keep_alive:
                    async with self._async_client(direct=direct) as client:
                        return await self._aexchange(request, client)
                clients = self._direct_loop_clients if direct else self._loop_clients
                client = await clients.client()
                try:
                    return await self._aexchange(request, client)
                except _Dead:  # other kept connections may be dead too: use a new one
                    async with self._async_client(direct=direct) as fresh:
                        return await self._aexchange(request, fresh)
        except TimeoutError:
            raise _timed_out(request, seconds) from None

    def close(self) -> None:
        """Close the idle connections of threads; the next fetch opens another."""
        self._idle.close()

    async def aclose(self) -> None:
        """Do as `close`, and close the connections of the running event loop."""
        self.close()
        await self._loop_clients.aclose()
        await self._direct_loop_clients.aclose()

    def _exchange(self, request: Fetch, client: httpx2.Client, deadline: _Deadline) -> Response:
        import httpx2  # noqa: PLC0415 - costly to import, and warm requests never need it

        try:
            with (
                deadline,
                client.stream(
                    **self._arguments(request), extensions={"trace": deadline.trace}
                ) as response,
            ):
                body = Body(request.url, response, self._max_bytes)
                for chunk in response.iter_raw():
                    body.add(chunk)
                if not deadline.passed:
                    return Response(response.status_code, body.headers(), body.whole())
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            if not deadline.passed or deadline.stream is None:
                raise _failure(request, error, deadline.seconds, deadline.dialed) from error
        raise _timed_out(request, deadline.seconds)

    async def _aexchange(self, request: Fetch, client: httpx2.AsyncClient) -> Response:
        import httpx2  # noqa: PLC0415 - at the first request

        dialed: str | None = None

        async def trace(event: str, info: dict[str, Any]) -> None:
            nonlocal dialed
            dialed = _dialed(event, info) or dialed

        try:
            async with (
                client.stream(**self._arguments(request), extensions={"trace": trace}) as response,
                aclosing(response.aiter_raw()) as chunks,
            ):
                body = Body(request.url, response, self._max_bytes)
                async for chunk in chunks:
                    body.add(chunk)
                return Response(response.status_code, body.headers(), body.whole())
        except (httpx2.HTTPError, httpx2.InvalidURL, UnicodeError, OSError) as error:
            raise _failure(request, error, self._timeout * request.share, dialed) from error

    def _client(self, origin: str) -> httpx2.Client:
        import httpx2  # noqa: PLC0415 - at the first request

        client = httpx2.Client(**self._options(direct=is_here(origin)))
        self._dial(client)
        return client

    def _async_client(self, *, direct: bool = False) -> httpx2.AsyncClient:
        import httpx2  # noqa: PLC0415 - at the first request

        client = httpx2.AsyncClient(**self._options(direct=direct))
        self._dial(client)
        return client

    def _dial(self, client: httpx2.Client | httpx2.AsyncClient) -> None:
        from bearerguard.transports.dialing import dial_within_deadlines  # noqa: PLC0415 - at the first request

        dial_within_deadlines(client)

    def _options(self, *, direct: bool) -> dict[str, Any]:
        """Return the options of a client; `direct` for this machine, where http is allowed."""
        import httpx2  # noqa: PLC0415 - at the first request

        if self._ssl_context is None:
            self._ssl_context = httpx2.create_ssl_context()
        return {
            "verify": self._ssl_context,
            "proxy": self._proxy,
            "trust_env": not direct,  # requests to this machine use no proxy of the environment
            "timeout": self._timeout,
            "follow_redirects": False,
            # A kept client must not send the cookies of one response with the next request.
            "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[])),
        }

    def _arguments(self, request: Fetch) -> dict[str, Any]:
        own = {name.lower() for name, _ in request.headers}
        added = [field for field in self._headers if field[0].lower() not in own]
        return {
            "method": request.method,
            "url": request.url,
            "headers": [*request.headers, *added, ("accept-encoding", "identity")],
            "content": request.body,
            "timeout": self._timeout * request.share,
        }

    def _warn_on_a_running_loop(self) -> None:
        if not self._warned and _loop_is_running():
            self._warned = True
            _log.warning(
                "a synchronous call fetches over HTTP on a running event loop and blocks it:"
                " use averify(), awarm() or arun() in async code"
            )


def _presenting(
    certificate: str | tuple[str, str], context: ssl.SSLContext | None
) -> ssl.SSLContext:
    """Return a context that presents a certificate; raises `ConfigurationError`."""
    import httpx2  # noqa: PLC0415 - costly to import

    context = httpx2.create_ssl_context() if context is None else context
    given: object = certificate
    paths = (given, None) if isinstance(given, str) else given
    if (
        not isinstance(paths, tuple)
        or len(paths) != 2  # noqa: PLR2004 - a certificate and a key
        or not isinstance(paths[0], str)
    ):
        raise ConfigurationError(
            f"client_certificate=: it is {_shown(given)}: pass the path of a PEM file, or"
            " (certificate, key)"
        )
    try:
        # Without a password, OpenSSL would ask at the terminal.
        context.load_cert_chain(paths[0], paths[1], password=_no_password)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"client_certificate=: {' and '.join(_shown(each) for each in paths if each)}:"
            f" {getattr(error, 'strerror', None) or type(error).__name__}: pass the paths of a"
            " certificate and of its key, in PEM and not encrypted; or load them into ssl_context="
            " yourself"
        ) from None
    return context


def _shown(path: object) -> str:
    """Return a path for a message; anything else may hold a key."""
    is_path = isinstance(path, str) and "-----BEGIN" not in path
    return quoted(path) if is_path else "no path"


def _no_password() -> str:
    raise ValueError("the key is encrypted")


class _Deadline:
    """Closes a thread's connection when the time for the whole response is over.

    httpx2's own timeouts are for each read, so that a response which trickles would hold its
    reader for ever.
    """

    def __init__(self, seconds: float, stream: Any = None) -> None:
        self.passed = False
        self.seconds = seconds
        self.dialed: str | None = None
        self.stream: Any = stream
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Record the connection; the TLS stream replaces the TCP stream below it."""
        self.dialed = _dialed(event, info) or self.dialed
        if event.endswith((".connect_tcp.complete", ".start_tls.complete")):
            self.stream = info["return_value"]
            if self.passed:  # connecting alone took too long
                self._cut()

    def _cut(self) -> None:
        self.passed = True
        if self.stream is not None:
            with suppress(OSError):  # is closed already
                self.stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)


class _Dead(FetchFailed):
    """A kept connection that the server had closed: a new one may succeed."""


def _failure(request: Fetch, error: Exception, seconds: float, dialed: str | None) -> FetchFailed:
    import httpx2  # noqa: PLC0415 - at the first request

    from bearerguard.transports.failures import failure  # noqa: PLC0415 - at the first request

    lost = isinstance(error, httpx2.NetworkError | httpx2.RemoteProtocolError)
    found = failure(error, seconds)
    words = found.words
    if dialed is not None and _host(request.url) not in {None, _host(f"//{dialed}")}:
        words = f"{words} (asked by the proxy {dialed})"
    kind = _Dead if lost and request.keep_alive and dialed is None else FetchFailed
    return kind(f"{request.url}: {words}", kind=found.kind, temporary=found.temporary)


def _timed_out(request: Fetch, seconds: float) -> FetchFailed:
    from bearerguard.transports.failures import timed_out  # noqa: PLC0415 - at the first request

    found = timed_out(seconds)
    return FetchFailed(f"{request.url}: {found.words}", kind=found.kind)


def _dialed(event: str, info: dict[str, Any]) -> str | None:
    """Return the host and port of a connection that is being opened, None for other events."""
    if not event.endswith(".connect_tcp.started"):
        return None
    host = str(info["host"])
    return f"[{host}]:{info['port']}" if ":" in host else f"{host}:{info['port']}"


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _with_user_agent(headers: HeaderFields) -> HeaderFields:
    if any(name.lower() == "user-agent" for name, _ in headers):
        return headers
    version = sys.modules["bearerguard"].__version__  # which is above this floor
    return (*headers, ("user-agent", f"bearerguard/{version}"))


def _origin(url: str) -> str:
    return "/".join(url.split("/", 3)[:3])


def is_here(url: str) -> bool:
    """Whether a URL leads to this machine, so that requests to it use no proxy."""
    with suppress(ValueError):  # a malformed URL is refused elsewhere
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
