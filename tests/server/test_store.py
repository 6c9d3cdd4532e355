"""The store: made once, private, pruned, and never scanned for a request."""

from __future__ import annotations

import logging
import os
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bearerguard import ConfigurationError
from bearerguard.runtime.process_lock import ProcessLock
from bearerguard.server import AuthorizationServer, StoreUnavailable
from bearerguard.server.administration import Administration
from bearerguard.server.store import clients
from bearerguard.server.store.database import Database
from bearerguard.server.store.engines import sqlite
from bearerguard.server.store.migrate import migrate
from tests.server.harness import ISSUER, SECRET, Harness, Make
from tests.server.serving import ROOT


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path}/auth.db", connections=2)
    migrate(made)
    return made


def test_sqlite_is_durable_and_checks_references(database: Database) -> None:
    with database.read() as connection:

        def pragma(name: str) -> Any:
            return connection.run(f"PRAGMA {name}").scalar()

        assert pragma("journal_mode") == "wal"
        assert pragma("synchronous") == 2, "FULL"
        assert pragma("foreign_keys") == 1
    database.close()


@pytest.mark.sqlite_only
def test_the_files_are_for_their_owner_alone(harness: Harness) -> None:
    harness.token(grant_type="client_credentials")
    for path in harness.folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


@pytest.mark.sqlite_only
def test_files_that_others_could_read_are_closed_to_them_and_the_operator_is_told(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.token(grant_type="client_credentials")  # now there is a -wal and a -shm
    files = sorted(harness.folder.iterdir())
    names = ("", "-queue", "-shm", "-turn", "-wal")
    assert [path.name for path in files] == [f"auth.db{each}" for each in names]
    for path in files:
        path.chmod(0o644)
    with caplog.at_level(logging.WARNING, "bearerguard.server"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{harness.folder}/auth.db", secret=SECRET)
    assert [stat.S_IMODE(path.stat().st_mode) for path in files if path.exists()] == [0o600] * 5
    warnings = [
        record.message for record in caplog.records if "could be read by others" in record.message
    ]
    assert [str(path) for path in files] == sorted(line.split()[0] for line in warnings)
    caplog.clear()
    AuthorizationServer(ISSUER, store=f"sqlite:///{harness.folder}/auth.db", secret=SECRET)
    assert not caplog.records, "once"


@pytest.mark.sqlite_only
def test_a_file_of_somebody_else_that_others_can_read_is_refused() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "auth.db")
        path.touch()
        for each, mode in ((path, 0o666), (path.parent, 0o755)):
            each.chmod(mode)
        child = os.fork()
        if not child:
            outcome = "nothing"
            try:
                # Only root can be somebody else; others look at a file of root's.
                if os.geteuid() == 0:
                    os.setuid(65_534)
                else:
                    path = Path("/etc/passwd")
                sqlite._keep_private(path)
            except ConfigurationError as error:
                outcome = str(error)
            finally:
                os._exit(0 if "Operation not permitted): `chmod 600`" in outcome else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_what_is_over_is_removed_and_what_stands_stays(harness: Harness) -> None:
    day = 86_400
    for _ in range(3):
        harness.tokens()
    old = harness.tokens()
    code = harness.code()
    new = harness.server.clients.rotate_secret(harness.app.client_id)

    def rows() -> dict[str, int]:
        tables = ("codes", "access_tokens", "refresh_tokens", "grants", "client_secrets")
        return {table: harness.store.count(table) for table in tables}

    assert rows() == {
        "codes": 5,
        "access_tokens": 0,  # JWTs have no rows
        "refresh_tokens": 4,
        "grants": 4,
        "client_secrets": 2,
    }
    assert harness.server.prune() == 0
    harness.clock.now += 2 * day
    assert harness.server.prune() == 5 + 1
    assert rows()["refresh_tokens"] == 4
    assert harness.redeem(code, client_secret=new).error == (400, "invalid_grant")
    harness.clock.now += 29 * day
    harness.server.prune()
    assert (rows()["refresh_tokens"], rows()["grants"]) == (0, 0)
    assert not harness.server.introspect(old["access_token"])["active"]


def test_pruning_happens_by_itself_and_forgets_sealed_successors(harness: Harness) -> None:
    first = harness.tokens()["refresh_token"]
    harness.refresh(first)
    harness.clock.now += 61

    def sealed() -> int:
        return harness.store.count("refresh_tokens", "sealed_successor IS NOT NULL")

    assert sealed() == 1
    harness.token(grant_type="client_credentials")
    harness.server._engine.upkeep.wait()
    assert sealed() == 0


@pytest.mark.parametrize(
    ("store", "remedy"),
    [
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("not a url", "sqlite:///auth.db"),
        ("sqlite:auth.db", "sqlite:///auth.db"),
        ("mysql://db/x", "sqlite:///auth.db"),
        ("sqlite:////nowhere/at/all/auth.db", "directory"),
        (7, "sqlite:///auth.db"),
    ],
)
def test_a_store_that_cannot_be_used_is_named_with_its_remedy(store: Any, remedy: str) -> None:
    with pytest.raises(ConfigurationError, match="store=") as refusal:
        AuthorizationServer(ISSUER, store=store, secret=SECRET)
    assert remedy in str(refusal.value)


def test_a_database_that_is_locked_while_it_is_prepared_is_waited_for_and_then_named(
    tmp_path: Path,
) -> None:
    made = Database(f"sqlite:///{tmp_path}/auth.db", connections=1)
    made.engine.wait = 0.05  # type: ignore[misc]
    with closing(sqlite3.connect(tmp_path / "auth.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(ConfigurationError, match=r"auth\.db .*journal mode is busy"):
            migrate(made)
        other.execute("COMMIT")
    migrate(made)
    made.close()


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "auth.db"
    path.write_bytes(b"something else entirely, of some length" * 100)
    with pytest.raises(ConfigurationError, match="not an SQLite database"):
        AuthorizationServer(ISSUER, store=f"sqlite:///{path}", secret=SECRET)
    assert path.read_bytes().startswith(b"something else")


@pytest.mark.sqlite_only
@pytest.mark.parametrize("kept", [5000, 8192])
@pytest.mark.parametrize("create", [True, False])
def test_a_damaged_database_is_named_and_left_alone(
    harness: Harness, kept: int, *, create: bool
) -> None:
    harness.server.close()
    path = harness.folder / "auth.db"
    whole = path.read_bytes()
    damaged = whole[:kept] + (b"" if kept % 4096 else b"\xff" * (len(whole) - kept))
    path.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match=r"store=: .*auth\.db is damaged \("):
        Administration(f"sqlite:///{path}", secret=SECRET, create=create)
    assert path.read_bytes() == damaged


def test_a_link_to_a_file_that_is_not_there_is_no_store(tmp_path: Path) -> None:
    link = tmp_path / "auth.db"
    link.symlink_to(tmp_path / "gone.db")
    with pytest.raises(
        ConfigurationError, match=r"auth\.db is a link to a file that does not exist"
    ):
        AuthorizationServer(ISSUER, store=f"sqlite:///{link}", secret=SECRET)
    assert [each.name for each in tmp_path.iterdir()] == ["auth.db"]


def test_a_schema_of_a_later_version_is_refused(harness: Harness) -> None:
    harness.store.run("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="later one"):
        AuthorizationServer(ISSUER, store=harness.store.url, secret=SECRET)


def test_a_store_in_trouble_is_503_and_never_500(harness: Harness) -> None:
    harness.server.close()
    harness.store.rename("clients", "elsewhere")
    response = harness.token(grant_type="client_credentials")
    assert response.error == (503, "temporarily_unavailable")
    assert response.header("retry-after") is not None
    assert harness.named("store_unavailable")
    assert str(harness.app.client_secret) not in str(harness.events)


def test_a_store_that_works_again_is_reported_once(harness: Harness) -> None:
    harness.server.close()
    harness.store.rename("changes", "elsewhere")  # which each request reads first
    for _ in range(2):
        assert harness.token(grant_type="client_credentials").status == 503
    assert not harness.named("store_restored")
    harness.store.rename("elsewhere", "changes")
    for _ in range(2):
        assert harness.token(grant_type="client_credentials").status == 200
    (restored,) = harness.named("store_restored")
    assert "restored after" in restored.details["outage"]


def test_a_transaction_that_fails_changes_nothing(database: Database) -> None:
    with pytest.raises(StoreUnavailable), database.write() as connection:
        clients.add(connection, client_id="x")  # type: ignore[call-arg] # as the test needs it
    with database.read() as connection:
        assert clients.find(connection, "x") is None
    database.close()


def test_a_child_opens_connections_of_its_own(harness: Harness) -> None:
    harness.token(grant_type="client_credentials")
    child = os.fork()
    if not child:
        good = harness.token(grant_type="client_credentials").status == 200
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert harness.token(grant_type="client_credentials").status == 200


def test_four_processes_on_an_empty_database_migrate_once_and_make_one_key(
    tmp_path: Path,
) -> None:
    code = (
        "import sys; from bearerguard.server import AuthorizationServer;"
        f"s = AuthorizationServer({ISSUER!r}, store='sqlite:///{tmp_path}/auth.db');"
        "print(*[k.kid for k in s.keys.all()])"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    environ.pop("BEARERGUARD_SERVER_SECRET", None)
    starting = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environ,
            text=True,
        )
        for _ in range(4)
    ]
    ended = [process.communicate(timeout=60) for process in starting]
    assert [process.returncode for process in starting] == [0] * 4, ended
    kids = {out.strip() for out, _ in ended}
    assert len(kids) == 1
    assert len(kids.pop().split()) == 1
    with closing(sqlite3.connect(tmp_path / "auth.db")) as database:
        assert database.execute("SELECT count(*) FROM signing_keys").fetchone()[0] == 1
    names = ("", "-queue", "-turn", ".secret")
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"auth.db{each}" for each in names]


def test_requests_from_many_threads_are_all_answered(make: Make) -> None:
    from concurrent.futures import ThreadPoolExecutor

    harness = make(threads=2)
    tokens = [harness.tokens()["refresh_token"] for _ in range(4)]
    with ThreadPoolExecutor(6) as pool:
        statuses = list(pool.map(lambda token: harness.refresh(token).status, tokens * 5))
    assert statuses == [200] * 20


def test_a_child_never_waits_for_a_lock_that_its_parent_held() -> None:
    lock = ProcessLock()
    with lock:
        assert not lock.acquire(timeout=0)
        assert not lock.acquire(timeout=0.01)
        child = os.fork()
        if not child:
            os._exit(0 if lock.acquire(timeout=0) else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert lock.acquire(timeout=0)


def test_upkeep_that_fails_harms_no_request(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.clock.now += 61
    harness.store.rename("assertions", "elsewhere")
    assert harness.token(grant_type="client_credentials").status == 200
    harness.server._engine.upkeep.wait()
    assert "upkeep_failed" in caplog.text
