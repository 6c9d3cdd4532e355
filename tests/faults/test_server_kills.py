"""kill -9 in the middle of refreshes: every client gets on by asking again."""

from __future__ import annotations

import http.client
import os
import random
import signal
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

from tests.faults.clients import post, token_form
from tests.faults.size import size
from tests.server.leaks import found
from tests.server.serving import GUNICORN, served
from tests.server.stores import Store

CYCLES, CLIENTS = size(500, 20), 4
# Forked from a master that has everything imported, a worker is back at once.
PRELOADED = (*GUNICORN, "--preload", "--workers", "2")
_PATIENCE = 30


def families(store: Store) -> tuple[int, int, int]:
    """Return how many families forked, successors were given twice, and grants were revoked."""
    forked = store.run(
        "SELECT count(*) FROM (SELECT grant_id FROM refresh_tokens GROUP BY grant_id"
        " HAVING count(*) - count(used_at) != 1) AS family"
    )
    twice = store.run("SELECT count(successor) - count(DISTINCT successor) FROM refresh_tokens")
    revoked = store.run("SELECT count(revoked_at) FROM grants")
    return forked[0][0], twice[0][0], revoked[0][0]


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


def test_RT_02_clients_recover_from_kills_by_repeating_requests(
    tmp_path: Path, store: Store
) -> None:
    killed = 0
    dice = random.Random()
    with served(tmp_path, PRELOADED, store, GRACE="30") as running:
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
        leaked = found(store, running.program.output, secrets)
    forked, twice, revoked = families(store)
    sound = store.engine_name != "sqlite" or store.run("PRAGMA integrity_check") == [("ok",)]
    refreshes = sum(len(each.access) for each in refreshers)
    retries = sum(each.retries for each in refreshers)
    print(f"\n{CYCLES} cycles on {store.engine_name}, {killed} workers killed,", end=" ")
    print(f"{refreshes} refreshes, {retries} retries;")
    print(f"  families forked: {forked}, revoked: {revoked};")
    print(f"  secrets looked for: {len(secrets)}, found in: {leaked}")
    assert [each.problem for each in refreshers] == [""] * CLIENTS
    assert min(len(each.access) for each in refreshers) > 0
    assert killed >= CYCLES
    assert (forked, twice, revoked, sound) == (0, 0, 0, True)
    assert leaked == []
