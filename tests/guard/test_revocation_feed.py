"""The feed: appending again what a store lost, and taking in notifications."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from bearerguard.guard.revocation.feed import Feed
from bearerguard.guard.revocation.revocation_list import Revocation, RevocationList, encode
from bearerguard.guard.revocation.revocations import Revocations
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import run
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import AppendLog
from tests.redis_server import RedisServer

SECRET = "s" * 32
LOG = "{bearerguard}:log"
MANY = 1700


def revocations(first: int, count: int) -> list[Revocation]:
    over = time.time() + 3600
    return [
        Revocation("token", "https://issuer.test", f"t{number}", None, over)
        for number in range(first, first + count)
    ]


class Worker:
    """A feed and the list it fills; `before_append` is called before each append."""

    def __init__(self, redis: RedisServer) -> None:
        self.feed = Feed([SECRET], 3600, name="bearerguard")
        self.known = RevocationList()
        self.before_append: Callable[[], object] = lambda: None
        self._store = RedisStore(redis.url, secret=SECRET)

    def add(self, revocations: Any) -> None:
        self.known = self.known.extended(revocations, 0.0)

    def run(self, flow: Any) -> Any:
        with self._store.listening() as handlers:

            def append(effect: AppendLog) -> Any:
                self.before_append()
                return handlers[AppendLog](effect)

            return run(flow, {**handlers, AppendLog: append})

    def catch_up(self) -> None:
        self.run(self.feed.catch_up(self.add))

    def restore(self) -> int | None:
        restored: int | None = self.run(
            self.feed.restore(lambda: list(self.known.entries.values()), self.add)
        )
        return restored

    def knows(self, *names: str) -> bool:
        issuer = "https://issuer.test"
        return all(("token", issuer, name) in self.known.entries for name in names)


@pytest.fixture
def start_worker(redis: RedisServer) -> Callable[..., Worker]:
    def start_worker(known: int = 0) -> Worker:
        worker = Worker(redis)
        worker.catch_up()
        worker.add(revocations(0, known))
        return worker

    return start_worker


def lose_everything(redis: RedisServer) -> None:
    with redis.client() as client:
        client.flushall()


def length(redis: RedisServer) -> int:
    with redis.client() as client:
        return int(client.xlen(LOG))


def test_the_newest_are_appended_first(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(MANY)
    lose_everything(redis)
    worker.catch_up()
    appends: list[None] = []

    def fail_at_the_second() -> None:
        appends.append(None)
        if len(appends) == 2:
            raise StoreFailed("it is gone again")

    worker.before_append = fail_at_the_second
    with pytest.raises(StoreFailed):
        worker.restore()
    assert worker.feed.lost
    late = start_worker()
    assert 0 < len(late.known) < MANY
    assert late.knows(f"t{MANY - 1}")
    worker.before_append = lambda: None
    assert worker.restore() == MANY - len(late.known)
    assert not worker.feed.lost
    late.catch_up()
    assert len(late.known) == MANY


def test_entries_that_another_worker_appends_meanwhile_are_not_appended_twice(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one, two = start_worker(MANY), start_worker(MANY)
    lose_everything(redis)
    one.catch_up()
    two.catch_up()
    others: list[int | None] = []

    def let_the_other_go_first() -> None:
        if not others:
            others.append(two.restore())

    one.before_append = let_the_other_go_first
    first_chunk = one.restore()
    assert others == [MANY]
    assert first_chunk == 0
    assert length(redis) == MANY


def test_entries_that_are_lost_again_are_appended_again(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker(MANY)
    lose_everything(redis)
    worker.catch_up()
    appends: list[None] = []

    def lose_at_the_third() -> None:
        appends.append(None)
        if len(appends) == 3:
            lose_everything(redis)

    worker.before_append = lose_at_the_third
    assert worker.restore() is None
    assert worker.feed.lost
    kept = length(redis)
    assert kept < MANY
    assert worker.restore() == MANY - kept
    assert not worker.feed.lost
    late = start_worker()
    assert len(late.known) == MANY


def test_a_restored_log_is_reported_when_it_is_complete(redis: RedisServer) -> None:
    events: list[str] = []
    store = RedisStore(redis.url, secret=SECRET)
    shared = Revocations(store)
    guard = shared.attach(time.time, lambda code, _issuer, _detail: events.append(code))
    losing = True
    with store.listening() as handlers:

        def append(effect: AppendLog) -> Any:
            answer = handlers[AppendLog](effect)
            if losing:
                lose_everything(redis)
            return answer

        run(shared.follow(()), handlers)
        run(Feed([SECRET], 3600, name="bearerguard").publish(revocations(0, 1)), handlers)
        run(shared.follow(()), handlers)
        lose_everything(redis)
        run(shared.follow(()), {**handlers, AppendLog: append})
        assert events == []
        losing = False
        run(shared.follow(()), {**handlers, AppendLog: append})
    assert events == ["revocations_restored"]
    assert length(redis) == 1
    assert guard.current is shared.current
    shared.close()


def test_notifications_are_taken_in_between_the_pages_of_a_long_log(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one, late = start_worker(), Worker(redis)
    one.run(one.feed.publish(revocations(0, 3500)))
    added: list[list[str]] = []

    def add_notified(news: Any) -> None:
        added.append([each.value for each in news])
        if len(added) == 2:  # between the pages: the log itself is added in one go, at the end
            one.run(one.feed.publish(revocations(9000, 1)))
            assert not late.knows("t0")
        late.add(news)

    late.run(late.feed.catch_up(late.add, add_notified))
    assert ["t9000"] in added
    assert late.knows("t0", "t3499", "t9000")


def test_notifications_of_a_plain_log_are_added_at_once_and_malformed_ones_are_not() -> None:
    feed, added = Feed([], 3600), list[Revocation]()
    one = revocations(0, 1)
    feed.add_notified([encode(one)], added.extend)
    feed.add_notified([b"", b"garbage"], added.extend)
    assert added == one


def test_notifications_are_taken_in_while_a_log_is_restored(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one, two = start_worker(MANY), start_worker()
    lose_everything(redis)
    one.catch_up()
    news = revocations(9000, 1)
    appends: list[None] = []

    def revoke_elsewhere() -> None:
        if appends:  # during the second chunk, what came during the first is known
            assert one.knows("t9000")
        else:
            two.run(two.feed.publish(news))
        appends.append(None)

    one.before_append = revoke_elsewhere
    assert one.restore() == MANY
    assert len(appends) > 1
