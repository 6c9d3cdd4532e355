"""`bearerguard serve` whose log nobody reads: it responds, and it ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import httpx2

from bearerguard.server import AuthorizationServer, Registered
from tests.processes import free_port

PROGRAM = str(Path(sys.executable).with_name("bearerguard"))
SECRET = "a secret of this test's own that is long enough"
# A pipe takes 64 KiB, and a line of a token has some 250 octets.
REQUESTS = 600


@contextmanager
def serving(folder: Path) -> Generator[tuple[subprocess.Popen[bytes], httpx2.Client, Registered]]:
    """Run the server with its standard error in a pipe."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    store = f"sqlite:///{folder}/auth.db"
    server = AuthorizationServer(url, store=store, secret=SECRET, scopes={"read": "Read"})
    client = server.clients.add("Robot", scopes=["read"], redirect_uris=[])
    server.close()
    environ = os.environ | {
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
        "BEARERGUARD_SERVER_STORE": store,
    }
    command = [PROGRAM, "serve", "--port", str(port), "--scope", "read=Read"]
    with subprocess.Popen(command, cwd=folder, env=environ, stderr=subprocess.PIPE) as process:
        try:
            with httpx2.Client(base_url=url, timeout=30) as requests:
                deadline = time.monotonic() + 30
                while time.monotonic() < deadline:
                    try:
                        requests.get("/health/live")
                        break
                    except httpx2.ConnectError:
                        time.sleep(0.05)
                yield process, requests, client
        finally:
            if process.poll() is None:
                process.kill()


def ask(requests: httpx2.Client, client: Registered) -> int:
    fields = {"grant_type": "client_credentials", "scope": "read"}
    secret = (client.client_id, client.client_secret or "")
    return requests.post("/oauth/token", data=fields, auth=secret).status_code


def test_requests_are_served_while_nobody_reads_the_log_and_no_line_is_lost(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as (process, requests, client):
        for _ in range(REQUESTS):
            assert ask(requests, client) == 200
        read: list[bytes] = []
        assert process.stderr is not None
        reader = threading.Thread(target=lambda: read.append(process.stderr.read()))  # type: ignore[union-attr]
        process.send_signal(signal.SIGTERM)
        reader.start()
        assert process.wait(30) == -signal.SIGTERM
        reader.join(30)
    assert len(read[0]) > 65_536, "more than the pipe takes"
    lines = re.findall(r" token_issued (\{.*\})$", read[0].decode(), re.MULTILINE)
    assert len(lines) == REQUESTS
    assert json.loads(lines[0])["client_id"] == client.client_id
    assert "Finished server process" in read[0].decode().splitlines()[-1]


def test_a_server_whose_log_is_blocked_for_good_ends_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    with serving(tmp_path) as (process, requests, client):
        for _ in range(REQUESTS):
            assert ask(requests, client) == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == -signal.SIGTERM
