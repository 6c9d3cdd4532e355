"""SQLite on a disk that is full, on a file that may not grow, and on a file that is replaced.

503 with Retry-After until there is room, and nothing that was acknowledged is lost.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import httpx2
import pytest

from bearerguard.server import Registered
from tests.faults.size import FULL
from tests.server.serving import GUNICORN, UVICORN, Served, served

COMMANDS = {"asgi": UVICORN, "wsgi": GUNICORN}
_MEGABYTES = 4


@contextmanager
def _small_disk(folder: Path) -> Generator[Path]:
    """Mount a file system of some megabytes; a container may not let us."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_MEGABYTES}m", "none", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a file system here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def _filled(running: Served, folder: Path) -> Generator[None]:
    """Leave no room on the disk."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        chunk = 65_536
        while chunk >= 512:
            try:
                file.write(b"\0" * chunk)
            except OSError:
                chunk //= 2
    try:
        yield
    finally:
        ballast.unlink()


def _processes(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in _processes(int(child)))]


@contextmanager
def _limited(running: Served, folder: Path) -> Generator[None]:
    """Let no file of the server's processes grow (RLIMIT_FSIZE): it fails in another way."""
    pids = _processes(running.program.pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for pid in pids:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (8192, hard))
    try:
        yield
    finally:
        for pid in pids:
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))


def _login(running: Served, client: Registered) -> httpx2.Response:
    return running.redeem(client, running.code(client))


def _refresh(running: Served, client: Registered, token: str) -> httpx2.Response:
    return running.token(client, grant_type="refresh_token", refresh_token=token)


def _goes_on(running: Served, client: Registered, token: str, fault: str) -> None:
    """Refresh with a token that is known to be good; wait while the server recovers."""
    deadline = time.monotonic() + 20
    while True:
        response = _refresh(running, client, token)
        if response.status_code == 200:
            return
        assert response.status_code == 503, (fault, response.text)
        assert time.monotonic() < deadline
        time.sleep(0.1)


PAIRS = [
    pytest.param(command, fault, id=f"{kind}-{name}")
    for number, (name, fault) in enumerate({"full": _filled, "limited": _limited}.items())
    for position, (kind, command) in enumerate(COMMANDS.items())
    if FULL or number == position
]


@pytest.mark.parametrize(("command", "fault"), PAIRS)
def test_a_disk_without_room_costs_503_and_nothing_that_was_acknowledged(
    tmp_path: Path,
    command: Sequence[str],
    fault: Callable[[Served, Path], AbstractContextManager[None]],
) -> None:
    disk = _small_disk(tmp_path / "disk") if fault is _filled else nullcontext(tmp_path)
    with disk as folder, served(folder, command) as running:
        client = running.add()
        known = _login(running, client).json()
        token: str = known["refresh_token"]
        granted = refused = 0
        with fault(running, folder), httpx2.Client(base_url=running.url, timeout=60) as reader:
            while refused < 5:
                response = _refresh(running, client, token)
                if response.status_code == 200:  # there was still a page of room
                    token = response.json()["refresh_token"]
                    granted += 1
                    assert granted < 60
                    continue
                assert response.status_code == 503, response.text
                assert int(response.headers["retry-after"]) >= 1
                refused += 1
            # What only reads is served.
            assert reader.get("/oauth/jwks").status_code == 200
            assert reader.get("/.well-known/oauth-authorization-server").status_code == 200
        _goes_on(running, client, token, "room again")
        assert _login(running, client).status_code == 200


@pytest.mark.parametrize("command", COMMANDS.values() if FULL else [UVICORN])
def test_a_database_that_is_replaced_is_not_used_until_it_is_put_back(
    tmp_path: Path, command: Sequence[str]
) -> None:
    with served(tmp_path, command) as running:
        client = running.add()
        token = _login(running, client).json()["refresh_token"]
        database = Path(running.store.url.removeprefix("sqlite:///"))
        kept, copy = database.with_name("kept"), database.with_name("copy")
        shutil.copy(database, copy)
        database.rename(kept)  # a backup is restored under the running server
        copy.rename(database)
        for _ in range(3):
            response = _refresh(running, client, token)
            assert response.status_code == 503
            assert int(response.headers["retry-after"]) >= 1
        kept.rename(database)
        _goes_on(running, client, token, "put back")
