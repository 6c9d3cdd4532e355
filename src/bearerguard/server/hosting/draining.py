"""uvicorn, but requests that are on their way when it stops are served.

uvicorn closes idle connections at once, though a request may be on its way on them, and forgets
the connections that the kernel has accepted and uvicorn has not. Knows no endpoint.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.extras import Extra

with Extra("cli", needed_by="uvicorn"):
    import uvicorn

_TICK = 0.05
_BACKLOG = 2048  # uvicorn's


class DrainingServer(uvicorn.Server):
    """Serves until SIGTERM or SIGINT, then stops in these steps; a second SIGINT skips them.

    1. `on_stop` is called; requests are served for `delay` seconds as before.
    2. No connection is accepted any more, except those that wait to be.
    3. A client may send one more request on each connection, until the keep-alive time is over.
    4. Running requests end.

    Args:
        config: uvicorn's.
        on_stop: called when the stop begins, such as `AuthorizationServer.begin_stop`.
        delay: seconds of the first step.
        parent: the id of a process; it also stops when this is no longer its parent process.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        on_stop: Callable[[], None],
        delay: float = 0.0,
        parent: int | None = None,
    ) -> None:
        super().__init__(config)
        self._on_stop = on_stop
        self._delay = delay
        self._parent = parent

    async def on_tick(self, counter: int) -> bool:
        """Whether to stop now; uvicorn calls it ten times a second."""
        if self._parent is not None and os.getppid() != self._parent:
            self.should_exit = True
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, as the class says."""
        self._on_stop()
        await self._wait(self._delay, lambda: False)
        await self._stop_listening(sockets or [])
        keep_alive = self.config.timeout_keep_alive
        await self._wait(keep_alive, lambda: not self.server_state.connections)
        await super().shutdown()

    async def _wait(self, seconds: float, is_over: Callable[[], bool]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        # Polled, as uvicorn does: what it waits for has no event.
        while not self.force_exit and not is_over() and (left := deadline - loop.time()) > 0:  # noqa: ASYNC110 - see above
            await asyncio.sleep(min(_TICK, left))

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        listeners = [each.dup() for server in self.servers for each in server.sockets]
        for server in self.servers:
            server.close()
        for each in sockets:
            each.close()
        waiting: list[socket.socket] = []
        for listener in listeners:
            listener.settimeout(0)
            waiting += _accepted(listener)
            # Nothing may come between: the kernel resets what it accepts from now on.
            listener.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        made: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made


def _accepted(listener: socket.socket) -> list[socket.socket]:
    """Return the connections that wait to be accepted."""
    found: list[socket.socket] = []
    while True:
        try:
            connection, _ = listener.accept()
        except ConnectionAbortedError:  # its client has gone
            continue
        except OSError:  # none is left
            return found
        connection.settimeout(0)
        found.append(connection)


def listeners(host: str, port: int) -> list[socket.socket]:
    """Return listening sockets for each address of a host.

    Raises:
        ConfigurationError: the process cannot listen on it.
    """
    found: list[socket.socket] = []
    try:
        for family, kind, _, _, address in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            # asyncio sets TCP_NODELAY only on sockets that say that they are TCP's: without it, a
            # response on a kept connection takes 40 ms longer.
            listener = socket.socket(family, kind, socket.IPPROTO_TCP)
            found.append(listener)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(_BACKLOG)
    except OSError as error:
        for each in found:
            each.close()
        raise ConfigurationError(
            f"--host, --port: cannot listen on {host} port {port} ({error.strerror}):"
            " choose an address of this machine and a free port"
        ) from error
    return found
