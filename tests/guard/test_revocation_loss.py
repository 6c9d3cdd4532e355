"""Entries that somebody removes from the shared store, adds to it or puts back are noticed."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import redis as library

from bearerguard import Principal, TokenError
from bearerguard.errors import REVOKED, RevocationFailed, RevocationsUnavailable
from bearerguard.guard.revocation.feed import Feed
from bearerguard.guard.revocation.revocation_list import Revocation, RevocationList, encode
from bearerguard.redis import RedisStore
from bearerguard.runtime.flow import run
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import Sealer
from bearerguard.runtime.shared_log import AppendLog, LogPage, MarkLog, ReadLog
from tests.guard.test_revocations import (
    ISSUER,
    LOG,
    MARK,
    SECRET,
    Worker,
    eventually,
    revocation,
    start_worker,
)
from tests.redis_server import RedisServer

__all__ = ["start_worker"]  # a fixture

Client = library.Redis
ALL = [f"t{number}" for number in range(10)]
SNAPSHOT = "snapshot"
CHANNEL = "{bearerguard}:log:notify"
HOUR, DAY = 3600, 86_400


def rows(client: Client) -> list[tuple[bytes, dict[bytes, bytes]]]:
    found: Any = client.xrange(LOG)
    return [(position, dict(fields)) for position, fields in found]


def delete(client: Client, which: slice) -> None:
    client.xdel(LOG, *(position for position, _ in rows(client)[which]))


def fill_with_garbage(client: Client) -> None:
    delete(client, slice(2, 5))
    for _ in range(3):
        client.xadd(LOG, {"e": b"garbage"})


def fill_with_copies(client: Client) -> None:
    copies = [fields for _, fields in rows(client)[5:8]]
    delete(client, slice(2, 5))
    for fields in copies:
        client.xadd(LOG, fields)  # type: ignore[arg-type]


def without_mark(client: Client) -> None:
    delete(client, slice(2, 5))
    client.delete(MARK)


def put_back(client: Client) -> None:
    """Restore both keys as they were after the fifth."""
    for key in (LOG, MARK):
        client.restore(key, 0, client.get(f"{SNAPSHOT}{key}"), replace=True)  # type: ignore[arg-type]


def put_the_mark_back(client: Client) -> None:
    client.restore(MARK, 0, client.get(f"{SNAPSHOT}{MARK}"), replace=True)  # type: ignore[arg-type]
    delete(client, slice(5, None))


def put_the_log_back(client: Client) -> None:
    client.restore(LOG, 0, client.get(f"{SNAPSHOT}{LOG}"), replace=True)  # type: ignore[arg-type]


# What a worker that starts sees by itself, and what those alone see that were there before.
SEEN: dict[str, Callable[[Client], object]] = {
    "all but the last": lambda client: delete(client, slice(0, -1)),
    "all but the first": lambda client: delete(client, slice(1, None)),
    "the first": lambda client: delete(client, slice(0, 1)),
    "one": lambda client: delete(client, slice(4, 5)),
    "every other": lambda client: delete(client, slice(0, None, 2)),
    "the newest": lambda client: delete(client, slice(-1, None)),
    "the oldest, by trimming": lambda client: client.xtrim(LOG, maxlen=3, approximate=False),
    "all, by trimming": lambda client: client.xtrim(LOG, maxlen=0, approximate=False),
    "the log": lambda client: client.delete(LOG),
    "the log, of an older snapshot": put_the_log_back,
    "the mark and some": without_mark,
}
UNSEEN: dict[str, Callable[[Client], object]] = {
    "everything": lambda client: client.flushall(),
    "what came after a snapshot": put_back,
    "what came after a mark": put_the_mark_back,
    "some, with garbage instead": fill_with_garbage,
    "some, with copies of others instead": fill_with_copies,
}


def revoke_all(client: Client, worker: Worker) -> None:
    for name in ALL:
        worker.revoke(name)
        if name == ALL[4]:
            for key in (LOG, MARK):
                client.set(f"{SNAPSHOT}{key}", client.dump(key))  # type: ignore[arg-type]


@pytest.mark.parametrize("remove", {**SEEN, **UNSEEN}.values(), ids=[*SEEN, *UNSEEN])
def test_removed_entries_are_appended_again_by_the_workers_that_know_them(
    redis: RedisServer, start_worker: Callable[..., Worker], remove: Callable[[Client], object]
) -> None:
    one, two = start_worker(), start_worker()
    two.refuses("good")
    with redis.client() as client:
        revoke_all(client, one)
        eventually(lambda: len(two.revocations.current) == len(ALL))
        remove(client)
        eventually(lambda: "revocations_restored" in one.codes() + two.codes())
        late = start_worker()
        eventually(lambda: late.knows(ALL[0]))
        assert all(late.knows(name) for name in ALL)
        assert not late.refuses("good")
        # Older entries are removed; those that cannot be read stay.
        garbage = 3 if remove is fill_with_garbage else 0
        kept = len(ALL) if not garbage else len(ALL) * 2 - 3 + garbage
        eventually(lambda: client.xlen(LOG) == kept)
        one.revoke("later")
        eventually(lambda: two.refuses("later") and late.refuses("later"))
        assert [each.revocations.health().status for each in (one, two, late)] == ["fresh"] * 3


@pytest.mark.parametrize("remove", SEEN.values(), ids=SEEN)
def test_a_worker_that_starts_does_not_trust_a_log_with_a_gap(
    redis: RedisServer, start_worker: Callable[..., Worker], remove: Callable[[Client], object]
) -> None:
    one = start_worker()
    with redis.client() as client:
        revoke_all(client, one)
        one.end()  # no worker is left that could append it again
        remove(client)
        remaining = client.xlen(LOG)
        late, later = start_worker(), start_worker()
        for worker in (late, later):
            with pytest.raises(RevocationsUnavailable, match="lost revocations"):
                worker.refuses(ALL[0])
        assert late.codes()[0] == "revocations_lost"
        detail = late.events[0][1]
        assert "lacks" in detail
        assert not any(name in detail for name in (*ALL, ISSUER))
        # And then it goes on with what there is.
        eventually(lambda: late.revocations.health().status == "fresh")
        eventually(lambda: later.revocations.health().status == "fresh")
        assert len(late.revocations.current) == len(later.revocations.current) == remaining
        eventually(lambda: client.xlen(LOG) == remaining)
        assert not start_worker().refuses("good")  # the log is whole again


def test_a_loss_is_reported_with_the_numbers_of_the_entries(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one = start_worker()
    with redis.client() as client:
        revoke_all(client, one)
        one.end()
        delete(client, slice(3, 6))
    late = start_worker()
    assert not late.lets_pass("good")
    assert "up to 3 revocations, in the numbers 4 to 6:" in late.events[0][1]


def test_a_gap_that_may_be_entries_of_another_secret_stays_refused(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one = start_worker()
    with redis.client() as client:
        revoke_all(client, one)
        one.end()
        fill_with_garbage(client)
        late = start_worker()
        for _ in range(2):
            with pytest.raises(RevocationsUnavailable, match="3 revocations cannot be read"):
                late.refuses(ALL[2])
        with pytest.raises(RevocationFailed):
            late.revoke("another")
        assert client.xlen(LOG) == len(ALL)


def test_a_repeated_entry_changes_nothing(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one = start_worker()
    with redis.client() as client:
        revoke_all(client, one)
        for _, fields in rows(client)[:3]:
            client.xadd(LOG, fields)
            client.publish(CHANNEL, fields[b"e"])
        late = start_worker()
        assert late.refuses(ALL[0])
        one.revoke("later")
        eventually(lambda: late.refuses("later"))
        time.sleep(0.6)  # more than one round
        assert client.xlen(LOG) == len(ALL) + 4
    assert one.codes() == late.codes() == []


def test_an_entry_of_another_log_with_the_same_secret_does_not_open(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one = start_worker()
    one.revoke("t1")
    store = RedisStore(redis.url, secret=SECRET, prefix="two")
    run(Feed([SECRET], HOUR, name="two").publish([revocation("t2")]), store.handlers())
    with redis.client() as client:
        ((_, fields),) = client.xrange("{two}:log")
        client.xadd(LOG, fields)
        client.publish(CHANNEL, fields[b"e"])
        eventually(lambda: "revocations_unreadable" in one.codes())
        client.set(MARK, client.get("{two}:log:mark"))
        with pytest.raises(RevocationsUnavailable, match="secret="):
            start_worker().refuses("t2")
    assert not one.refuses("t2")


def test_trimming_expired_entries_is_not_reported_as_a_loss(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    offset = 0.0

    def clock() -> float:
        return time.time() + offset

    one = start_worker(clock=clock)
    one.revoke(*ALL)
    with redis.client() as client:
        offset = 2.0 * DAY
        client.xtrim(LOG, maxlen=4, approximate=False)
        late = start_worker(clock=clock)
        assert not late.refuses("good")
        client.xtrim(LOG, maxlen=0, approximate=False)
        assert not start_worker(clock=clock).refuses("good")
        eventually(lambda: late.revocations.health().status == "fresh")
        late.run(late.revocations.revoke([Revocation("token", ISSUER, "t", None, clock() + HOUR)]))
        eventually(lambda: len(one.revocations.current) == 1)
        time.sleep(0.6)  # more than one round
        assert client.xlen(LOG) == 1
        last = start_worker(clock=clock)
        last.run(last.revocations.ensure(ISSUER))
        assert len(last.revocations.current) == 1
    assert one.codes() + late.codes() + last.codes() == []


def test_a_worker_that_revokes_after_an_older_mark_was_put_back_reuses_no_number(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one = start_worker()
    with redis.client() as client:
        revoke_all(client, one)
        eventually(lambda: one.shared._feed._cursor.number == len(ALL))
        put_the_mark_back(client)
        one.revoke("later")
        late = start_worker()
        eventually(lambda: late.knows("later"))
        eventually(lambda: all(late.knows(name) for name in ALL))


def test_a_mark_of_another_version_is_not_trusted(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    sealed = Sealer(SECRET, purpose="revocations").seal(b"e" * 16, b"mark bearerguard")
    with redis.client() as client:
        client.set(MARK, sealed)
    with pytest.raises(RevocationsUnavailable, match="another version needs another prefix="):
        start_worker().refuses("t")


# How long it is kept


def principal(life: float, now: float, **names: Any) -> Principal:
    return Principal(issuer=ISSUER, issued_at=now, expires_at=now + life, **names)


@pytest.mark.parametrize("kind", ["token", "subject", "client", "session"])
@pytest.mark.parametrize("longer_first", [True, False])
def test_a_revocation_by_an_api_with_short_token_lives_lasts_for_one_with_long_lives(
    redis: RedisServer, start_worker: Callable[..., Worker], kind: Any, longer_first: bool
) -> None:
    now, offset = time.time(), 0.0

    def clock() -> float:
        return now + offset

    if longer_first:
        start_worker(clock=clock, max_token_life=DAY).refuses("t")
    short = start_worker(clock=clock, max_token_life=HOUR)
    before = None if kind in {"token", "session"} else now + 1
    short.run(short.revocations.revoke([Revocation(kind, ISSUER, "it", before, now + HOUR + 600)]))
    claims = {"sid": "it"} if kind == "session" else {}
    names = {"token": "token_id", "subject": "subject", "client": "client_id"}
    named = {names[kind]: "it"} if kind in names else {"claims": claims}
    bearer = principal(DAY, now, **named)

    def refused(worker: Worker) -> bool:
        worker.run(worker.revocations.ensure(ISSUER))
        try:
            worker.revocations.check(bearer)
        except TokenError as refusal:
            return refusal.reason == REVOKED
        return False

    assert refused(start_worker(clock=clock, max_token_life=DAY))
    offset = 23.0 * HOUR
    assert refused(start_worker(clock=clock, max_token_life=DAY))
    offset = DAY + 1200.0
    assert not refused(start_worker(clock=clock, max_token_life=DAY))


def test_the_log_keeps_entries_for_the_longest_token_life(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    long, short = start_worker(max_token_life=DAY), start_worker(max_token_life=HOUR)
    long.refuses("t")
    short.revoke("t")
    keeps: list[float] = []
    for worker in (short, long):
        append = worker.handlers[AppendLog]

        def noted(effect: AppendLog, append: Any = append) -> Any:
            keeps.append(effect.keep)
            return append(effect)

        worker.handlers[AppendLog] = noted
        worker.revoke("another")
    assert set(keeps) == {DAY + 1200}


def test_known_revocations_last_longer_when_an_api_with_longer_token_lives_joins(
    start_worker: Callable[..., Worker],
) -> None:
    now = time.time()
    short = start_worker(max_token_life=HOUR)
    short.run(
        short.revocations.revoke([Revocation("subject", ISSUER, "ada", now, now + HOUR + 600)])
    )
    start_worker(max_token_life=DAY).refuses("t")

    def lasts() -> float:
        (known,) = short.revocations.current.entries.values()
        return known.expires_at

    eventually(lambda: lasts() == now + DAY + 600)


# Many at once, and stores that are of no use


class Writer:
    """A feed that appends by the handlers of a request."""

    def __init__(self, redis: RedisServer) -> None:
        self.feed = Feed([SECRET], HOUR, name="bearerguard")
        self.handlers: dict[Any, Any] = {**RedisStore(redis.url, secret=SECRET).handlers()}
        self.known = RevocationList()

    def run(self, flow: Any) -> Any:
        return run(flow, self.handlers)

    def catch_up(self) -> None:
        self.run(self.feed.catch_up(self.learn))

    def learn(self, revocations: Any) -> None:
        self.known = self.known.extended(revocations, 0.0)


@pytest.fixture
def writers(redis: RedisServer) -> list[Writer]:
    return [Writer(redis), Writer(redis)]


def test_workers_that_append_at_the_same_time_append_each_entry_once(
    redis: RedisServer, writers: list[Writer]
) -> None:
    one, two = writers
    append = one.handlers[AppendLog]
    others: list[str] = []

    def after_another(effect: AppendLog) -> Any:
        if len(others) < 7:
            others.append(f"b{len(others)}")
            two.run(two.feed.publish([revocation(others[-1])]))
        return append(effect)

    one.handlers[AppendLog] = after_another
    one.run(one.feed.publish([revocation(name) for name in ALL]))
    late = Writer(redis)
    late.catch_up()
    assert {each.value for each in late.known.entries.values()} == {*ALL, *others}
    with redis.client() as client:
        assert client.xlen(LOG) == len(ALL) + len(others)
    assert late.feed.reports == []


def test_a_worker_that_never_gets_to_append_raises(writers: list[Writer]) -> None:
    writers[0].handlers[AppendLog] = lambda _: False
    with pytest.raises(StoreFailed, match="other workers keep appending"):
        writers[0].run(writers[0].feed.publish([revocation("t")]))


def test_a_store_that_keeps_no_mark_is_not_appended_to(writers: list[Writer]) -> None:
    writers[0].handlers[MarkLog] = lambda _: None
    with pytest.raises(StoreFailed, match="keeps nothing"):
        writers[0].run(writers[0].feed.publish([revocation("t")]))


def test_a_store_that_changes_all_the_time_is_not_trusted(writers: list[Writer]) -> None:
    one = writers[0]
    one.run(one.feed.publish([revocation("t")]))
    one.catch_up()
    read = one.handlers[ReadLog]

    def lost(effect: ReadLog) -> LogPage:
        page: LogPage = read(effect)
        return LogPage(page.mark, (), effect.after is None, page.more)

    one.handlers[ReadLog] = lost
    one.handlers[MarkLog] = lambda _: None
    with pytest.raises(StoreFailed, match="loses what is appended"):
        one.catch_up()


def test_a_plain_log_is_read_without_a_seal() -> None:
    plain = Feed([], HOUR)
    pages = [
        LogPage(b"m", (("1", encode([revocation("a"), revocation("b")])),), intact=True, more=True),
        LogPage(b"m", (("2", b"garbage"),), intact=True, more=False),
    ]
    known: list[str] = []

    def learn(revocations: Any) -> None:
        known.extend(each.value for each in revocations)

    with pytest.raises(StoreFailed, match="cannot be read"):
        run(plain.catch_up(learn), {ReadLog: lambda _: pages.pop(0)})
    assert known == ["a", "b"]
