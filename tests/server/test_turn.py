"""Processes take turns to write to one SQLite database."""

from __future__ import annotations

import fcntl
import os
import signal
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from itertools import groupby, pairwise
from pathlib import Path

import pytest

from bearerguard.server import StoreUnavailable
from bearerguard.server.store.database import Database
from bearerguard.server.store.engines.turn import Turn
from bearerguard.server.store.migrate import migrate
from tests.server.harness import Harness


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database, which the lock only needs for its owner."""
    made = tmp_path / "auth.db"
    made.touch()
    return made


@contextmanager
def child(action: Callable[[], object]) -> Generator[int]:
    """Run `action` in a forked process, which then waits; yield its id when `action` is done."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            action()
            os.write(writing, b".")
            time.sleep(60)
        finally:
            os._exit(1)
    os.close(writing)
    try:
        assert os.read(reading, 1) == b"."
        yield pid
    finally:
        os.close(reading)
        end(pid)


def end(pid: int) -> None:
    """Kill a process unless it has been killed."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_free(path: Path, *, within: float = 0.05) -> bool:
    """Whether another process could take the lock."""
    other = Turn(path)
    free = other.acquire(within)
    if free:
        other.release()
    other.close()
    return free


def writer(url: str, name: str, start: int, writes: int) -> int:
    """Fork a process that writes without pause as soon as `start` can be read."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        database = Database(url, connections=1)
        os.read(start, 1)
        for _ in range(writes):
            with database.write() as connection:
                connection.run("INSERT INTO writes (name) VALUES (?)", (name,))
        code = 0
    finally:
        os._exit(code)


def test_two_processes_that_write_without_pause_take_turns(tmp_path: Path) -> None:
    url, writes = f"sqlite:///{tmp_path}/auth.db", 300
    database = Database(url, connections=1)
    migrate(database)
    with database.write() as connection:
        connection.run("CREATE TABLE writes (position INTEGER PRIMARY KEY, name TEXT)")
    reading, writing = os.pipe()
    pids = [writer(url, name, reading, writes) for name in "ab"]
    os.write(writing, b"..")
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0]
    with database.read() as connection:
        names = connection.run("SELECT name FROM writes ORDER BY position").scalars()
    database.close()
    os.close(reading)
    os.close(writing)
    assert len(names) == 2 * writes
    # Until one has finished: the other then is alone.
    beside = names[: min(len(names) - names[::-1].index(each) for each in "ab")]
    alternations = sum(one != other for one, other in pairwise(beside))
    longest = max(len(list(run)) for _, run in groupby(beside))
    assert alternations > len(beside) / 4, (alternations, longest, len(beside))


def test_who_waits_is_not_overtaken_by_who_has_just_released_the_lock(path: Path) -> None:
    first, second = Turn(path), Turn(path)
    assert first.acquire(1)
    got = threading.Event()

    def wait() -> None:
        assert second.acquire(60)
        got.set()

    waiting = threading.Thread(target=wait)
    waiting.start()
    while second._files == (-1, -1) or is_in_queue(first):
        time.sleep(0.001)
    first.release()
    assert not first.acquire(0)
    assert got.wait(60)
    second.release()
    waiting.join()
    assert first.acquire(60)
    first.release()


def is_in_queue(turn: Turn) -> bool:
    """Whether the queue's lock can be had, so that nobody waits."""
    try:
        fcntl.flock(turn._files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(turn._files[0], fcntl.LOCK_UN)
    return True


def test_a_lock_that_is_held_too_long_is_not_waited_for(path: Path) -> None:
    holder, waiting = Turn(path), Turn(path)
    assert holder.acquire(1)
    assert not waiting.acquire(0.02)
    assert not holder.acquire(0.02), "nor by another thread of the same process"
    holder.release()
    assert waiting.acquire(0.02), "who gave up holds nothing"
    waiting.release()


def test_the_lock_of_a_killed_process_is_free(path: Path) -> None:
    turn = Turn(path)
    with child(lambda: turn.acquire(1)) as pid:
        assert not is_free(path)
        end(pid)
        assert is_free(path, within=20)


def test_a_forked_child_has_no_part_in_its_parents_lock(path: Path) -> None:
    turn = Turn(path)
    assert turn.acquire(1)

    def try_it() -> None:
        assert not turn.acquire(0.02)

    with child(try_it):
        turn.release()
        assert turn.acquire(60), "the child holds nothing"
        turn.release()


def test_the_lock_of_a_killed_parent_is_free_though_its_child_lives(path: Path) -> None:
    reading, writing = os.pipe()
    turn = Turn(path)

    def hold_and_fork() -> None:
        assert turn.acquire(1)
        grandchild = os.fork()
        if not grandchild:
            time.sleep(60)
            os._exit(0)
        os.write(writing, str(grandchild).encode())

    with child(hold_and_fork) as pid:
        grandchild = int(os.read(reading, 20))
        try:
            assert not is_free(path)
            end(pid)
            assert is_free(path, within=20)
            os.kill(grandchild, 0)  # it is still there
        finally:
            os.kill(grandchild, signal.SIGKILL)
            os.close(reading)
            os.close(writing)


def test_what_is_closed_is_opened_again_by_its_next_use(path: Path) -> None:
    before = descriptors()
    turn = Turn(path)
    turn.close()
    for _ in range(2):
        assert turn.acquire(1)
        assert descriptors() == before + 2
        turn.release()
        turn.close()
        assert descriptors() == before
    assert is_free(path)


def test_a_lock_that_nobody_closed_leaves_no_open_file(path: Path) -> None:
    before = descriptors()
    turn = Turn(path)
    assert turn.acquire(1)
    turn.release()
    del turn
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")
def test_lock_files_that_root_makes_are_the_databases_owners(path: Path) -> None:
    os.chown(path, 65_534, 65_534)
    assert is_free(path)
    for ending in ("-queue", "-turn"):
        found = path.with_name(path.name + ending).stat()
        assert (found.st_uid, found.st_gid) == (65_534, 65_534)
        assert stat.S_IMODE(found.st_mode) == 0o600


# In a server


@pytest.mark.sqlite_only
def test_a_request_whose_turn_does_not_come_is_503_and_the_next_one_is_fine(
    harness: Harness,
) -> None:
    token = harness.tokens()["refresh_token"]
    harness.server.database.engine.wait = 0.05  # type: ignore[misc]
    other = Turn(harness.folder / "auth.db")
    assert other.acquire(1)
    reply = harness.refresh(token)
    assert reply.error == (503, "temporarily_unavailable")
    assert reply.header("retry-after") is not None
    assert "busy" in str(harness.named("store_unavailable"))
    assert harness.token(grant_type="client_credentials").status == 200, "it writes nothing"
    other.release()
    assert not harness.named("store_restored"), "reading was possible all the time"
    assert harness.refresh(token).status == 200
    assert len(harness.named("store_restored")) == 1


@pytest.mark.sqlite_only
def test_a_program_that_locks_the_database_by_itself_is_waited_for_in_what_is_left_of_the_time(
    harness: Harness,
) -> None:
    token = harness.tokens()["refresh_token"]
    harness.server.database.close()
    harness.server.database.engine.wait = 1.3  # type: ignore[misc]
    other = Turn(harness.folder / "auth.db")
    assert other.acquire(1)
    with closing(sqlite3.connect(harness.folder / "auth.db", isolation_level=None)) as program:
        program.execute("BEGIN IMMEDIATE")
        later = threading.Timer(1.05, other.release)
        later.start()
        assert harness.refresh(token).error == (503, "temporarily_unavailable")
        later.join()
        assert is_free(harness.folder / "auth.db"), "its turn has ended"
    assert harness.refresh(token).status == 200
    with harness.server.database.read() as connection:
        assert connection.run("PRAGMA busy_timeout").scalar() == 1300


@pytest.mark.parametrize("ending", ["-queue", "-turn"])
def test_a_lock_file_that_cannot_be_opened_is_503_and_named(tmp_path: Path, ending: str) -> None:
    database = Database(f"sqlite:///{tmp_path}/auth.db", connections=1)
    migrate(database)
    with database.read():
        before = descriptors()
    (tmp_path / f"auth.db{ending}").mkdir()
    with pytest.raises(StoreUnavailable, match=f"auth.db{ending}"), database.write():
        raise AssertionError("it must not begin")
    assert descriptors() == before
    (tmp_path / f"auth.db{ending}").rmdir()
    with database.write():
        pass
    database.close()
