"""The HTTP transport against servers that misbehave."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from pathlib import Path

import anyio
import pytest

from bearerguard import HttpTransport
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Request, Response
from bearerguard.testing.loopback import serving
from bearerguard.transports.http import _Deadline
from tests.raw_servers import certificate, over_tls, raw_server

__all__ = ["certificate"]  # a fixture


def both(transport: HttpTransport, url: str) -> list[Response]:
    """Fetch in a thread, on asyncio and on trio."""
    request = Fetch("GET", url)
    return [
        transport.fetch(request),
        anyio.run(transport.afetch, request),
        anyio.run(transport.afetch, request, backend="trio"),
    ]


def fails(transport: HttpTransport, url: str, cause: str) -> None:
    request = Fetch("GET", url)
    with pytest.raises(FetchFailed, match=cause):
        transport.fetch(request)
    for backend in ("asyncio", "trio"):
        with pytest.raises(FetchFailed, match=cause):
            anyio.run(transport.afetch, request, backend=backend)


def test_a_response_is_returned_whole() -> None:
    seen: list[Request] = []

    def handle(request: Request) -> Response:
        seen.append(request)
        return Response(200, (("Cache-Control", "max-age=5"), ("X", "1"), ("X", "2")), b"{}" * 9)

    with serving(handle) as url:
        for answer in both(HttpTransport(), url):
            assert (answer.status, answer.body) == (200, b"{}" * 9)
            assert answer.header("cache-control") == "max-age=5"
            assert [value for name, value in answer.headers if name.lower() == "x"] == ["1", "2"]
    assert seen[0].values(b"accept-encoding") == [b"identity"]


def test_a_redirect_is_returned_and_not_followed() -> None:
    with serving(lambda _: Response(302, (("Location", "/elsewhere"),))) as url:
        assert {answer.status for answer in both(HttpTransport(), url)} == {302}


def test_a_response_that_is_too_large_fails() -> None:
    with serving(lambda _: Response(200, body=b"x" * 2000)) as url:
        fails(HttpTransport(max_bytes=1999), url, "too large")
        assert len(HttpTransport(max_bytes=2000).fetch(Fetch("GET", url)).body) == 2000


def test_a_response_of_unannounced_length_that_is_too_large_fails() -> None:
    def pour(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 2000)

    with raw_server(pour) as url:
        request, transport = Fetch("GET", url), HttpTransport(max_bytes=1999)
        with pytest.raises(FetchFailed, match="too large"):
            transport.fetch(request)
        with pytest.raises(FetchFailed, match="too large"):
            anyio.run(transport.afetch, request)


def test_a_refused_a_closed_and_a_garbled_connection_fail() -> None:
    with serving(lambda _: Response(200)) as url:
        gone = url
    fails(HttpTransport(), gone, "the connection was refused")
    with serving(lambda _: None) as url:
        fails(HttpTransport(), url, "the connection was closed")
    with raw_server(lambda connection: connection.sendall(b"nonsense\r\n\r\n")) as url:
        fails(HttpTransport(), url, "no HTTP was spoken .*RemoteProtocolError")
    fails(HttpTransport(), "http://127.0.0.1:x/", "not a valid URL .*InvalidURL")
    fails(HttpTransport(), "http://a..b/", "not a valid URL|unknown host")


def test_requests_to_this_machine_use_no_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(lambda _: Response(200)) as url, serving(lambda _: Response(418)) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        for transport, here in ((HttpTransport(), 200), (HttpTransport(proxy=proxy), 418)):
            for place in (url, url.replace("127.0.0.1", "LOCALHOST")):
                for kept in (False, True):
                    fetch = Fetch("GET", place, keep_alive=kept)
                    assert transport.fetch(fetch).status == here
                    assert anyio.run(transport.afetch, fetch).status == here
            assert transport.fetch(Fetch("GET", "http://id.example/")).status == 418


@pytest.mark.parametrize(
    "host", ["127.0.0.2", "127.255.1.2", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"]
)
def test_no_spelling_of_this_machine_uses_the_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(lambda _: Response(418)) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        # Nothing listens there, so that only the proxy could answer.
        fails(HttpTransport(timeout=2), f"http://{host}:9/", "refused")


def test_a_slow_response_fails() -> None:
    with raw_server(lambda _connection: time.sleep(0.5)) as url:
        fails(HttpTransport(timeout=0.1), url, "Timeout|in 0.1 s")


@pytest.mark.parametrize(
    "start",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: ",
        b"",
    ],
    ids=["body", "unannounced body", "header", "nothing yet"],
)
def test_a_response_that_trickles_fails(start: bytes) -> None:
    def trickle(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(40):
            connection.sendall(b"H")
            time.sleep(0.05)

    with raw_server(trickle) as url:
        fails(HttpTransport(timeout=0.2), url, "no complete response in 0.2 s")


def test_a_connection_that_opens_too_late_is_closed() -> None:
    ours, theirs = socket.socketpair()

    class Stream:
        def get_extra_info(self, _name: str) -> socket.socket:
            return ours

    with ours, theirs, _Deadline(0.0) as deadline:
        while not deadline.passed:
            time.sleep(0.001)
        deadline.trace("connection.connect_tcp.complete", {"return_value": Stream()})
        assert theirs.recv(1) == b""  # nobody can be kept waiting on it


def test_a_private_certificate_authority_is_an_option(certificate: Path) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    trusting = HttpTransport(ssl_context=ssl.create_default_context(cafile=certificate))
    with raw_server(over_tls(certificate, answer), reads=False) as url:
        secure = url.replace("http:", "https:")
        assert [answer.body for answer in both(trusting, secure)] == [b"{}"] * 3
        fails(HttpTransport(), secure, "TLS: the certificate is self-signed")


def test_a_response_that_trickles_over_tls_fails(certificate: Path) -> None:
    def trickle(connection: socket.socket) -> None:
        for _ in range(40):
            connection.sendall(b"H")
            time.sleep(0.05)

    trusting = HttpTransport(
        timeout=0.3, ssl_context=ssl.create_default_context(cafile=certificate)
    )
    with raw_server(over_tls(certificate, trickle), reads=False) as url:
        fails(trusting, url.replace("http:", "https:"), "no complete response in 0.3 s")


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_tls_handshake_that_hangs_leaves_no_connection_open(backend: str) -> None:
    closed = threading.Event()

    def silent(connection: socket.socket) -> None:
        while connection.recv(4096):
            pass
        closed.set()

    # Made before, as it takes longer than a handshake.
    transport = HttpTransport(timeout=1, ssl_context=ssl.create_default_context())

    async def main(url: str) -> None:
        with pytest.raises(FetchFailed, match="timed out") as failed:
            await transport.afetch(Fetch("GET", url))
        # Closed by then, and not when the error and its traceback are collected.
        assert await anyio.to_thread.run_sync(closed.wait, 2)
        assert failed.value.kind == "timed_out"

    with raw_server(silent, reads=False) as url:
        anyio.run(main, url.replace("http:", "https:"), backend=backend)


def test_a_synchronous_fetch_on_a_running_loop_is_warned_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with serving(lambda _: Response(200)) as url:

        async def main(transport: HttpTransport) -> None:
            for _ in range(2):
                transport.fetch(Fetch("GET", url))

        HttpTransport().fetch(Fetch("GET", url))
        assert not caplog.records
        for backend in ("asyncio", "trio"):
            anyio.run(main, HttpTransport(), backend=backend)
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert ["averify()" in each.getMessage() for each in warnings] == [True, True]
