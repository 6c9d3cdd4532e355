"""Several processes share one storage; some of them are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client import secret_service
from tests.client.writer import is_whole, storage
from tests.faults.size import size

ROOT = Path(__file__).resolve().parents[2]
KILLS = size(500, 25)
TIMES = size(400, 40)
# Each swap is a dozen calls of another program.
KEYRING_TIMES = size(100, 8)


def started(action: str, kind: str, path: Path, times: int = 0) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.client.writer", action, kind, str(path), str(times)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def counted(kind: str, path: Path, times: int = TIMES) -> None:
    processes = [started("count", kind, path, times) for _ in range(4)]
    lost = [int(process.communicate(timeout=240)[0]) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert storage(kind, path).load("n") == str(4 * times).encode()
    print(f"{kind}: {4 * times} swaps of 4 processes, {sum(lost)} lost to another process")


@pytest.mark.parametrize("kind", ["encrypted", "plaintext"])
def test_each_swap_of_four_processes_counts_once(kind, tmp_path):
    counted(kind, tmp_path / "state" / "tokens")


def test_a_writer_that_is_killed_leaves_one_version_whole_and_no_lock(tmp_path):
    path = tmp_path / "state" / "tokens"
    kept = storage("encrypted", path)
    written = 0
    for _ in range(KILLS):
        process = started("rewrite", "encrypted", path)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        written += len(process.stdout.readlines())
        process.stdout.close()
        process.wait()
        value = kept.load("v")
        assert value is not None
        assert is_whole(value)
        assert kept.swap("v", value, value + b"")
        kept.probe()
    assert kept.keys() == ["v"]
    print(f"{KILLS} writers killed, {written} versions written meanwhile, none lost")


def test_a_secret_service_keeps_tokens_for_several_processes():
    """Against GNOME's keyring, in a session of its own."""
    done = secret_service.run(
        "from pathlib import Path\n"
        "from tests.client import test_shared_storage as shared\n"
        "shared.in_secret_service(Path.home())\n"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "keyring (SecretService.Keyring): kept, cleared, counted" in done.stdout


def in_secret_service(folder: Path) -> None:
    secret_service.wait()
    path = folder / "locks" / "x"
    kept = storage("keyring", path)
    kept.probe()
    long = os.urandom(70_000)
    assert kept.swap("a", None, long)
    assert storage("keyring", path).load("a") == long
    assert not kept.swap("a", None, b"2")
    assert kept.swap("a", long, None)
    assert kept.keys() == []
    counted("keyring", path, KEYRING_TIMES)
    print(f"{kept.name}: kept, cleared, counted")
