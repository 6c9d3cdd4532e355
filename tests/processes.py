"""Starting programs, waiting until they answer, and ending them by their process id."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

START_SECONDS = 30
# Three base64url parts: a token, which no program may print.
_TOKEN = re.compile(r"eyJ[\w-]+\.[\w-]+\.[\w-]+")


def free_port() -> int:
    """Return a port that nobody listens on, for a program that is about to.

    It lies below the range from which Linux takes ports by itself: a server of another test that
    asks for any port, or a connection, would otherwise be given it before the program has it.
    """
    while True:
        port = random.randrange(10_000, 32_768)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


class Program:
    """A running program, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def output(self) -> str:
        return self._log.read_text(errors="replace")

    def wait_for_port(self, port: int) -> None:
        def is_open() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        self._wait(is_open, f"port {port}")

    def wait_for_line(self, pattern: str) -> str:
        self._wait(lambda: re.search(pattern, self.output, re.MULTILINE) is not None, pattern)
        found = re.search(pattern, self.output, re.MULTILINE)
        assert found is not None
        return found[1]

    def wait_for_end(self, seconds: float) -> int:
        """Return the exit code of a program that has been told to end."""
        return self._process.wait(seconds)

    def _wait(self, ready: object, what: str) -> None:
        assert callable(ready)
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            assert self._process.poll() is None, f"ended too early:\n{self.output}"
            assert time.monotonic() < deadline, f"no {what} in {START_SECONDS} s:\n{self.output}"
            time.sleep(0.02)


@contextmanager
def _log_folder() -> Generator[str]:
    """Where the output goes: kept for the gate that reads it after all tests, if there is one."""
    kept = os.environ.get("BEARERGUARD_TEST_LOGS")
    if kept:
        yield kept
    else:
        with tempfile.TemporaryDirectory() as folder:
            yield folder


@contextmanager
def program(
    command: Sequence[str], *, cwd: Path, environ: dict[str, str] | None = None
) -> Generator[Program]:
    """Run a program while the block lasts; its output holds no traceback and no token."""
    with _log_folder() as folder:
        descriptor, name = tempfile.mkstemp(".log", "program-", folder)
        log = Path(name)
        with os.fdopen(descriptor, "wb") as sink:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, **(environ or {})},
                stdout=sink,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        running = Program(process, log)
        try:
            yield running
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        assert "Traceback" not in running.output, running.output
        assert not _TOKEN.search(running.output), "a token was printed"


def shell_output(command: str, folder: Path) -> str:
    """Return what a command of a page prints in a folder; it must succeed."""
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout
