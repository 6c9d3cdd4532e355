"""Revocations shared through a real Redis: by workers that start, fork, lag and recover."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from bearerguard import ConfigurationError, IssuerUnavailable, Principal, TokenError
from bearerguard.errors import LIVES_TOO_LONG, REVOKED, RevocationFailed, RevocationsUnavailable
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.revocations import Revocations
from bearerguard.redis import RedisStore
from bearerguard.runtime.fetching.single_flight import SingleFlight
from bearerguard.runtime.flow import Effect, Flow, Handlers, Once, run
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import ListenLog, MarkLog, ReadLog
from tests.redis_server import RedisServer

ISSUER = "https://issuer.test"
SECRET, NEW_SECRET = "s" * 32, "n" * 32
LOG, MARK = "{bearerguard}:log", "{bearerguard}:log:mark"


class Worker:
    """What one worker process has: its revocations, and a driver for its requests."""

    def __init__(
        self,
        redis: RedisServer,
        *,
        secret: str | list[str] = SECRET,
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        self.events: list[tuple[str, str]] = []
        store = RedisStore(redis.url, secret=secret, timeout=0.5)
        self.shared = Revocations(store, **options)
        self.revocations = self.shared.attach(
            clock, lambda code, _, detail: self.events.append((code, detail))
        )
        once = SingleFlight()
        self.handlers: dict[type[Effect[Any]], Any] = {**store.handlers()}
        self.handlers[Once] = lambda effect: once.once(effect, self.handlers)

    def run(self, flow: Flow[Any]) -> Any:
        return run(flow, self.handlers)

    def revoke(self, *token_ids: str) -> None:
        self.run(self.revocations.revoke([revocation(each) for each in token_ids]))

    def end(self) -> None:
        """Close it, and wait for its thread, which may be reading the store."""
        running = self.shared._follower._running
        self.shared.close()
        if running is not None:
            running._thread.join()

    def refuses(self, token_id: str) -> bool:
        """Whether a request with this token is refused; raises when that is unknown."""
        self.run(self.revocations.ensure(ISSUER))
        try:
            self.revocations.check(principal(token_id))
        except TokenError as refusal:
            return refusal.reason == REVOKED
        return False

    def lets_pass(self, token_id: str) -> bool:
        """Whether a request with this token is answered, and is not refused."""
        try:
            return not self.refuses(token_id)
        except RevocationsUnavailable:
            return False

    def knows(self, token_id: str) -> bool:
        """Whether it refuses this token because it was revoked."""
        return not self.lets_pass(token_id) and self.revocations.health().status == "fresh"

    def codes(self) -> list[str]:
        return [code for code, _ in self.events]


def revocation(token_id: str) -> Revocation:
    return Revocation("token", ISSUER, token_id, None, time.time() + 3600)


def principal(token_id: str, **options: Any) -> Principal:
    """Return who bears a token that was issued just now, unless `options` say other dates."""
    dates = options or {"issued_at": time.time()}
    return Principal(issuer=ISSUER, token_id=token_id, **dates)


@pytest.fixture
def start_worker(redis: RedisServer) -> Iterator[Callable[..., Worker]]:
    workers: list[Worker] = []

    def start_worker(**options: Any) -> Worker:
        workers.append(Worker(redis, **options))
        return workers[-1]

    yield start_worker
    for worker in workers:
        worker.shared.close()


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# What needs no store


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan, "1"])
def test_a_malformed_time_is_refused(seconds: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_token_life="):
        Revocations(max_token_life=seconds)
    with pytest.raises(ConfigurationError, match="max_staleness="):
        Revocations(max_staleness=seconds)


def test_an_object_that_is_no_store_is_refused() -> None:
    class Half:
        def listening(self) -> None: ...

    for store in ("redis://127.0.0.1", Half()):
        wrong: Any = store
        with pytest.raises(ConfigurationError, match="RedisStore"):
            Revocations(wrong)


def test_without_a_store_a_revocation_holds_in_this_process() -> None:
    shared = Revocations()
    revocations = shared.attach(time.time, lambda *_: None)
    run(revocations.ensure(ISSUER), {})
    revocations.check(principal("t1"))
    run(revocations.revoke([revocation("t1")]), {})
    with pytest.raises(TokenError, match="revoked"):
        revocations.check(principal("t1"))
    for health in (shared.health(), revocations.health()):
        assert (health.status, health.entries) == ("local", 1)
    assert revocations.trusted_until == math.inf
    shared.close()
    with pytest.raises(TokenError):
        revocations.check(principal("t1"))


def test_a_token_that_outlives_the_revocations_is_refused() -> None:
    revocations = Revocations(max_token_life=600).attach(lambda: 1000.0, lambda *_: None)
    for fine in (
        {"issued_at": 1000.0, "expires_at": 1600.0},
        {"issued_at": 400.0},
    ):
        revocations.check(principal("t1", **fine))
    for long in (
        {"issued_at": 900.0, "expires_at": 1501.0},
        {"issued_at": 399.0},
    ):
        with pytest.raises(TokenError, match="max_token_life=") as raised:
            revocations.check(principal("t1", **long))
        assert raised.value.reason == LIVES_TOO_LONG


@pytest.mark.parametrize("expires_at", [None, 1001.0, 1600.0, 9e9])
def test_a_token_that_does_not_say_when_it_was_issued_is_refused(expires_at: float | None) -> None:
    revocations = Revocations(max_token_life=600).attach(lambda: 1000.0, lambda *_: None)
    with pytest.raises(TokenError, match="must have iat: have the issuer add it") as raised:
        revocations.check(Principal(issuer=ISSUER, token_id="t1", expires_at=expires_at))
    assert raised.value.reason == LIVES_TOO_LONG


def test_each_guard_checks_by_its_own_clock() -> None:
    shared = Revocations(max_token_life=600)
    early = shared.attach(lambda: 1000.0, lambda *_: None)
    late = shared.attach(lambda: 9000.0, lambda *_: None)
    early.check(principal("t1", issued_at=1000.0))
    with pytest.raises(TokenError, match="max_token_life="):
        late.check(principal("t1", issued_at=1000.0))


def test_a_revocation_is_kept_until_it_has_expired_for_every_guard() -> None:
    shared = Revocations()
    late = shared.attach(lambda: 9000.0, lambda *_: None)
    early = shared.attach(lambda: 1000.0, lambda *_: None)
    shared.add([Revocation("token", ISSUER, "t1", None, 5000.0)])
    for guard in (early, late):
        with pytest.raises(TokenError, match="revoked"):
            guard.check(principal("t1", issued_at=guard.clock()))


def test_an_outage_is_an_event_of_every_guard_and_a_refusal_of_one(redis: RedisServer) -> None:
    store = RedisStore(redis.url, secret=SECRET, timeout=0.2)
    shared = Revocations(store)
    events: dict[str, list[str]] = {"one": [], "two": []}
    one = shared.attach(time.time, lambda code, *_: events["one"].append(code))
    two = shared.attach(time.time, lambda code, *_: events["two"].append(code))
    handlers: dict[type[Effect[Any]], Any] = {**store.handlers()}
    handlers[Once] = lambda effect: run(effect.flow(), handlers)
    redis.kill()
    with pytest.raises(RevocationsUnavailable):
        run(one.ensure(ISSUER), handlers)
    assert events["one"][0] == "revocations_unavailable"  # the request's
    eventually(lambda: events["two"] == ["revocations_unavailable"])  # the thread's
    assert two.health().status == "absent"
    redis.start()
    eventually(lambda: all("revocations_available" in seen for seen in events.values()))
    shared.close()


def test_a_list_that_one_guard_read_serves_the_others_by_their_clocks(redis: RedisServer) -> None:
    store = RedisStore(redis.url, secret=SECRET)
    shared = Revocations(store, max_staleness=100)
    handlers: dict[type[Effect[Any]], Any] = {**store.handlers()}
    handlers[Once] = lambda effect: run(effect.flow(), handlers)
    one = shared.attach(time.time, lambda *_: None)
    two = shared.attach(lambda: 5000.0, lambda *_: None)
    assert shared.health().status == "absent"
    run(one.ensure(ISSUER), handlers)
    assert two.trusted_until == 5100.0
    joined = shared.attach(lambda: 7000.0, lambda *_: None)
    assert 7090.0 < joined.trusted_until <= 7100.0
    assert shared.health().status == joined.health().status == "fresh"
    shared.close()
    assert one.trusted_until == two.trusted_until == joined.trusted_until == -math.inf
    assert shared.health().status == "absent"


def test_a_log_beside_a_server_serves_the_revocations_that_were_given() -> None:
    log, own = (
        RedisStore("redis://127.0.0.1", secret=SECRET),
        RedisStore("redis://127.0.0.1", secret=SECRET),
    )
    local, kept = Revocations(), Revocations(own)
    local.use_log(log)
    assert local.store is log
    assert not local.forwards(log)
    kept.use_log(log)
    assert kept.store is own
    assert kept.forwards(log)
    assert kept.forwards(log)
    assert len(kept._forwarding._logs) == 1


def test_revocations_in_use_without_a_store_take_none_from_a_server() -> None:
    shared = Revocations()
    guard = shared.attach(time.time, lambda *_: None)
    with pytest.raises(ConfigurationError, match="make the guard beside the server first"):
        shared.use_log(RedisStore("redis://127.0.0.1", secret=SECRET))
    assert guard.health().status == "local"


# Sharing


def test_a_token_that_one_worker_revokes_is_refused_by_all(
    start_worker: Callable[..., Worker],
) -> None:
    one, two, three = start_worker(), start_worker(), start_worker()
    for worker in (one, two, three):
        assert not worker.refuses("t1")
    one.revoke("t1")
    assert one.refuses("t1")  # at once where it was revoked
    eventually(lambda: two.refuses("t1") and three.refuses("t1"))
    assert not two.refuses("t2")


def test_a_worker_that_starts_later_knows_all_at_its_first_request(
    start_worker: Callable[..., Worker],
) -> None:
    start_worker().revoke(*(f"t{number}" for number in range(1500)))
    late = start_worker()
    assert late.refuses("t0")
    assert late.refuses("t1499")


def test_the_list_is_replaced_only_when_a_revocation_is_new(
    start_worker: Callable[..., Worker],
) -> None:
    one, two = start_worker(), start_worker()
    two.refuses("t1")
    one.run(one.revocations.revoke([again := revocation("t1")]))
    eventually(lambda: two.refuses("t1"))
    before, trusted = two.revocations.current, two.revocations.trusted_until
    one.run(one.revocations.revoke([again]))
    eventually(lambda: two.revocations.trusted_until > trusted)
    time.sleep(0.6)  # more than one round
    assert two.revocations.current is before


def test_a_first_request_waits_for_the_list_or_is_503(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    redis.kill()
    worker = start_worker()
    for _ in range(3):
        with pytest.raises(RevocationsUnavailable) as raised:
            worker.refuses("t1")
        assert isinstance(raised.value, IssuerUnavailable)
        assert raised.value.retry_after == 1
        assert raised.value.issuer == ISSUER
        assert str(raised.value).startswith("revocations are unavailable")
    assert worker.revocations.health().status == "absent"
    redis.start()
    eventually(lambda: worker.revocations.health().status == "fresh")  # without a request meanwhile
    assert not worker.refuses("t1")


def test_the_list_is_trusted_for_max_staleness_during_an_outage(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    offset = 0.0
    worker = start_worker(clock=lambda: time.time() + offset)
    worker.revoke("t1")
    assert worker.revocations.health().status == "fresh"
    redis.signal(signal.SIGSTOP)
    time.sleep(1.2)  # a round, and its timeout
    offset = 290.0
    assert worker.refuses("t1")
    assert not worker.refuses("t2")
    assert worker.revocations.health().status == "stale"
    offset = 301.0
    assert worker.revocations.health().status == "dead"
    with pytest.raises(RevocationsUnavailable):
        worker.refuses("t2")
    redis.signal(signal.SIGCONT)
    eventually(lambda: worker.revocations.health().status == "fresh")
    assert not worker.refuses("t2")
    assert worker.refuses("t1")
    assert worker.codes()[0] == "revocations_unavailable"


def test_a_clock_set_back_does_not_prolong_the_trust_in_the_list(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    offset = 3600.0
    worker = start_worker(clock=lambda: time.time() + offset, max_staleness=1)
    assert not worker.refuses("t1")
    redis.kill()
    offset = 0.0

    def unknown() -> bool:
        try:
            return worker.refuses("t1")
        except RevocationsUnavailable:
            return True

    eventually(unknown)


def test_revoking_is_certain_or_an_error(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    worker.refuses("t1")
    redis.kill()
    with pytest.raises(RevocationFailed, match="ConnectionError"):
        worker.revoke("t1")
    assert not worker.refuses("t1")  # it is not revoked here and valid elsewhere
    with pytest.raises(RevocationFailed):
        start_worker().revoke("t1")  # nor by a worker that has never read
    redis.start()
    worker.revoke("t1")
    assert worker.refuses("t1")


def test_a_full_store_takes_no_revocation_and_can_still_be_read(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    worker.revoke("t1")
    with redis.client() as client:
        client.config_set("maxmemory", "1")
    with pytest.raises(RevocationFailed):
        worker.revoke("t2")
    assert start_worker().refuses("t1")
    assert not worker.refuses("t2")


# Loss


def test_workers_append_again_what_a_store_lost(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one, two = start_worker(), start_worker()
    two.refuses("t1")
    one.revoke("t1", "t2")
    eventually(lambda: two.refuses("t1"))
    redis.kill()
    redis.start()  # without its data
    eventually(lambda: "revocations_restored" in one.codes() + two.codes())
    with redis.client() as client:
        eventually(lambda: client.xlen(LOG) == 2)
    late = start_worker()
    eventually(lambda: late.knows("t1"))
    assert late.refuses("t2")
    assert not late.refuses("t3")


def test_the_only_worker_that_knows_a_revocation_appends_it_after_a_loss(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    one, two = start_worker(), start_worker()
    one.revoke("t1")
    two.revoke("t2")
    with redis.client() as client:
        eventually(lambda: len(one.revocations.current) == len(two.revocations.current) == 2)
        _, (second, _) = client.xrange(LOG)
        client.xdel(LOG, second)  # as a replica that lagged behind lacks the last entries
        late = start_worker()
        eventually(lambda: late.knows("t2"))
        assert late.refuses("t1")


def test_expired_revocations_are_not_appended_again(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    short = Revocation("token", ISSUER, "t1", None, time.time() + 0.3)
    worker.run(worker.revocations.revoke([short, revocation("t2")]))
    time.sleep(0.4)
    with redis.client() as client:
        client.flushall()
        eventually(lambda: client.xlen(LOG) == 1)


def test_a_store_with_its_data_after_a_restart_needs_no_restoring(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    redis.keep_data()
    with redis.client() as client:
        worker = start_worker()
        worker.revoke("t1")
        redis.kill()
        redis.start()
        eventually(lambda: worker.revocations.health().status == "fresh")
        start_worker().revoke("t2")
        eventually(lambda: worker.refuses("t2"))
        assert client.xlen(LOG) == 2
    assert "revocations_restored" not in worker.codes()


# Secrets


def test_a_worker_with_another_secret_raises_and_trusts_nothing(
    start_worker: Callable[..., Worker],
) -> None:
    start_worker().revoke("t1")
    stranger = start_worker(secret=NEW_SECRET)
    with pytest.raises(RevocationsUnavailable, match="secret= is not that of the other workers"):
        stranger.refuses("t1")
    with pytest.raises(RevocationFailed, match="secret="):
        stranger.revoke("t2")


def test_a_secret_is_renewed_without_losing_a_revocation(
    start_worker: Callable[..., Worker],
) -> None:
    old = start_worker()
    old.revoke("t1")
    both = start_worker(secret=[NEW_SECRET, SECRET])
    assert both.refuses("t1")
    both.revoke("t2")
    new = start_worker(
        secret=NEW_SECRET
    )  # the mark was renewed; the entry of the old secret was not
    with pytest.raises(RevocationsUnavailable, match="1 revocations cannot be read"):
        new.refuses("t2")
    assert start_worker(secret=[NEW_SECRET, SECRET]).refuses("t2")


@pytest.mark.parametrize("forge", [lambda _: b"garbage", lambda e: e[:-1] + b"x", lambda _: b""])
def test_an_entry_that_was_not_sealed_here_revokes_nothing_and_stops_no_worker(
    redis: RedisServer, start_worker: Callable[..., Worker], forge: Callable[[bytes], bytes]
) -> None:
    worker = start_worker()
    worker.revoke("t1")
    with redis.client() as client:
        content = forge(client.xrange(LOG)[0][1][b"e"])
        client.xadd(LOG, {"e": content})
        client.publish("{bearerguard}:log:notify", content)
        eventually(lambda: "revocations_unreadable" in worker.codes())
        late = start_worker()
        assert late.refuses("t1")
        assert not late.refuses("t2")
        assert late.codes() == ["revocations_unreadable"]
        worker.revoke("t2")
        eventually(lambda: late.refuses("t2"))
        assert worker.revocations.health().status == "fresh"
        assert client.xlen(LOG) == 3  # nothing was lost, so nothing was appended again


def test_the_store_learns_nothing(redis: RedisServer, start_worker: Callable[..., Worker]) -> None:
    start_worker().revoke("a-token-id-to-look-for")
    dump = redis.dump()
    assert LOG.encode() in dump
    assert b"a-token-id-to-look-for" not in dump
    assert ISSUER.encode() not in dump


def test_a_store_that_forgets_its_mark_at_once_is_not_trusted(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    worker.handlers[MarkLog] = lambda _effect: None  # as one that evicts keys at once
    with pytest.raises(RevocationsUnavailable, match="keeps nothing"):
        worker.refuses("t1")


# Life


def following() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "bearerguard-revocations"]


def test_one_thread_follows_and_ends_with_its_guard(start_worker: Callable[..., Worker]) -> None:
    eventually(lambda: not following())
    worker = start_worker()
    assert not following()
    for _ in range(3):
        worker.refuses("t1")
    assert len(following()) == 1
    worker.shared.close()
    eventually(lambda: not following())
    assert not worker.refuses("t1")  # a closed guard can be used again
    assert len(following()) == 1


def test_closing_during_a_round_leaves_the_list_untrusted(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker()
    worker.refuses("t1")
    redis.signal(signal.SIGSTOP)
    time.sleep(0.6)  # the round waits for a reply
    worker.shared.close()
    redis.signal(signal.SIGCONT)
    eventually(lambda: not following())
    assert worker.revocations.trusted_until == -math.inf


def test_a_thread_keeps_nothing_alive(redis: RedisServer) -> None:
    worker = Worker(redis)
    worker.refuses("t1")
    gone = weakref.ref(worker.shared)
    del worker

    def ended() -> bool:
        gc.collect()
        return gone() is None and not following()

    eventually(ended)


def test_a_forked_worker_does_not_trust_the_list_of_its_parent_and_follows_itself(
    start_worker: Callable[..., Worker],
) -> None:
    parent, other = start_worker(), start_worker()
    parent.revoke("t1")
    child = os.fork()
    if child == 0:
        try:
            works = parent.revocations.trusted_until == -math.inf and not following()
            works &= parent.refuses("t1") and len(following()) == 1
            eventually(lambda: parent.refuses("t2"))
            os._exit(0 if works else 1)
        finally:
            os._exit(2)
    time.sleep(0.1)
    other.revoke("t2")
    assert os.waitpid(child, 0)[1] == 0
    eventually(lambda: parent.refuses("t2"))


def test_an_unforeseen_failure_is_logged_and_following_goes_on(
    start_worker: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    worker = start_worker()
    failures = [RuntimeError("unforeseen"), StoreFailed("foreseen")]
    follow = worker.shared.follow

    def failing(notified: tuple[bytes, ...]) -> Flow[None]:
        if failures:
            raise failures.pop(0)
        yield from follow(notified)

    worker.shared.follow = failing  # type: ignore[method-assign]
    worker.refuses("t1")
    start_worker().revoke("t2")
    eventually(lambda: worker.refuses("t2"))
    assert "unexpected exception" in caplog.text
    assert "StoreFailed" not in caplog.text


def test_following_goes_on_after_a_store_raised_an_unknown_error(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    class Odd(RedisStore):
        failures = 1

        @contextmanager
        def listening(self) -> Iterator[Handlers]:
            with super().listening() as handlers:

                def listen(effect: ListenLog) -> Any:
                    if self.failures:
                        self.failures = 0
                        raise KeyError("odd")
                    return handlers[ListenLog](effect)

                yield {**handlers, ListenLog: listen}

    store = Odd(redis.url, secret=SECRET)
    revocations = Revocations(store).attach(time.time, lambda *_: None)
    handlers: dict[type[Effect[Any]], Any] = {**store.handlers()}
    handlers[Once] = lambda effect: run(effect.flow(), handlers)
    run(revocations.ensure(ISSUER), handlers)
    eventually(lambda: "unexpected exception" in caplog.text)
    run(revocations.revoke([revocation("t1")]), handlers)
    until = revocations.trusted_until
    eventually(lambda: revocations.trusted_until > until)  # its thread goes on
    revocations.shared.close()


def test_many_first_requests_read_once(
    redis: RedisServer, start_worker: Callable[..., Worker]
) -> None:
    start_worker().revoke("t1")
    worker = start_worker()
    reads = 0
    read = worker.handlers[ReadLog]

    def counted(effect: ReadLog) -> Any:
        nonlocal reads
        reads += 1
        time.sleep(0.1)
        return read(effect)

    worker.handlers[ReadLog] = counted
    found: list[bool] = []
    threads = [
        threading.Thread(target=lambda: found.append(worker.refuses("t1"))) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 20
    assert reads == 1
    worker.run(worker.revocations._first_read())  # as one that takes over when all is done
    assert reads == 1
