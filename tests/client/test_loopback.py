"""The loopback receiver: what ends the wait, and what does not."""

from __future__ import annotations

import gc
import http.client
import re
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from bearerguard.client.login.loopback import LoopbackReceiver
from bearerguard.errors import LoginFailed


@dataclass
class Page:
    status: int
    headers: Message
    body: bytes


class Waiting:
    """A receiver that another thread waits on, and the result of the wait."""

    def __init__(self, receiver: LoopbackReceiver, timeout: float) -> None:
        self.receiver = receiver
        self.found: object = None
        self.thread = threading.Thread(target=self._wait, args=(timeout,))
        self.thread.start()

    def _wait(self, timeout: float) -> None:
        try:
            self.found = self.receiver.wait(timeout)
        except LoginFailed as error:
            self.found = error

    @property
    def port(self) -> int:
        port = urlsplit(self.receiver.redirect_uri).port
        assert port is not None
        return port

    def get(self, target: str, method: str = "GET", **headers: str) -> Page:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        connection.request(method, target, headers=headers)
        with connection.getresponse() as response:
            found = Page(response.status, response.headers, response.read())
        connection.close()
        return found

    def callback(self, **parameters: str) -> Page:
        given = {"state": self.receiver.state, **parameters}
        return self.get("/callback?" + urlencode(given))

    def result(self) -> object:
        self.thread.join(10)
        assert not self.thread.is_alive()
        return self.found

    def is_waiting(self) -> bool:
        return self.thread.is_alive() and self.found is None


@contextmanager
def waiting(
    timeout: float = 20, monotonic: Callable[[], float] = time.monotonic
) -> Generator[Waiting]:
    with LoopbackReceiver(monotonic=monotonic) as receiver:
        each = Waiting(receiver, timeout)
        try:
            yield each
        finally:
            receiver.cancel()
            each.thread.join(10)


def test_the_response_ends_the_wait_and_the_browser_shows_success():
    with waiting() as login:
        page = login.callback(code="a b+c", iss="https://id.example.com")
        assert page.status == 200
        assert b"You can close this page" in page.body
        assert login.result() == {
            "state": login.receiver.state,
            "code": "a b+c",
            "iss": "https://id.example.com",
        }


def test_an_error_response_ends_the_wait_and_the_browser_shows_it():
    with waiting() as login:
        page = login.callback(error="access_denied", error_description="no")
        assert b"Login not completed" in page.body
        assert login.result() == {
            "state": login.receiver.state,
            "error": "access_denied",
            "error_description": "no",
        }


def test_the_redirect_uri_is_on_the_loopback_address_and_a_free_port():
    with LoopbackReceiver() as one, LoopbackReceiver() as other:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/callback", one.redirect_uri)
        assert one.redirect_uri != other.redirect_uri
        assert one.state != other.state
        assert one.state not in repr(one)


def test_a_port_that_is_taken_is_named():
    with (
        LoopbackReceiver() as one,
        pytest.raises(LoginFailed, match="choose another port"),
    ):
        LoopbackReceiver(port=urlsplit(one.redirect_uri).port or 0)


FOREIGN = [
    ("/favicon.ico", "GET", 404),
    ("/", "GET", 404),
    ("//evil/callback?code=x&state={state}", "GET", 404),
    ("/callback", "GET", 400),
    ("/callback?code=x", "GET", 400),
    ("/callback?code=x&state=guessed", "GET", 400),
    ("/callback?code=x&state=", "GET", 400),
    ("/callback?code=x&state=%FF%00", "GET", 400),
    ("/callback?error=access_denied&state=guessed", "GET", 400),
    ("/callback?code=x&state={state}&state={state}", "GET", 400),
    ("/callback?code=x&code=y&state={state}", "GET", 400),
    ("/callback?code=x&error=y&state={state}", "GET", 400),
    ("/callback?state={state}", "GET", 400),
    ("/callback?" + "a=b&" * 60 + "code=x&state={state}", "GET", 400),
    ("/callback?code=x&state={state}", "POST", 405),
    ("/callback?code=x&state={state}", "OPTIONS", 405),
]


@pytest.mark.parametrize(("target", "method", "status"), FOREIGN)
def test_another_request_does_not_end_the_wait(target, method, status):
    with waiting() as login:
        page = login.get(target.format(state=login.receiver.state), method)
        assert page.status == status
        assert b"Nothing to see here" in page.body
        assert login.is_waiting()
        assert login.callback(code="right").status == 200
        assert login.result() == {"state": login.receiver.state, "code": "right"}


def test_another_host_name_for_this_address_is_refused():
    with waiting() as login:
        target = f"/callback?code=x&state={login.receiver.state}"
        for host in ("evil.example", f"localhost:{login.port}", "127.0.0.1"):
            assert login.get(target, Host=host).status == 400
        assert login.is_waiting()


RAW = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET /callback\r\n\r\n",
    b"GET http://127.0.0.1/callback HTTP/1.1\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
]


@pytest.mark.parametrize("octets", RAW)
def test_a_malformed_request_is_refused_and_does_not_end_the_wait(octets):
    with waiting() as login:
        with socket.create_connection(("127.0.0.1", login.port), 10) as raw:
            raw.sendall(octets)
            assert b" 400 Bad Request" in raw.recv(100)
        assert login.is_waiting()


def test_a_request_above_the_size_limit_is_refused():
    with waiting() as login:
        with socket.create_connection(("127.0.0.1", login.port), 10) as raw:
            raw.sendall(b"GET /" + b"a" * (16 * 1024))
            assert b" 431 " in raw.recv(100)
        assert login.is_waiting()


def test_idle_connections_keep_nobody_out():
    with waiting() as login:
        silent = [socket.create_connection(("127.0.0.1", login.port), 10) for _ in range(100)]
        try:
            assert login.callback(code="right").status == 200
        finally:
            for each in silent:
                each.close()
        assert login.result() == {"state": login.receiver.state, "code": "right"}


def test_a_connection_whose_request_is_slow_is_dropped():
    seconds = [1000.0]
    with waiting(timeout=60, monotonic=lambda: seconds[0]) as login:
        with socket.create_connection(("127.0.0.1", login.port), 20) as slow:
            slow.sendall(b"GET /callback?")
            assert login.get("/").status == 404  # served after the slow one was accepted
            seconds[0] += 4.9
            assert login.get("/").status == 404
            slow.setblocking(False)
            with pytest.raises(BlockingIOError):
                slow.recv(1)
            slow.settimeout(20)
            seconds[0] += 0.2
            assert slow.recv(1) == b""
        assert login.is_waiting()


def test_a_response_that_arrives_in_parts_is_read_whole():
    with waiting() as login:
        with socket.create_connection(("127.0.0.1", login.port), 10) as raw:
            raw.sendall(f"GET /callback?code=x&state={login.receiver.state} HTT".encode())
            time.sleep(0.05)
            raw.sendall(f"P/1.1\r\nHost: 127.0.0.1:{login.port}\r\n\r\n".encode())
            assert raw.recv(15) == b"HTTP/1.1 200 OK"
        assert login.result() == {"state": login.receiver.state, "code": "x"}


def test_a_browser_that_closes_before_its_page_came_does_no_harm():
    with waiting() as login:
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", login.port), 10) as raw:
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                raw.sendall(b"GET /other HTTP/1.1\r\n\r\n")
        assert login.callback(code="x").status == 200


def test_a_response_that_came_before_the_wait_is_found():
    with LoopbackReceiver() as receiver:
        port = urlsplit(receiver.redirect_uri).port
        with socket.create_connection(("127.0.0.1", port), 10) as early:
            request = f"GET /callback?code=x&state={receiver.state} HTTP/1.1\r\n"
            early.sendall(f"{request}Host: 127.0.0.1:{port}\r\n\r\n".encode())
            assert receiver.wait(10)["code"] == "x"


def test_a_wait_ends_at_its_timeout_or_when_it_is_cancelled():
    with (
        LoopbackReceiver() as receiver,
        pytest.raises(LoginFailed, match=r"no response came from the browser within 0\.01 s"),
    ):
        receiver.wait(0.01)
    with waiting() as login:
        login.receiver.cancel()
        assert "cancelled" in str(login.result())


def open_descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


def test_nothing_listens_and_nothing_is_open_after_the_response():
    gc.collect()
    before = open_descriptors(), threading.active_count()
    with waiting() as login:
        idle = socket.create_connection(("127.0.0.1", login.port), 10)
        login.callback(code="x")
        login.result()
        with pytest.raises(ConnectionRefusedError):
            login.callback(code="another")
        idle.close()
    assert (open_descriptors(), threading.active_count()) == before


def test_the_page_has_no_script_and_may_load_nothing():
    with waiting() as login:
        page = login.callback(code="secret-code")
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "frame-ancestors 'none'" in policy
        assert page.headers["Cache-Control"] == "no-store"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert b"<script" not in page.body
        assert b"secret-code" not in page.body
        assert b"http" not in page.body.replace(b"http-equiv", b"")
