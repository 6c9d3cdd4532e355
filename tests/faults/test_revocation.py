"""A fleet of workers and their Redis, which is killed, stopped, filled, robbed and restarted.

`scripts/stress` runs ten times as much. What is measured is printed; what is asserted is
what must never happen.
"""

from __future__ import annotations

import os
import random
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from bearerguard.testing import LocalIssuer
from tests.faults.fleet import Fleet, Worker, wait_until_refused
from tests.redis_server import RedisServer

SIZE = 10 if os.environ.get("BEARERGUARD_STRESS") else 1
# The promise: so long after `revoke()` has returned, no worker lets the token through.
GRACE = 1.0


@pytest.fixture
def fleet(redis: RedisServer, tmp_path: Path) -> Iterator[Fleet]:
    fleet = Fleet(redis, LocalIssuer(algorithm="ES256"), tmp_path)
    with fleet.hired("asgi", "asgi", "asgi", "wsgi", "wsgi"):
        yield fleet


class Load:
    """Clients that never rest, and what they saw. Tokens are added and revoked meanwhile."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stopped = threading.Event()
        self.live = [fleet.token() for _ in range(20)]
        self.revoked: dict[str, float] = {}
        self.uncertain: set[str] = set()
        self.statuses: Counter[int] = Counter()
        self.accepted_too_late: list[float] = []
        self.refused_wrongly = 0
        self.failed_revocations = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        jobs = [(self._ask, worker) for worker in self._fleet.workers for _ in range(2)]
        jobs.append((self._revoke, self._fleet.workers[0]))
        jobs.append((self._revoke, self._fleet.workers[-1]))
        with ThreadPoolExecutor(len(jobs)) as pool:
            futures = [pool.submit(job, worker.another_client()) for job, worker in jobs]
            try:
                yield
            finally:
                self._stopped.set()
            for future in futures:
                future.result()

    def _ask(self, worker: Worker) -> None:
        while not self._stopped.is_set():
            revoked = list(self.revoked)
            recently = revoked[-5:] + random.sample(revoked, min(5, len(revoked)))
            token = random.choice(self.live[:] + recently)
            sent = time.monotonic()
            since = self.revoked.get(token)
            status = worker.status(token)
            self.statuses[status] += 1
            if status == 200 and since is not None and sent >= since + GRACE:
                self.accepted_too_late.append(sent - since)
            if status == 401 and token not in self.revoked and token not in self.uncertain:
                self.refused_wrongly += 1
            time.sleep(0.002)

    def _revoke(self, worker: Worker) -> None:
        while not self._stopped.is_set():
            token = self._fleet.token()
            self.live.append(token)
            time.sleep(random.uniform(0.02, 0.1))
            self.uncertain.add(token)
            self.live.remove(token)
            if worker.revoke(token):
                self.revoked[token] = time.monotonic()
            else:
                self.failed_revocations += 1


def test_a_revocation_reaches_every_worker(fleet: Fleet) -> None:
    first, *others = fleet.workers
    waits: list[float] = []
    with ThreadPoolExecutor(len(others)) as pool:
        for _ in range(30 * SIZE):
            token = fleet.token()
            assert {worker.status(token) for worker in fleet.workers} == {200}
            began = time.monotonic()
            refusals = [pool.submit(wait_until_refused, worker, token) for worker in others]
            assert first.revoke(token)
            assert first.status(token) == 401
            waits += [refusal.result() - began for refusal in refusals]
    print(
        f"\nrevoked by one worker, refused by {len(others)} others, {len(waits)} times:"
        f" median {statistics.median(waits) * 1000:.1f} ms, worst {max(waits) * 1000:.1f} ms"
    )


def test_a_redis_that_dies_under_load_lets_no_revoked_token_through(fleet: Fleet) -> None:
    fleet.redis.keep_data()
    load = Load(fleet)
    recoveries: list[float] = []
    with load.running():
        for cycle in range(4 * SIZE):
            time.sleep(0.7)
            token = fleet.token()
            fleet.redis.kill()
            if cycle % 2:
                fleet.redis.forget()
            time.sleep(random.uniform(0.1, 1.5))
            fleet.redis.start()
            recoveries.append(_recovery(fleet, token))
    _check(load)
    print(
        f"\n{4 * SIZE} kills, every other one with loss of all data:"
        f" recovered in {statistics.median(recoveries):.2f} s, at worst {max(recoveries):.2f} s;"
        f" {sum(load.statuses.values())} requests {dict(load.statuses)};"
        f" {len(load.revoked)} tokens revoked, {load.failed_revocations} revocations refused;"
        f" {len(load.accepted_too_late)} accepted {GRACE:.0f} s after their revocation"
    )
    # Who comes later learns all of it, though the store lost it again and again.
    with fleet.hired("asgi", "wsgi") as newcomers:
        for worker in newcomers:
            assert {worker.status(token) for token in load.revoked} == {401}
    _check_that_no_token_is_stored(fleet)


def test_a_redis_that_hangs_or_is_full_lets_no_revoked_token_through(fleet: Fleet) -> None:
    load = Load(fleet)
    with load.running():
        for _ in range(2 * SIZE):
            time.sleep(0.5)
            fleet.redis.signal(signal.SIGSTOP)
            time.sleep(random.uniform(0.5, 2))
            fleet.redis.signal(signal.SIGCONT)
            time.sleep(1)
            with fleet.redis.client() as client:
                client.config_set("maxmemory", "1")
                time.sleep(0.5)
                client.config_set("maxmemory", "0")
    _check(load)
    assert load.failed_revocations
    print(
        f"\n{2 * SIZE} times hanging and full: {sum(load.statuses.values())} requests"
        f" {dict(load.statuses)}; {len(load.revoked)} tokens revoked,"
        f" {load.failed_revocations} revocations refused;"
        f" {len(load.accepted_too_late)} accepted {GRACE:.0f} s after their revocation"
    )


def _recovery(fleet: Fleet, token: str) -> float:
    """Return how long it takes until a token can be revoked, and is refused everywhere."""
    began = time.monotonic()
    first, *others = (worker.another_client() for worker in fleet.workers)
    while not first.revoke(token):
        assert time.monotonic() < began + 30
        time.sleep(0.005)
    return max(wait_until_refused(worker, token) for worker in others) - began


def _check(load: Load) -> None:
    assert load.accepted_too_late == []
    assert load.refused_wrongly == 0
    assert set(load.statuses) <= {200, 401, 503}
    assert load.statuses[200] > 100
    assert load.statuses[401] > 100
    assert len(load.revoked) > 10


def _check_that_no_token_is_stored(fleet: Fleet) -> None:
    dump = fleet.redis.dump()
    assert b"bearerguard" in dump  # it is what it is meant to be
    parts = {part.encode() for token in fleet.issued for part in token.split(".")[1:]}
    assert not [part for part in parts if part in dump]
    print(f"a dump of {len(dump)} bytes holds none of {len(fleet.issued)} tokens")
