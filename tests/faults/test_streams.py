"""STREAM-01 with real servers: how soon a stream ends, and what a thousand open ones cost."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bearerguard.protocol.jose import base64url
from bearerguard.testing import LocalIssuer
from tests.faults.size import size
from tests.faults.worker import AUDIENCE, ISSUER
from tests.processes import Program, free_port, program
from tests.redis_server import RedisServer

ROOT = Path(__file__).resolve().parents[2]
_APP = "tests.faults.stream_api:app"
SERVERS = {
    "uvicorn": ["uvicorn", _APP, "--log-level", "warning", "--port"],
    "uvicorn with h11": ["uvicorn", _APP, "--log-level", "warning", "--http", "h11", "--port"],
    "hypercorn": ["hypercorn", _APP, "--bind"],
    "granian": ["granian", _APP, "--interface", "asgi", "--port"],
}
_SOON = 1.0
_TIMEOUT = 20


class Api:
    """One worker of the API."""

    def __init__(self, running: Program, port: int) -> None:
        self.running = running
        self.port = port

    def open(self, kind: str, token: str) -> Stream:
        if kind == "websocket":
            return WebSocketClient(self.port, token)
        return HttpClient(self.port, f"/{kind}", token)


@contextmanager
def serving(server: str, issuer: LocalIssuer, redis: RedisServer) -> Generator[Api]:
    port = free_port()
    command = [sys.executable, "-m", *SERVERS[server]]
    command.append(f"127.0.0.1:{port}" if server == "hypercorn" else str(port))
    environ = {"KEYS": json.dumps(issuer.jwks()), "REDIS": redis.url, "PYTHONPATH": str(ROOT)}
    with program(command, cwd=ROOT, environ=environ) as running:
        running.wait_for_port(port)
        yield Api(running, port)


class WebSocketClient:
    def __init__(self, port: int, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        self._stack = ExitStack()
        self._connection = self._stack.enter_context(
            connect(f"ws://127.0.0.1:{port}/ws", additional_headers=headers)
        )
        self._connection.send("hello")
        assert self._connection.recv(_TIMEOUT) == "hello"

    def outcome(self) -> str:
        """Wait for the end; return how it looks to the client."""
        with self._stack:
            with pytest.raises(ConnectionClosed) as raised:
                self._connection.recv(_TIMEOUT)
            closed = raised.value.rcvd
            return "aborted" if closed is None else f"{closed.code} {closed.reason}"


class HttpClient:
    def __init__(self, port: int, path: str, token: str) -> None:
        self._stack = ExitStack()
        client = self._stack.enter_context(httpx.Client(timeout=_TIMEOUT, trust_env=False))
        self._response = self._stack.enter_context(
            client.stream(
                "GET",
                f"http://127.0.0.1:{port}{path}",
                headers={"Authorization": f"Bearer {token}"},
            )
        )
        assert self._response.status_code == 200
        self._chunks = self._response.iter_raw()
        assert next(self._chunks)

    def outcome(self) -> str:
        with self._stack:
            try:
                for _ in self._chunks:
                    pass
            except httpx.RemoteProtocolError:
                return "incomplete"
            return "complete"


Stream = WebSocketClient | HttpClient

_KINDS = {
    "websocket": "1008 The access token {}",
    "events": "complete",
    "quiet": "complete",
    "download": "incomplete",
    "export": "incomplete",
}


def ended(stream: Stream, outcomes: dict[str, tuple[str, float]], kind: str) -> threading.Thread:
    """Note how and when a stream ends."""

    def wait() -> None:
        try:
            outcome = stream.outcome()
        except Exception as error:
            outcome = repr(error)
        outcomes[kind] = outcome, time.time()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


@pytest.fixture(scope="module")
def issuer() -> LocalIssuer:
    return LocalIssuer(ISSUER, audience=AUDIENCE, algorithm="ES256")


@pytest.mark.parametrize("server", SERVERS)
def test_STREAM_01_streams_end_within_a_second_of_their_token_on_every_server(
    issuer: LocalIssuer, redis: RedisServer, server: str
) -> None:
    with serving(server, issuer, redis) as api, serving("uvicorn", issuer, redis) as other:
        for event in ("expired", "was revoked"):
            life = 4 if event == "expired" else 600
            token = issuer.token(expires_in=life, claims={"jti": f"{server} {event}"})
            ends_at: float = _expiry(token)
            streams = {kind: api.open(kind, token) for kind in _KINDS}
            outcomes: dict[str, tuple[str, float]] = {}
            threads = [ended(stream, outcomes, kind) for kind, stream in streams.items()]
            if event != "expired":
                time.sleep(0.5)
                url = f"http://127.0.0.1:{other.port}/revoke/{server} {event}"
                ends_at = time.time()
                assert httpx.get(url, trust_env=False).text == "revoked"
            for thread in threads:
                thread.join(_TIMEOUT)
            assert outcomes.keys() == _KINDS.keys(), f"{outcomes}\n{api.running.output}"
            late = {kind: at - ends_at for kind, (_, at) in outcomes.items()}
            print(f"\n{server}, token {event}: ended after", _seconds(late))
            assert {kind: outcome for kind, (outcome, _) in outcomes.items()} == {
                kind: outcome.format(event) for kind, outcome in _KINDS.items()
            }
            assert min(late.values()) > -1.1
            assert max(late.values()) < _SOON
        deadline = time.monotonic() + _TIMEOUT
        # The websocket and both event streams, which wait for the server or for time to pass.
        while api.running.output.count("app told") < 2 * 3:
            assert time.monotonic() < deadline, api.running.output
            time.sleep(0.05)
        assert "Traceback" not in api.running.output


def _expiry(token: str) -> float:
    claims = json.loads(base64url.decode(token.split(".")[1].encode()))
    expiry: float = claims["exp"]
    return expiry


def _seconds(late: dict[str, float]) -> str:
    return ", ".join(f"{kind} {seconds:.2f} s" for kind, seconds in late.items())


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_STREAM_01_open_streams_cost_a_worker_less_than_a_hundredth_of_its_time(
    issuer: LocalIssuer, redis: RedisServer
) -> None:
    count, seconds = size(1000, 300), size(20, 10)
    with serving("uvicorn", issuer, redis) as api, ExitStack() as opened:
        idle = _used(api.running.pid, seconds)
        connections: list[socket.socket] = []
        for number in range(count):
            token = issuer.token(claims={"jti": f"many {number}", "sub": f"user-{number}"})
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", api.port)))
            request = f"GET /quiet HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"
            connection.sendall(request.encode())
            connections.append(connection)
        for connection in connections:
            connection.settimeout(_TIMEOUT)
            received = b""
            while b"data: x" not in received:
                received += connection.recv(4096)
        busy = _used(api.running.pid, seconds)
        print(
            f"\n{count} open streams: {busy:.2%} of a processor for {seconds} s; none: {idle:.2%}"
        )
        assert busy - idle < 0.01


def _used(pid: int, seconds: float) -> float:
    """Return which part of a processor a process uses."""
    before, began = _cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (_cpu_seconds(pid) - before) / (time.monotonic() - began)
