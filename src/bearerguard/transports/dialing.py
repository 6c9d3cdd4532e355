"""Connecting within one deadline, name resolution included.

Replaces the part of httpx2 that connects; the protocol over the connection stays httpx2's.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import anyio
import httpcore2
import httpx2

from bearerguard.transports.resolver import RESOLVER, Addresses

# Where httpx2 sets no timeout; it sets one for each request.
_NO_BOUND = 3600.0
# Seconds until the next address is tried as well (RFC 8305 §5).
_STAGGER = 0.25
_FAILED = (httpcore2.ConnectError, httpcore2.ConnectTimeout)


def dial_within_deadlines(client: httpx2.Client | httpx2.AsyncClient) -> None:
    """Let a new client connect by these classes, to origins and to proxies."""
    dialer: Any = Dialer if isinstance(client, httpx2.Client) else AsyncDialer
    inside: Any = client
    # httpx2 has no option for it; a test fails when these names change.
    for transport in (inside._transport, *inside._mounts.values()):  # noqa: SLF001
        pool: Any = getattr(transport, "_pool", None)
        if pool is not None:
            pool._network_backend = dialer(pool._network_backend)  # noqa: SLF001


class Dialer(httpcore2.NetworkBackend):
    """Connects in the calling thread."""

    def __init__(self, below: httpcore2.NetworkBackend) -> None:
        self._below = below

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
                addresses = RESOLVER.resolve(host, port, end - time.monotonic())
            except TimeoutError as error:
                raise httpcore2.ConnectTimeout from error
            except OSError as error:
                raise httpcore2.ConnectError from error
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

    def __init__(self, below: httpcore2.AsyncNetworkBackend) -> None:
        self._below = below

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
                addresses = _literal(host) or await RESOLVER.aresolve(host, port)
                return await _first(addresses, connect)
        except TimeoutError as error:
            raise httpcore2.ConnectTimeout from error
        except OSError as error:
            raise httpcore2.ConnectError from error

    async def sleep(self, seconds: float) -> None:
        """Wait between attempts."""
        await self._below.sleep(seconds)


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

    async with anyio.create_task_group() as tasks:
        for address in addresses:
            failed = anyio.Event()
            tasks.start_soon(attempt, address, failed)
            with anyio.move_on_after(_STAGGER):
                await failed.wait()
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
