"""Starting real servers on loopback, and loading them with wrk in bounded windows.

wrk is a system program that must be on PATH. A server has one worker by default; uvicorn always
has one, because with `--workers` it listens without TCP_NODELAY, and each response on a kept
connection then takes 40 ms.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import ROOT, end, environment

START_SECONDS = 20
CONNECTIONS = 16
COLD_SCRIPT = Path(__file__).with_name("cold.lua")
MISSING = (
    "wrk is not installed (on Debian: apt-get install wrk), so the part that loads real servers"
    " is left out."
)
_RATE = re.compile(r"^Requests/sec:\s+([\d.]+)$", re.MULTILINE)
_FAULTS = re.compile(r"Non-2xx|Socket errors")


class ServerError(Exception):
    """A server did not start, or did not respond as it should."""


@dataclass(frozen=True)
class Server:
    """A server that listens on a port of loopback."""

    port: int

    @property
    def url(self) -> str:
        """The URL of its API."""
        return f"http://127.0.0.1:{self.port}/api/v1/recordings"


def has_wrk() -> bool:
    """Whether wrk is on PATH."""
    return shutil.which("wrk") is not None


def uvicorn(app: str, port: int, _workers: int) -> list[str]:
    """Return uvicorn's command line: one worker."""
    options = ["--no-access-log", "--log-level", "warning", "--factory", "--lifespan", "off"]
    target = f"benchmarks.server_apps:{app}"
    return [sys.executable, "-m", "uvicorn", target, "--port", str(port), *options]


def granian(app: str, port: int, workers: int) -> list[str]:
    """Return granian's command line."""
    options = ["--no-access-log", "--log-level", "warning", "--factory", "--no-ws"]
    options += ["--interface", "asginl", "--workers", str(workers)]
    target = f"benchmarks.server_apps:{app}"
    return [sys.executable, "-m", "granian", target, "--port", str(port), *options]


@contextmanager
def started(command: Sequence[str], port: int, jwks: Path) -> Iterator[Server]:
    """Run a server while the block lasts."""
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment({"BENCHMARK_JWKS": str(jwks)}), stdout=sys.stderr
    )
    try:
        _wait(port, process)
        yield Server(port)
    finally:
        end(process)


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def load(server: Server, seconds: float, *, token: str | None, cold: Path | None = None) -> float:
    """Return the requests per second of one window; each response must be 2xx.

    With `cold`, a file of tokens, every request carries the next one of it.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s"]
    if cold is not None:
        command += ["-s", str(COLD_SCRIPT)]
    elif token is not None:
        command += ["-H", f"Authorization: Bearer {token}"]
    done = subprocess.run(
        [*command, server.url],
        env={**os.environ, "BENCHMARK_TOKENS": str(cold or "")},
        capture_output=True,
        text=True,
        check=True,
    )
    rate = _RATE.search(done.stdout)
    if rate is None or _FAULTS.search(done.stdout):
        raise ServerError(f"{server.url} under load:\n{done.stdout}")
    return float(rate[1])


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise ServerError(f"{process.args!r} does not respond; its output is above")
