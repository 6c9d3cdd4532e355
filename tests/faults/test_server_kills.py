"""kill -9 in the middle of refreshes: every client gets on by asking again."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

from tests.faults.sessions import Refresher, busy, forked, outcomes, problems
from tests.faults.size import size
from tests.server.leaks import found
from tests.server.serving import GUNICORN, served
from tests.server.stores import Store

CYCLES, CLIENTS = size(500, 20), 4
# Forked from a master that has everything imported, a worker is back at once.
PRELOADED = (*GUNICORN, "--preload", "--workers", "2")


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
        refreshers = [Refresher(running, client, f"user{n}") for n in range(CLIENTS)]
        with busy(refreshers):
            for _ in range(CYCLES):
                time.sleep(dice.uniform(0.02, 0.3))
                for pid in _workers(running.program.pid):
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
                assert problems(refreshers) == []
            time.sleep(1)
        secrets = [secret for each in refreshers for secret in each.secrets]
        leaked = found(store, running.program.output, secrets)
    sound = store.engine_name != "sqlite" or store.run("PRAGMA integrity_check") == [("ok",)]
    revoked = store.count("grants", "revoked_at IS NOT NULL")
    families, twice = forked(store)
    print(f"\n{CYCLES} cycles on {store.engine_name}, {killed} workers killed,", end=" ")
    print(f"{sum(each.done for each in refreshers)} refreshes, {outcomes(refreshers)};")
    print(f"  families forked: {families}, revoked: {revoked};")
    print(f"  secrets looked for: {len(secrets)}, found in: {leaked}")
    assert problems(refreshers) == []
    assert min(each.done for each in refreshers) > 0
    assert killed >= CYCLES
    assert (families, twice, revoked, sound) == (0, 0, 0, True)
    assert leaked == []
