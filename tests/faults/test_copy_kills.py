"""kill -9 in the middle of `bearerguard store copy`: both databases are what they were before."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bearerguard.server.store.copying import _TABLES
from tests.faults.size import size
from tests.postgresql_server import PostgreSQLServer, wait_until
from tests.server.harness import SECRET, Harness
from tests.server.stores import Store, postgresql_store, sqlite_store

GRANTS = size(500_000, 50_000)
PROGRAM = str(Path(sys.executable).with_name("bearerguard"))


def filled(folder: Path) -> Store:
    """Return a database with as many grants, each with a refresh token."""
    store = sqlite_store(folder)
    harness = Harness(folder, store)
    harness.server.close()
    client = harness.app.client_id
    store.run(
        "INSERT INTO grants (grant_id, client_id, user_id, scope, resources, created_at,"
        " expires_at) VALUES (:id, :client, 'ada', 'read', '[]', 1, 2e9)",
        [{"id": secrets.token_hex(16), "client": client} for _ in range(GRANTS)],
    )
    store.run(
        "INSERT INTO refresh_tokens (digest, grant_id, created_at, expires_at, generation)"
        " SELECT lower(hex(randomblob(32))), grant_id, 1.5, 2e9, 0 FROM grants"
    )
    return store


def start(source: Store, target: Store) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [PROGRAM, "store", "copy", source.url, target.url],
        env={**os.environ, "BEARERGUARD_SERVER_SECRET": SECRET},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_copy_that_is_killed_leaves_nothing_and_can_be_repeated(
    tmp_path: Path, postgresql_server: PostgreSQLServer, kind: str
) -> None:
    (tmp_path / "new").mkdir()
    source = filled(tmp_path)
    with postgresql_store(postgresql_server) as other:
        target = other if kind == "postgresql" else sqlite_store(tmp_path / "new")
        for line in ("client_secrets:", "grants:"):
            copying = start(source, target)
            assert copying.stderr is not None
            while not copying.stderr.readline().startswith(line):
                assert copying.poll() is None
            copying.send_signal(signal.SIGKILL)
            copying.communicate()
            assert copying.returncode == -signal.SIGKILL
            assert [target.count(each.name) for each in _TABLES] == [0] * len(_TABLES)
        if kind == "postgresql":
            # PostgreSQL notices the end of a client after its last statement.
            query = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            wait_until(lambda: other.run(query) == [(1,)])
        copying = start(source, target)
        output, progress = copying.communicate()
        assert copying.returncode == 0, progress
        assert f"has the {2 * GRANTS + 4} rows of" in output, output
        assert target.count("refresh_tokens") == source.count("refresh_tokens") == GRANTS
