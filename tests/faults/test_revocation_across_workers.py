"""Revoking in real worker processes, while their Redis dies and comes back.

BEARERGUARD_STRESS=1 runs it in the size of `scripts/stress`; figures are printed.
"""

from __future__ import annotations

import time
from statistics import median

import pytest

from bearerguard.guard.revocation.feed import Feed
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import run
from tests.faults.size import FULL
from tests.faults.worker import ISSUER, SECRET
from tests.faults.workers import Load, Workers, wait_until, workers
from tests.redis_server import RedisServer

REVOCATIONS = 500 if FULL else 50
CYCLES = 25 if FULL else 3
LOST = 100_000 if FULL else 5_000
LOG = "{bearerguard}:log"


def test_a_token_that_one_worker_revokes_is_soon_refused_by_four_others(redis: RedisServer) -> None:
    delays: list[float] = []
    with workers(redis) as them:
        for _ in range(REVOCATIONS):
            name, token = them.token()
            began = time.monotonic()
            assert them.revoke(name)
            delays += them.seconds_until_all_others_refuse(token, began)
        assert_nothing_can_be_stolen(them)
    print(
        f"\nrevoked on one worker, refused by 4 others, from the call on ({REVOCATIONS} times):"
        f" median {median(delays) * 1000:.0f} ms, worst {max(delays) * 1000:.0f} ms"
    )


@pytest.mark.parametrize("keeping", [True, False], ids=["with its data", "without its data"])
def test_no_revoked_token_passes_while_redis_is_killed_and_restarted(
    redis: RedisServer, keeping: bool
) -> None:
    if keeping:
        redis.keep_data()
    recoveries: list[float] = []
    with workers(redis) as them:
        load = Load(them)
        with load.running():
            for _ in range(CYCLES):
                before = load.revoked
                wait_until(lambda known=before: load.revoked > known + 10)  # type: ignore[misc]
                redis.kill()
                time.sleep(0.7)
                redis.start()
                recoveries.append(seconds_until_they_work_together(them))
            time.sleep(1.5)  # what was revoked last is asked for after its grace too
        assert_nothing_can_be_stolen(them)
    data = "with" if keeping else "without"
    print(
        f"\nRedis killed and restarted {data} its data under load, {CYCLES} times:"
        f" {load.revoked} revoked, {load.leaks} passed 1 s after; answers {dict(load.answers)};"
        f" recovery median {median(recoveries):.2f} s, worst {max(recoveries):.2f} s"
    )
    assert load.leaks == 0
    assert set(load.answers) <= {200, 401, 503}
    assert load.answers[200] > 0
    assert load.answers[401] > 0


def test_workers_together_append_once_what_a_store_lost(redis: RedisServer) -> None:
    over = time.time() + 3600
    revoked = [Revocation("token", ISSUER, f"r{n}", None, over) for n in range(LOST)]
    feed = Feed([SECRET], 3600, name="bearerguard")
    run(feed.publish(revoked), RedisStore(redis.url, secret=SECRET, timeout=10).handlers())
    with workers(redis) as them, redis.client() as client:
        assert client.xlen(LOG) == LOST
        for port in them.ports:
            assert them.health(port)["revocations"]["entries"] == LOST
        client.flushall()
        wait_until(lambda: client.xlen(LOG) >= LOST)
        name, token = them.token()
        assert them.revoke(name)
        them.seconds_until_all_others_refuse(token, time.monotonic())
        time.sleep(2)  # a late worker would have appended by now
        kept = client.xlen(LOG)
    print(f"\n{LOST} revocations in Redis, flushed, five workers: {kept - 1} were appended again")
    assert LOST < kept <= 1.1 * LOST


def seconds_until_they_work_together(them: Workers) -> float:
    """From Redis answering again: a revocation is taken, and all others refuse it."""
    began = time.monotonic()
    name, token = them.token()
    wait_until(lambda: them.revoke(name))
    return max(them.seconds_until_all_others_refuse(token, began))


def assert_nothing_can_be_stolen(them: Workers) -> None:
    dump = them.redis.dump()
    assert b"bearerguard" in dump  # it holds what they share
    for token in them.issued.values():
        assert token.encode() not in dump
        assert token.rpartition(".")[2].encode() not in dump
    assert b"token-" not in dump
