"""kill -9 in the middle of refreshes: every client gets on by asking again."""

from __future__ import annotations

import http.client
import os
import random
import signal
import sqlite3
import threading
import time
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.clients import post, token_form
from tests.faults.size import size
from tests.server.leaks import found
from tests.server.serving import GUNICORN, served

CYCLES, CLIENTS = size(500, 20), 4
# Forked from a master that has everything imported, a worker is back at once.
PRELOADED = (*GUNICORN, "--preload", "--workers", "2")
_PATIENCE = 30


class Refresher(threading.Thread):
    """A client that refreshes until it is stopped, and repeats a request that gets no response."""

    def __init__(self, url: str, client: object, token: str) -> None:
        super().__init__(daemon=True)
        self._address = urlsplit(url).netloc
        self._client = client
        self.tokens = [token]
        self.access: list[str] = []
        self.retries = 0
        self.problem = ""
        self.ending = threading.Event()

    def run(self) -> None:
        while not (self.ending.is_set() or self.problem):
            self._refresh()

    def _refresh(self) -> None:
        fields = {"grant_type": "refresh_token", "refresh_token": self.tokens[-1]}
        form = token_form(self._client, fields)  # type: ignore[arg-type]
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            connection = http.client.HTTPConnection(self._address, timeout=_PATIENCE)
            try:
                got = post(connection, form)
            except (OSError, http.client.HTTPException, ValueError):
                self.retries += 1
                time.sleep(0.02)
                continue
            finally:
                connection.close()
            if got.status == 503:
                self.retries += 1
                time.sleep(0.05)
                continue
            if got.status != 200:
                self.problem = f"{got.status} {got.error}"
                return
            self.tokens.append(got.content["refresh_token"])
            self.access.append(got.content["access_token"])
            return
        self.problem = "no response"


def _workers(master: int) -> list[int]:
    children = Path(f"/proc/{master}/task/{master}/children").read_text()
    return [int(pid) for pid in children.split()]


def test_RT_02_clients_recover_from_kills_by_repeating_requests(tmp_path: Path) -> None:
    killed = 0
    dice = random.Random()
    with served(tmp_path, PRELOADED, GRACE="30") as running:
        client = running.add()
        refreshers = [
            Refresher(
                running.url,
                client,
                running.redeem(client, running.code(client, f"user{n}")).json()["refresh_token"],
            )
            for n in range(CLIENTS)
        ]
        for each in refreshers:
            each.start()
        for _ in range(CYCLES):
            time.sleep(dice.uniform(0.02, 0.3))
            for pid in _workers(running.program.pid):
                os.kill(pid, signal.SIGKILL)
                killed += 1
            problems = [each.problem for each in refreshers if each.problem]
            assert not problems, problems
        time.sleep(1)
        for each in refreshers:
            each.ending.set()
        for each in refreshers:
            each.join(_PATIENCE * 2)
        secrets = [token for each in refreshers for token in (*each.tokens, *each.access)]
        leaked = found(tmp_path, running.program.output, secrets)
    with closing(sqlite3.connect(tmp_path / "auth.db")) as database:
        integrity = database.execute("PRAGMA integrity_check").fetchone()[0]
        forked = database.execute(
            "SELECT count(*) FROM (SELECT grant_id FROM refresh_tokens"
            " GROUP BY grant_id HAVING sum(used_at IS NULL) != 1)"
        ).fetchone()[0]
        twice = database.execute(
            "SELECT count(successor) - count(DISTINCT successor) FROM refresh_tokens"
        ).fetchone()[0]
        revoked = database.execute("SELECT count(revoked_at) FROM grants").fetchone()[0]
    refreshes = sum(len(each.access) for each in refreshers)
    retries = sum(each.retries for each in refreshers)
    print(f"\n{CYCLES} cycles, {killed} workers killed, {refreshes} refreshes, {retries} retries;")
    print(f"  families forked: {forked}, revoked: {revoked}; integrity_check: {integrity};")
    print(f"  secrets looked for: {len(secrets)}, found in: {leaked}")
    assert [each.problem for each in refreshers] == [""] * CLIENTS
    assert min(len(each.access) for each in refreshers) > 0
    assert killed >= CYCLES
    assert (forked, twice, revoked, integrity) == (0, 0, 0, "ok")
    assert leaked == []
