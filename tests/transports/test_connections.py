"""Connections that are kept for later fetches, by one process or one event loop."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpcore2
import pytest

from bearerguard import HttpTransport
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed
from bearerguard.transports import dialing
from bearerguard.transports.connections import LoopClients


class Server:
    """A server that keeps connections, and counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests = 0
        self.cookies: list[str | None] = []
        self.hang_up = threading.Event()  # after the next answer, without a word
        self.silent = threading.Event()
        self.url = ""


@contextmanager
def keeping() -> Generator[Server]:
    state, lock = Server(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            with lock:
                state.connections += 1

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with lock:
                state.requests += 1
                state.cookies.append(self.headers["Cookie"])
            if state.silent.is_set():
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Set-Cookie", "who=me")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")
            self.close_connection = state.hang_up.is_set()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Clients may go as they please."""

    with Quiet(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_address[1]}/introspect"
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


def frequent(server: Server) -> Fetch:
    return Fetch("POST", server.url, body=b"token=x", keep_alive=True)


def test_a_thread_keeps_its_connection() -> None:
    with keeping() as server:
        transport = HttpTransport()
        for _ in range(20):
            assert transport.fetch(frequent(server)).body == b"{}"
        assert (server.requests, server.connections) == (20, 1)
        transport.close()
        transport.fetch(frequent(server))
        assert server.connections == 2
        transport.close()


def test_a_fetch_without_keep_alive_keeps_no_connection() -> None:
    with keeping() as server:
        transport = HttpTransport()
        for _ in range(3):
            transport.fetch(Fetch("POST", server.url, body=b"x"))
        assert server.connections == 3


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_tasks_of_a_loop_share_connections_that_close_with_it(backend: str) -> None:
    with keeping() as server:
        transport = HttpTransport()

        async def main() -> None:
            for _ in range(10):
                assert (await transport.afetch(frequent(server))).body == b"{}"

        anyio.run(main, backend=backend)
        assert (server.requests, server.connections) == (10, 1)
        anyio.run(main, backend=backend)
        assert (server.requests, server.connections) == (20, 2)
        assert transport._loop_clients._clients == {}


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_loop_that_closed_its_connections_opens_others(backend: str) -> None:
    with keeping() as server:
        transport = HttpTransport()

        async def main() -> None:
            await transport.aclose()  # nothing is open yet
            for _ in range(2):
                await transport.afetch(frequent(server))
                await transport.aclose()

        anyio.run(main, backend=backend)
        assert server.connections == 2


def test_threads_do_not_wait_for_each_others_connections_and_keep_eight() -> None:
    with keeping() as server:
        transport = HttpTransport()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(transport.fetch, [frequent(server)] * 200))
        assert {answer.status for answer in answers} == {200}
        (idle,) = transport._idle._idle.values()
        assert 1 <= len(idle) <= 8
        transport.close()


def test_a_kept_connection_that_the_server_closed_is_replaced() -> None:
    with keeping() as server:
        transport = HttpTransport()
        server.hang_up.set()
        for _ in range(5):
            assert transport.fetch(frequent(server)).status == 200
        transport.close()

        async def main() -> None:
            for _ in range(5):
                assert (await transport.afetch(frequent(server))).status == 200

        for backend in ("asyncio", "trio"):
            anyio.run(main, backend=backend)


def test_a_request_lost_on_a_kept_connection_is_sent_once_more() -> None:
    with keeping() as server:
        transport = HttpTransport()
        transport.fetch(frequent(server))
        server.silent.set()
        with pytest.raises(FetchFailed, match="RemoteProtocolError"):
            transport.fetch(frequent(server))
        assert (server.requests, server.connections) == (3, 2)  # over the kept one, and a new one

        async def main() -> None:
            server.silent.clear()
            await transport.afetch(frequent(server))
            server.silent.set()
            with pytest.raises(FetchFailed, match="RemoteProtocolError"):
                await transport.afetch(frequent(server))

        for backend in ("asyncio", "trio"):
            before = server.requests
            anyio.run(main, backend=backend)
            assert server.requests - before == 3


def test_the_cookies_of_a_response_are_not_sent_with_the_next_request() -> None:
    with keeping() as server:
        transport = HttpTransport()
        for _ in range(3):
            transport.fetch(frequent(server))
        assert server.cookies == [None] * 3
        transport.close()


def test_a_forked_child_uses_no_connection_of_its_parent() -> None:
    with keeping() as server:
        transport = HttpTransport()
        transport.fetch(frequent(server))
        child = os.fork()
        if child == 0:
            try:
                transport.fetch(frequent(server))
                transport.fetch(frequent(server))
                transport.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        transport.fetch(frequent(server))
        # One more, if the parent's has expired meanwhile.
        assert server.requests == 4
        assert server.connections in {2, 3}
        transport.close()


def test_the_clients_of_closed_loops_are_dropped() -> None:
    class ClosedLoop:
        def is_closed(self) -> bool:
            return True

    clients = LoopClients(httpx2_client)
    clients._clients[ClosedLoop()] = (None, None)  # type: ignore[assignment]

    async def main() -> None:
        await clients.client()
        assert len(clients._clients) == 1

    anyio.run(main)
    assert clients._clients == {}


def httpx2_client() -> Any:
    import httpx2

    return httpx2.AsyncClient()


def test_no_connection_stays_open_when_nobody_closes_the_transport() -> None:
    code = """
import asyncio, gc
from bearerguard import HttpTransport
from tests.transports.test_connections import frequent, keeping
with keeping() as server:
    transport = HttpTransport()
    transport.fetch(frequent(server))
    asyncio.run(transport.afetch(frequent(server)))
    asyncio.run(HttpTransport().afetch(frequent(server)))
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_connection_that_is_made_when_nobody_waits_any_more_is_closed(backend: str) -> None:
    closed: list[str] = []

    class Connected(httpcore2.AsyncNetworkStream):
        async def aclose(self) -> None:
            closed.append("closed")

    async def main() -> None:
        with anyio.CancelScope() as waiting:

            async def connect(_address: str) -> httpcore2.AsyncNetworkStream:
                waiting.cancel()
                return Connected()

            await dialing._first(("127.0.0.1",), connect)

    anyio.run(main, backend=backend)
    assert closed == ["closed"]
