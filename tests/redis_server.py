"""A real Redis of a test's own, on a free port, to be killed, stopped and filled at will."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.processes import START_SECONDS, free_port

PROGRAM = shutil.which("redis-server") or shutil.which("valkey-server")


class RedisServer:
    """A server in `folder`, that forgets everything when it ends unless it keeps its data."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._keeping = False
        self._process: subprocess.Popen[bytes] | None = None

    def keep_data(self) -> None:
        """Keep each write before it is acknowledged, from now on."""
        self._keeping = True
        with self.client() as client:
            client.config_set("appendfsync", "always")
            client.config_set("appendonly", "yes")
            while client.info("persistence")["aof_rewrite_in_progress"]:
                time.sleep(0.005)

    def start(self) -> None:
        assert PROGRAM is not None
        options = ["--save", "", "--bind", "127.0.0.1", "--appendfsync", "always"]
        options += ["--appendonly", "yes" if self._keeping else "no"]
        with (self._folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, "--port", str(self.port), "--dir", str(self._folder), *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "redis.log").read_text()
            time.sleep(0.005)

    def kill(self) -> None:
        """End it as a power cut would; once more is nothing."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def forget(self) -> None:
        """Begin without data from now on: what is kept on disk goes."""
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.kill(self._process.pid, number)

    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, protocol=2, socket_timeout=5)

    def dump(self) -> bytes:
        """Return what someone gets who steals its snapshot."""
        with self.client() as client:
            client.config_set("rdbcompression", "no")
            client.save()
        return (self._folder / "dump.rdb").read_bytes()

    def _answers(self) -> bool:
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False


@contextmanager
def running(folder: Path) -> Generator[RedisServer]:
    """Run a server while the block lasts."""
    if PROGRAM is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(folder)
    server.start()
    try:
        yield server
    finally:
        server.kill()
