"""The introspection cache that workers share, over any store."""

from __future__ import annotations

import signal
from typing import Any

import anyio
import pytest

from bearerguard.guard.introspection.shared_cache import PURPOSE, SharedCache
from bearerguard.redis import RedisStore
from bearerguard.runtime.effects import Load, Store
from bearerguard.runtime.flow import Flow, Handlers, arun, run
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import Sealer
from tests.redis_server import RedisServer

ISSUER, RESOURCE, DIGEST = "https://issuer.test", "https://api.test", b"d" * 32
ANSWER = b'{"active": true, "sub": "user"}'


def cache() -> SharedCache:
    return SharedCache(Sealer("s" * 32, purpose=PURPOSE))


class Kept:
    """A store in a dict, which can be down."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}
        self.ttl: float | None = None
        self.down = False

    def load(self, effect: Load) -> bytes | None:
        if self.down:
            raise StoreFailed("down")
        return self.values.get(effect.key)

    def store(self, effect: Store) -> None:
        if self.down:
            raise StoreFailed("down")
        self.values[effect.key] = effect.value
        self.ttl = effect.ttl

    def run(self, flow: Flow[Any]) -> Any:
        handlers: Handlers = {Load: self.load, Store: self.store}
        return run(flow, handlers)


def test_a_value_that_one_worker_stored_is_read_by_another() -> None:
    kept = Kept()
    kept.run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 12.5))
    assert kept.run(cache().get(ISSUER, RESOURCE, DIGEST)) == ANSWER
    assert kept.ttl == 12.5


def test_a_value_is_found_for_its_issuer_resource_and_token_only() -> None:
    kept = Kept()
    kept.run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    for issuer, resource, digest in (
        ("https://other.test", RESOURCE, DIGEST),
        (ISSUER, "https://other.test", DIGEST),
        (ISSUER, RESOURCE, b"e" * 32),
        (ISSUER + "h", RESOURCE[1:], DIGEST),
    ):
        assert kept.run(cache().get(issuer, resource, digest)) is None


def test_the_store_sees_neither_issuer_nor_digest_nor_response() -> None:
    kept = Kept()
    kept.run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    ((key, value),) = kept.values.items()
    assert ISSUER not in key
    assert DIGEST.hex() not in key
    assert b"sub" not in value


def test_a_value_that_was_moved_or_altered_counts_as_none() -> None:
    kept = Kept()
    kept.run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    (mine,) = kept.values.values()
    kept.run(cache().put(ISSUER, RESOURCE, b"e" * 32, b'{"active": false}', 60))
    kept.values = dict.fromkeys(kept.values, mine)
    assert kept.run(cache().get(ISSUER, RESOURCE, b"e" * 32)) is None
    kept.values = dict.fromkeys(kept.values, b"\x01garbage")
    assert kept.run(cache().get(ISSUER, RESOURCE, DIGEST)) is None


def test_a_store_that_is_down_is_no_error() -> None:
    kept = Kept()
    kept.down = True
    kept.run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    assert kept.run(cache().get(ISSUER, RESOURCE, DIGEST)) is None


def test_a_store_that_works_again_is_reported_with_the_length_of_its_outage() -> None:
    now, seen = [100.0], list[tuple[str, str | None, str]]()
    kept = Kept()
    made = SharedCache(
        Sealer("s" * 32, purpose=PURPOSE),
        emit=lambda *event: seen.append(event),
        monotonic=lambda: now[0],
    )
    kept.run(made.put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    assert seen == []
    kept.down = True
    kept.run(made.get(ISSUER, RESOURCE, DIGEST))
    now[0] = 112.0
    kept.run(made.put(ISSUER, RESOURCE, DIGEST, ANSWER, 60))
    kept.down = False
    now[0] = 130.0
    for _ in range(2):
        assert kept.run(made.get(ISSUER, RESOURCE, DIGEST)) == ANSWER
    assert [code for code, _, _ in seen] == [
        "introspection_cache_failed",
        "introspection_cache_failed",
        "introspection_cache_restored",
    ]
    assert seen[-1] == (
        "introspection_cache_restored",
        ISSUER,
        "restored after 30 s and 2 failures",
    )


# Over a real Redis


def shared(redis: RedisServer) -> RedisStore:
    return RedisStore(redis.url, secret="s" * 32, timeout=0.3)


def test_workers_share_responses_through_redis(redis: RedisServer) -> None:
    run(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60), shared(redis).handlers())
    assert run(cache().get(ISSUER, RESOURCE, DIGEST), shared(redis).handlers()) == ANSWER
    dump = redis.dump()
    assert b"bearerguard:introspection:" in dump
    for secret in (ANSWER, b"user", DIGEST, DIGEST.hex().encode(), ISSUER.encode()):
        assert secret not in dump


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("trouble", ["killed", "hanging", "full"])
def test_a_redis_in_trouble_costs_a_call_to_the_issuer_and_little_time(
    redis: RedisServer, backend: str, trouble: str
) -> None:
    handlers = shared(redis).async_handlers()
    if trouble == "killed":
        redis.kill()
    elif trouble == "hanging":
        redis.signal(signal.SIGSTOP)
    else:
        with redis.client() as client:
            client.config_set("maxmemory", "1")
    found: list[bytes | None] = []

    async def ask_and_keep() -> None:
        found.append(await arun(cache().get(ISSUER, RESOURCE, DIGEST), handlers))
        await arun(cache().put(ISSUER, RESOURCE, DIGEST, ANSWER, 60), handlers)

    async def main() -> None:
        with anyio.fail_after(20):  # one after the other they would wait for a minute
            async with anyio.create_task_group() as group:
                for _ in range(200):
                    group.start_soon(ask_and_keep)

    anyio.run(main, backend=backend)
    assert found == [None] * 200
