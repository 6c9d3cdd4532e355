"""Many processes share a token whose server does not answer: one of them asks, all learn of it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from tests.faults.size import size
from tests.server.serving import ROOT

PROCESSES, ROUNDS = size(24, 4), size(6, 3)
START = 1_800_000_000


class Server:
    """A token endpoint that reads a request and hangs up, until it may respond."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.answers = False
        self.released = threading.Event()


@contextmanager
def running() -> Generator[tuple[str, Server]]:
    server = Server()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            server.sent.append(parse_qs(body)["refresh_token"][0])
            server.released.wait(30)
            if not server.answers:
                self.close_connection = True
                return
            members = {"access_token": "new", "token_type": "Bearer", "refresh_token": "r2"}
            octets = json.dumps(members | {"expires_in": 3600}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(octets)))
            self.end_headers()
            self.wfile.write(octets)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/token", server
        finally:
            server.released.set()
            http.shutdown()
            thread.join(10)


def test_a_failure_is_shared_and_a_lost_refresh_is_not_repeated_by_every_process(
    tmp_path: Path,
) -> None:
    with running() as (url, server):
        given = [url, str(tmp_path / "state" / "tokens"), "c", "r1", "1"]
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.faults.client_process", "outage", *given],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for _ in range(PROCESSES)
        ]

        def line(process: subprocess.Popen[str]) -> str:
            assert process.stdout is not None
            return process.stdout.readline().strip()

        def round_at(now: float) -> list[str]:
            """Have all ask while the server hangs; then let it go on."""
            server.released.clear()
            for each in processes:
                assert each.stdin is not None
                each.stdin.write(f"{now}\n")
                each.stdin.flush()
            assert [line(each) for each in processes] == ["ASKING"] * PROCESSES
            server.released.set()
            return [line(each) for each in processes]

        try:
            assert [line(each) for each in processes] == ["READY"] * PROCESSES
            now = float(START)
            for number in range(ROUNDS):
                assert round_at(now) == ["TokenUnavailable"] * PROCESSES
                assert server.sent == ["r1"] * (number + 1)
                # While the failure holds, nobody asks.
                assert round_at(now + 0.5) == ["TokenUnavailable"] * PROCESSES
                assert server.sent == ["r1"] * (number + 1)
                now += 61
            server.answers = True
            assert round_at(now) == ["new"] * PROCESSES
            assert server.sent == ["r1"] * (ROUNDS + 1)
        finally:
            for each in processes:
                each.kill()
                each.communicate()
