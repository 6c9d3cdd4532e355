"""How `serve` stops, in one process: no connection that the kernel has accepted is lost."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn

from bearerguard import ConfigurationError
from bearerguard.server.hosting.draining import DrainingServer, listeners

_REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def _app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def _server(on_stop: Callable[[], None] = lambda: None, **options: Any) -> DrainingServer:
    config = uvicorn.Config(_app, log_config=None, timeout_keep_alive=1)
    return DrainingServer(config, on_stop=on_stop, **options)


async def _ask(address: Any) -> bytes:
    reader, writer = await asyncio.open_connection(*address)
    writer.write(_REQUEST)
    line = await reader.readline()
    writer.close()
    await writer.wait_closed()
    return line


async def _serving(server: DrainingServer, sockets: list[socket.socket]) -> asyncio.Task[None]:
    task = asyncio.ensure_future(server._serve(sockets))
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    return task


def test_a_connection_that_waits_to_be_accepted_gets_its_response() -> None:
    async def main() -> bytes:
        (listener,) = listeners("127.0.0.1", 0)
        address = listener.getsockname()
        waiting: list[socket.socket] = []

        def connect() -> None:
            # The loop is busy with this call: the kernel has accepted, asyncio has not.
            client = socket.create_connection(address)
            client.sendall(_REQUEST)
            waiting.append(client)

        server = _server(on_stop=connect)
        running = await _serving(server, [listener])
        server.should_exit = True
        await running
        with waiting[0] as client:
            client.settimeout(10)
            return client.recv(100)

    assert asyncio.run(main()).startswith(b"HTTP/1.1 200")


def test_a_kept_connection_may_send_one_more_request() -> None:
    async def main() -> list[bytes]:
        (listener,) = listeners("127.0.0.1", 0)
        stopped = asyncio.Event()
        server = _server(on_stop=stopped.set)
        running = await _serving(server, [listener])
        reader, writer = await asyncio.open_connection(*listener.getsockname())
        lines = []
        writer.write(_REQUEST)
        lines.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        server.should_exit = True
        await stopped.wait()
        await asyncio.sleep(0.1)
        writer.write(_REQUEST)
        await reader.readuntil(b"\r\n")  # the end of the first response's chunks
        lines.append((await reader.readuntil(b"200 OK"))[-15:])
        writer.close()
        await running
        return lines

    first, second = asyncio.run(main())
    assert first.startswith(b"HTTP/1.1 200")
    assert second == b"HTTP/1.1 200 OK"


def test_new_connections_are_served_during_the_delay_and_refused_after_it() -> None:
    async def main() -> tuple[bytes, int]:
        (listener,) = listeners("127.0.0.1", 0)
        address = listener.getsockname()
        stopping = asyncio.Event()
        server = _server(on_stop=stopping.set, delay=0.3)
        running = await _serving(server, [listener])
        server.should_exit = True
        await stopping.wait()
        line = await _ask(address)
        await running
        with socket.socket() as late:
            return line, late.connect_ex(address)

    line, refused = asyncio.run(main())
    assert line.startswith(b"HTTP/1.1 200")
    assert refused != 0


def test_a_second_interrupt_ends_the_delay() -> None:
    async def main() -> None:
        server = _server(delay=3600)
        running = await _serving(server, listeners("127.0.0.1", 0))
        server.should_exit = True
        server.force_exit = True
        await asyncio.wait_for(running, 10)

    asyncio.run(main())


def test_a_worker_whose_parent_has_gone_stops() -> None:
    async def main() -> None:
        server = _server(parent=os.getpid())  # which is not the parent of this process
        await asyncio.wait_for(server._serve(listeners("127.0.0.1", 0)), 10)
        assert server.should_exit

    asyncio.run(main())


def test_accepted_connections_send_small_segments_at_once() -> None:
    """asyncio sets TCP_NODELAY only where the listening socket says that it is TCP's."""

    async def main() -> int:
        (listener,) = listeners("127.0.0.1", 0)
        found: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connection = writer.get_extra_info("socket")
            found.set_result(connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()

        async with await asyncio.start_server(accepted, sock=listener):
            _, writer = await asyncio.open_connection(*listener.getsockname())
            nodelay = await found
            writer.close()
        return nodelay

    assert asyncio.run(main()) != 0


def test_a_port_that_is_in_use_is_refused_with_the_options_that_name_it() -> None:
    (first,) = listeners("127.0.0.1", 0)
    with first, pytest.raises(ConfigurationError, match="--host, --port: cannot listen on"):
        listeners("127.0.0.1", first.getsockname()[1])


def test_a_host_with_several_addresses_is_listened_on_at_each() -> None:
    infos = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    found = listeners("localhost", 0)
    try:
        assert {each.getsockname()[0] for each in found} == {str(each[4][0]) for each in infos}
    finally:
        for each in found:
            each.close()


def test_it_serves_in_a_thread() -> None:
    """Without signals, as a test or an embedding program runs it."""
    (listener,) = listeners("127.0.0.1", 0)
    address = listener.getsockname()
    server = _server()
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    assert asyncio.run(_ask(address)).startswith(b"HTTP/1.1 200")
    server.should_exit = True
    thread.join(10)
    assert not thread.is_alive()
