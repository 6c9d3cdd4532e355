"""Connecting within one deadline, name resolution included.

Replaces the part of httpx2 that connects; the protocol over the connection stays httpx2's.
"""

from __future__ import annotations

import ipaddress
import ssl
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias

import anyio
import httpcore2
import httpx2

from bearerguard.transports.resolver import RESOLVER, Addresses, Resolver

# Where httpx2 sets no timeout; it sets one for each request.
_NO_BOUND = 3600.0
# Seconds until the next address is tried as well (RFC 8305 §5).
_STAGGER = 0.25
_FAILED = (httpcore2.ConnectError, httpcore2.ConnectTimeout)

Admit: TypeAlias = Callable[[str, Addresses], None]


def dial_within_deadlines(
    client: httpx2.Client | httpx2.AsyncClient,
    *,
    resolver: Resolver = RESOLVER,
    admit: Admit | None = None,
) -> None:
    """Let a new client connect by these classes, to origins and to proxies.

    `admit` gets each host with its addresses before any is connected to, and raises for those that
    must not be. The connection is made to these very addresses.
    """
    dialer: Any = Dialer if isinstance(client, httpx2.Client) else AsyncDialer
    inside: Any = client
    # httpx2 has no option for it; a test fails when these names change.
    for transport in (inside._transport, *inside._mounts.values()):  # noqa: SLF001 - see above
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = dialer(  # noqa: SLF001 - see above
                pool._network_backend,  # noqa: SLF001 - see above
                resolver,
                admit,
            )


class Dialer(httpcore2.NetworkBackend):
    """Connects in the calling thread."""

    def __init__(
        self,
        below: httpcore2.NetworkBackend,
        resolver: Resolver = RESOLVER,
        admit: Admit | None = None,
    ) -> None:
        self._below = below
        self._resolver = resolver
        self._admit = admit

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.NetworkStream:
        """Try the addresses of a host one after another, each for its part of the time left."""
        end = time.monotonic() + (_NO_BOUND if timeout is None else timeout)
        addresses = _literal(host)
        if addresses is None:
            try:
                addresses = self._resolver.resolve(host, port, end - time.monotonic())
            except TimeoutError as error:
                raise httpcore2.ConnectTimeout from error
            except OSError as error:
                raise httpcore2.ConnectError from error
        if self._admit is not None:
            self._admit(host, addresses)
        failed: Exception = httpcore2.ConnectError()
        for position, address in enumerate(addresses):
            left = max(0.001, end - time.monotonic()) / (len(addresses) - position)
            try:
                return self._below.connect_tcp(address, port, left, local_address, socket_options)
            except _FAILED as error:
                failed = error
        raise failed


class AsyncDialer(httpcore2.AsyncNetworkBackend):
    """Connects in the running event loop."""

    def __init__(
        self,
        below: httpcore2.AsyncNetworkBackend,
        resolver: Resolver = RESOLVER,
        admit: Admit | None = None,
    ) -> None:
        self._below = below
        self._resolver = resolver
        self._admit = admit

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - as inherited
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Try the addresses of a host at short intervals, and use the first that connects."""

        async def connect(address: str) -> httpcore2.AsyncNetworkStream:
            return await self._below.connect_tcp(
                address, port, timeout, local_address, socket_options
            )

        try:
            with anyio.fail_after(timeout):
                addresses = _literal(host) or await self._resolver.aresolve(host, port)
                if self._admit is not None:
                    self._admit(host, addresses)
                return _ClosedWhenCancelled(await _first(addresses, connect))
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except OSError as error:
            raise httpcore2.ConnectError from error

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await self._below.sleep(seconds)


class _ClosedWhenCancelled(httpcore2.AsyncNetworkStream):
    """A connection that is closed when its TLS handshake is cancelled.

    httpcore2 closes it after errors alone. A deadline cancels, and the socket would stay open until
    it is collected.
    """

    def __init__(self, below: httpcore2.AsyncNetworkStream) -> None:
        self._below = below

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as inherited
    ) -> httpcore2.AsyncNetworkStream:
        """Return the connection under TLS."""
        try:
            return await self._below.start_tls(ssl_context, server_hostname, timeout)
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self._below.aclose()
            raise

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - as the library calls it
        """Return what has arrived, at least one octet unless it has ended."""
        return await self._below.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as the library calls it
        """Send octets."""
        await self._below.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._below.aclose()

    def get_extra_info(self, info: str) -> Any:
        """Return what is known of the connection below."""
        return self._below.get_extra_info(info)


async def _first(
    addresses: Addresses, connect: Callable[[str], Awaitable[httpcore2.AsyncNetworkStream]]
) -> httpcore2.AsyncNetworkStream:
    connected: list[httpcore2.AsyncNetworkStream] = []
    failures: list[Exception] = [httpcore2.ConnectError()]

    async def attempt(address: str, failed: anyio.Event) -> None:
        try:
            connected.append(await connect(address))
            tasks.cancel_scope.cancel()
        except _FAILED as error:
            failures.append(error)
            failed.set()

    try:
        async with anyio.create_task_group() as tasks:
            for address in addresses:
                failed = anyio.Event()
                tasks.start_soon(attempt, address, failed)
                with anyio.move_on_after(_STAGGER):
                    await failed.wait()
    except BaseException:  # as when the deadline passes in the moment of connecting
        with anyio.CancelScope(shield=True):
            for each in connected:
                await each.aclose()
        raise
    if not connected:
        raise failures[-1]
    for late in connected[1:]:
        await late.aclose()
    return connected[0]


def _literal(host: str) -> Addresses | None:
    """Return the host as its own address if it is one, else None."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None
    return (host,)
