"""Somebody else holds the database's write lock, as a backup may: 503, and nothing is lost."""

from __future__ import annotations

import sqlite3
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from tests.faults.size import FULL
from tests.server.serving import GUNICORN, UVICORN, served

# Each takes the twenty seconds that a writer waits.
COMMANDS = {"asgi": UVICORN, "wsgi": GUNICORN} if FULL else {"asgi": UVICORN}
# Fewer than the server has threads, so that what only reads finds one.
WRITERS = 6


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_a_database_locked_for_long_costs_writers_a_503_and_readers_nothing(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    with served(tmp_path, command) as running:
        client = running.add()
        tokens = running.redeem(client, running.code(client)).json()
        refreshing = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"]}
        credentials = {"client_id": client.client_id, "client_secret": client.client_secret}
        with (
            closing(sqlite3.connect(tmp_path / "auth.db", isolation_level=None)) as other,
            ThreadPoolExecutor(WRITERS) as pool,
        ):
            other.execute("BEGIN IMMEDIATE")
            writing = [pool.submit(running.token, client, **refreshing) for _ in range(WRITERS)]
            time.sleep(1)
            asked = httpx2.post(
                f"{running.url}/oauth/introspect",
                data={**credentials, "token": tokens["access_token"]},
                timeout=5,
            )
            keys = httpx2.get(f"{running.url}/oauth/jwks", timeout=5)
            waiting = sum(not each.done() for each in writing)
            answers = [each.result() for each in writing]
            other.execute("ROLLBACK")
        after = running.token(client, **refreshing)
    statuses = Counter(each.status_code for each in answers)
    slowest = max(each.elapsed.total_seconds() for each in answers)
    print(f"\n{WRITERS} writers at a locked database: {dict(statuses)}, slowest {slowest:.1f} s")
    assert (asked.status_code, asked.json()["active"], keys.status_code) == (200, True, 200)
    assert waiting == WRITERS  # it was read while they waited
    assert statuses == {503: WRITERS}
    assert all(each.headers["retry-after"] for each in answers)
    assert {each.json()["error"] for each in answers} == {"temporarily_unavailable"}
    assert after.status_code == 200, after.text
