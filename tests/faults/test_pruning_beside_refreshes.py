"""Many expired rows are removed at once, while clients refresh as fast as they are served."""

from __future__ import annotations

import http.client
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from bearerguard.server import Registered
from tests.faults.clients import post, token_form
from tests.faults.size import FULL, size
from tests.server.harness import SECRET
from tests.server.serving import GUNICORN, ROOT, Served, served

ROWS = size(200_000, 1_000)
WINDOW = size(20, 2)
CLIENTS = 8
WORKERS = (*GUNICORN, "--workers", "2")
TABLES = (
    "codes",
    "access_tokens",
    "refresh_tokens",
    "grants",
    "assertions",
    "client_secrets",
    "revocations",
    "sessions",
    "login_attempts",
)
PRUNE = (
    "import sys; from bearerguard.server import AuthorizationServer as S;"
    "s = S(sys.argv[1], store=sys.argv[2], secret=sys.argv[3]); print(s.prune()); s.close()"
)


def test_refreshes_go_on_while_what_is_over_is_removed(tmp_path: Path) -> None:
    with served(tmp_path, WORKERS) as running:
        client = running.add()
        tokens = [
            running.redeem(client, running.code(client)).json()["refresh_token"]
            for _ in range(CLIENTS)
        ]
        _fill(tmp_path / "auth.db", client.client_id)
        with _Refreshing(running, client, tokens) as refreshing:
            before = refreshing.during(lambda: time.sleep(WINDOW))
            began = time.monotonic()
            meanwhile = refreshing.during(lambda: _prune(running, tmp_path))
            took = time.monotonic() - began
        left = _left(tmp_path / "auth.db")
    print(f"\n{ROWS} rows of each of {len(TABLES)} kinds pruned in {took:.0f} s")
    for name, each in (("before", before), ("meanwhile", meanwhile)):
        print(f"  {name}: {each.rate:.0f} refreshes/s, p50 {each.at(0.5):.0f}, p99", end=" ")
        print(f"{each.at(0.99):.0f}, slowest {each.at(1):.0f} ms, failed {each.failed}")
    assert (before.failed, meanwhile.failed) == (0, 0)
    assert left == dict.fromkeys(TABLES, 0)
    if FULL:  # else the windows are too short to say anything
        assert meanwhile.rate >= 0.8 * before.rate
        assert meanwhile.at(0.99) < 3 * before.at(0.99)


class _Window:
    """What refreshes took, in milliseconds."""

    def __init__(self, took: list[float], failed: int, seconds: float) -> None:
        self._took = sorted(took)
        self.failed = failed
        self.rate = len(took) / seconds

    def at(self, share: float) -> float:
        return self._took[min(len(self._took) - 1, int(share * len(self._took)))]


class _Refreshing:
    """Clients, each of which refreshes its own session over and over."""

    def __init__(self, running: Served, client: Registered, tokens: list[str]) -> None:
        self._address = urlsplit(running.url).netloc
        self._client = client
        self._done: list[tuple[float, bool]] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._refresh, args=(each,)) for each in tokens]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def during(self, action: Callable[[], object]) -> _Window:
        first, began = len(self._done), time.monotonic()
        action()
        found, seconds = self._done[first:], time.monotonic() - began
        return _Window(
            [took for took, _ in found], sum(not good for _, good in found), max(seconds, 0.001)
        )

    def _refresh(self, token: str) -> None:
        with closing(http.client.HTTPConnection(self._address, timeout=60)) as connection:
            while not self._stop.is_set():
                fields = {"grant_type": "refresh_token", "refresh_token": token}
                began = time.monotonic()
                try:
                    got = post(connection, token_form(self._client, fields))
                except (ConnectionError, http.client.HTTPException):
                    connection.close()  # it idled, or is closed after so many
                    continue
                self._done.append((1000 * (time.monotonic() - began), got.status == 200))
                token = got.content.get("refresh_token", token)


def _prune(running: Served, folder: Path) -> None:
    store = f"sqlite:///{folder}/auth.db"
    subprocess.run(
        [sys.executable, "-c", PRUNE, running.url, store, SECRET],
        check=True,
        cwd=ROOT,
        capture_output=True,
    )


def _fill(path: Path, client_id: str) -> None:
    """Write rows of each kind that are over for a day; each grant was revoked."""
    over = time.time() - 86_400

    client = {"client_id": client_id, "user_id": "eve", "scope": "read", "resources": "[]"}
    tables: dict[str, dict[str, object]] = {
        "grants": {
            "grant_id": KEY,
            **client,
            "created_at": over,
            "expires_at": over + 90 * 86_400,
            "revoked_at": over,
        },
        "codes": {
            "digest": KEY,
            **client,
            "redirect_uri": "https://app.example.com/cb",
            "created_at": over,
            "expires_at": over,
        },
        "access_tokens": {
            "token_key": KEY,
            "grant_id": KEY,
            "client_id": client_id,
            "subject": "eve",
            "scope": "read",
            "audience": "[]",
            "issued_at": over,
            "expires_at": over,
        },
        "refresh_tokens": {
            "digest": KEY,
            "grant_id": KEY,
            "created_at": over,
            "expires_at": over + 30 * 86_400,
            "used_at": over,
            "generation": 1,
        },
        "assertions": {"digest": KEY, "expires_at": over},
        "client_secrets": {
            "digest": KEY,
            "client_id": client_id,
            "created_at": over,
            "expires_at": over,
        },
        "revocations": {"kind": "token", "value": KEY, "expires_at": over},
        "sessions": {"digest": KEY, "user_id": "eve", "signed_in_at": over, "expires_at": over},
        "login_attempts": {"digest": KEY, "whole_at": over},
    }
    with closing(sqlite3.connect(path, timeout=60)) as database:
        for table, values in tables.items():
            marks = ", ".join("?" * len(values))
            database.executemany(
                f"INSERT INTO {table} ({', '.join(values)}) VALUES ({marks})",
                _rows(list(values.values())),
            )
            database.commit()


def _rows(values: list[object]) -> Iterator[list[object]]:
    for number in range(ROWS):
        key = f"{(number * 2654435761) % 2**64:064x}"
        yield [key if value is KEY else value for value in values]


def _left(path: Path) -> dict[str, int]:
    old = time.time() - 86_000
    dates = {"grants": "revoked_at", "refresh_tokens": "created_at", "login_attempts": "whole_at"}
    with closing(sqlite3.connect(path)) as database:
        return {
            table: database.execute(
                f"SELECT count(*) FROM {table} WHERE {dates.get(table, 'expires_at')} < {old}"
            ).fetchone()[0]
            for table in TABLES
        }


KEY = object()
