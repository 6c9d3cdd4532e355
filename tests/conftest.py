"""What holds for every test: no network beyond this machine, and no silent skips in CI."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests import postgresql_server as postgresql
from tests.redis_server import RedisServer, running

# Not by its entry point: then it would be imported before coverage begins.
pytest_plugins = ["bearerguard.testing.plugin"]

settings.register_profile("house", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("house")

_LOOPBACK = ("127.", "::1", "localhost", "0.0.0.0", "::")


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse connections that would leave this machine."""
    connect, connect_ex = socket.socket.connect, socket.socket.connect_ex

    def check(address: Any) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(_LOOPBACK):
            raise AssertionError(f"a test connects to {address[0]}")

    def guarded(self: socket.socket, address: Any) -> None:
        check(address)
        connect(self, address)

    def guarded_ex(self: socket.socket, address: Any) -> int:
        check(address)
        return connect_ex(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_ex)


@pytest.fixture(autouse=True)
def root_logger() -> Generator[None]:
    """Undo what a framework configures of the root logger, as Litestar does when an app is made."""
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    if root.level != level:
        root.setLevel(level)
        root.handlers[:] = handlers


@pytest.fixture(autouse=True, scope="session")
def kept_log() -> Generator[None]:
    """Write what the library logs in this process where the gate for secrets reads it."""
    folder = os.environ.get("BEARERGUARD_TEST_LOGS")
    if not folder:
        yield
        return
    logger = logging.getLogger("bearerguard")
    handler = logging.FileHandler(Path(folder) / f"tests-{os.getpid()}.log")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield
    logger.removeHandler(handler)
    handler.close()


@pytest.fixture
def redis(tmp_path: Path) -> Generator[RedisServer]:
    """A Redis of the test's own."""
    with running(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def postgresql_server() -> Generator[postgresql.PostgreSQLServer]:
    """A PostgreSQL for all tests of this process that neither stop it nor fill it."""
    with postgresql.running() as server:
        yield server


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where everything is meant to be installed."""
    report = yield
    if report.skipped and os.environ.get("BEARERGUARD_NO_SKIPS"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped: {call.excinfo and call.excinfo.value}"
    return report
