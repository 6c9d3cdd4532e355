"""The Redis transport against a real Redis, healthy and failing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from bearerguard import ConfigurationError
from bearerguard.redis import RedisStore
from bearerguard.runtime.effects import Load, Store
from bearerguard.runtime.flow import Effect
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.shared_log import AppendLog, CutLog, ListenLog, MarkLog, NotifyLog, ReadLog
from tests.faults.size import size
from tests.processes import free_port
from tests.raw_servers import certificate
from tests.redis_server import RedisServer

__all__ = ["certificate"]  # a fixture

SECRET = "s" * 32
LOG = "{bearerguard}:log"


def make(redis: RedisServer, **options: Any) -> RedisStore:
    return RedisStore(redis.url, **{"secret": SECRET, "timeout": 0.3, **options})


def ask(store: RedisStore, effect: Effect[Any]) -> Any:
    return store.handlers()[type(effect)](effect)


def append(store: RedisStore, *entries: bytes, keep: float = 3600) -> None:
    ask(store, AppendLog(entries, keep))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": "http://127.0.0.1"}, r"RedisStore\(url\)"),
        ({"url": ""}, r"RedisStore\(url\)"),
        ({"url": 7}, r"RedisStore\(url\)"),
        ({"secret": "hunter2"}, "secret="),
        ({"secret": []}, "secret="),
        ({"prefix": ""}, "prefix="),
        ({"prefix": "a}b"}, "prefix="),
        ({"prefix": "a\n"}, "prefix="),
        ({"timeout": 0}, "timeout="),
        ({"timeout": "1"}, "timeout="),
        ({"timeout": float("inf")}, "timeout="),
        ({"url": "redis://127.0.0.1?colour=hunter2"}, r"RedisStore\(url\): an option"),
        ({"url": "rediss://127.0.0.1?ssl_cert_reqs=hunter2"}, r"RedisStore\(url\): an option"),
        ({"url": "redis://127.0.0.1?decode_responses=true"}, "remove decode_responses="),
        ({"url": "redis://127.0.0.1?socket_timeout=600"}, "remove socket_timeout="),
    ],
)
def test_a_mistake_in_an_option_is_named(options: dict[str, Any], named: str) -> None:
    usual = {"url": "redis://:p4ssword@127.0.0.1:1", "secret": SECRET}
    with pytest.raises(ConfigurationError, match=named) as raised:
        RedisStore(**{**usual, **options})
    assert "hunter2" not in str(raised.value)


def test_constructing_connects_to_nothing_and_shows_no_password() -> None:
    assert repr(RedisStore("redis://:p4ssword@127.0.0.1:1", secret=SECRET)) == (
        "RedisStore(prefix='bearerguard')"
    )


# Values


def test_a_value_is_kept_for_its_ttl(redis: RedisServer) -> None:
    store = make(redis)
    assert ask(store, Load("a")) is None
    ask(store, Store("a", b"\x00\xff", 30))
    assert ask(make(redis), Load("a")) == b"\x00\xff"
    with redis.client() as client:
        assert 29_000 < client.pttl("a") <= 30_000
    ask(store, Store("b", b"x", 0))
    assert ask(store, Load("b")) is None


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_event_loop_goes_on_while_the_store_answers(redis: RedisServer, backend: str) -> None:
    store = make(redis, timeout=2)
    handlers = store.async_handlers()
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await anyio.sleep(0.01)
            ticks += 1

    async def main() -> None:
        await handlers[Store](Store("a", b"1", 30))
        redis.signal(signal.SIGSTOP)
        async with anyio.create_task_group() as group:
            group.start_soon(tick)
            threading.Timer(0.3, redis.signal, [signal.SIGCONT]).start()
            assert await handlers[Load](Load("a")) == b"1"
            group.cancel_scope.cancel()

    anyio.run(main, backend=backend)
    assert ticks >= 5


def test_a_restarted_store_is_used_again_at_once(redis: RedisServer) -> None:
    store = make(redis)
    ask(store, Store("a", b"1", 30))
    redis.kill()
    redis.start()
    assert ask(store, Load("a")) is None


def test_a_store_that_is_down_is_tried_after_pauses(redis: RedisServer) -> None:
    store = make(redis)
    redis.kill()
    began = time.monotonic()
    for _ in range(200):
        with pytest.raises(StoreFailed, match="shared store"):
            ask(store, Load("a"))
        with pytest.raises(StoreFailed):
            ask(store, Store("a", b"1", 30))
    with pytest.raises(StoreFailed, match="ConnectionError"):
        append(store, b"a")  # an operator's revocation is always tried
    redis.start()
    while ask_or_none(store, Load("a")) is not None:
        assert time.monotonic() < began + 30


def ask_or_none(store: RedisStore, effect: Effect[Any]) -> str | None:
    try:
        ask(store, effect)
    except StoreFailed as error:
        time.sleep(0.01)
        return str(error)
    return None


def test_a_store_that_hangs_costs_many_threads_one_timeout(redis: RedisServer) -> None:
    store, late = make(redis), "timed out after 0.3 s (TimeoutError)"
    ask(store, Store("a", b"1", 30))
    redis.signal(signal.SIGSTOP)
    assert ask_or_none(store, Load("a")) == f"the shared store: {late}"
    failures = [ask_or_none(store, Load("a")) for _ in range(50)]
    assert set(failures) == {f"the shared store failed a moment ago: {late}"}
    time.sleep(1.1)
    found: list[str | None] = []
    threads = [
        threading.Thread(target=lambda: found.append(ask_or_none(store, Load("a"))))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found.count(f"the shared store: {late}") < 10  # one, but for a race of threads
    assert len(found) == 20


def test_a_full_store_refuses_and_keeps_nothing(redis: RedisServer) -> None:
    store = make(redis)
    with redis.client() as client:
        client.config_set("maxmemory", "1")
    for effect in (Store("a", b"1", 30), AppendLog((b"a",), 3600)):
        with pytest.raises(StoreFailed):
            ask(store, effect)
    with redis.client() as client:
        client.config_set("maxmemory", "0")
        assert client.dbsize() == 0


def test_a_key_of_another_type_is_a_failure_of_the_store(redis: RedisServer) -> None:
    store = make(redis)
    with redis.client() as client:
        client.set(LOG, "text")
    with pytest.raises(StoreFailed, match="ResponseError"):
        append(store, b"a")
    with pytest.raises(StoreFailed, match="ResponseError"):
        ask(make(redis), ReadLog(None))


# The log


def test_a_store_over_tls_is_used_only_with_a_valid_certificate(
    redis: RedisServer, certificate: Path
) -> None:
    port = free_port()
    with redis.client() as client:
        for name in ("tls-cert-file", "tls-key-file", "tls-ca-cert-file"):
            client.config_set(name, str(certificate))
        client.config_set("tls-auth-clients", "no")
        client.config_set("tls-port", port)
    url = f"rediss://127.0.0.1:{port}/0"
    store = RedisStore(f"{url}?ssl_ca_certs={certificate}", secret=SECRET)
    ask(store, Store("a", b"1", 30))
    assert ask(store, Load("a")) == b"1"
    with pytest.raises(StoreFailed, match="ConnectionError"):
        ask(RedisStore(url, secret=SECRET), Load("a"))


def test_a_malformed_host_name_is_a_failure_of_the_store() -> None:
    store = RedisStore(f"redis://{'a' * 70}.test", secret=SECRET)
    with pytest.raises(StoreFailed, match=r"Unicode\w*Error"):
        ask(store, ReadLog(None))


def test_the_log_is_read_from_a_position(redis: RedisServer) -> None:
    store = make(redis)
    empty = ask(store, ReadLog(None))
    assert (empty.mark, empty.entries, empty.intact, empty.more) == (None, (), True, False)
    append(store, b"a", b"b")
    page = ask(make(redis), ReadLog(None))
    assert [content for _, content in page.entries] == [b"a", b"b"]
    append(store, b"c")
    news = ask(store, ReadLog(page.entries[-1][0]))
    assert [content for _, content in news.entries] == [b"c"]
    assert news.intact
    assert not news.more


def test_a_long_log_comes_in_pages(redis: RedisServer) -> None:
    store = make(redis, timeout=5)
    append(store, *(b"%d" % number for number in range(2500)))
    contents: list[bytes] = []
    position, more = None, True
    while more:
        page = ask(store, ReadLog(position))
        contents += [content for _, content in page.entries]
        position, more = page.entries[-1][0], page.more
    assert contents == [b"%d" % number for number in range(2500)]


def test_a_log_that_lost_a_position_is_not_intact(redis: RedisServer) -> None:
    store = make(redis)
    append(store, b"a")
    position = ask(store, ReadLog(None)).entries[-1][0]
    with redis.client() as client:
        client.delete(LOG)
    assert not ask(store, ReadLog(position)).intact
    append(store, b"b")
    assert not ask(store, ReadLog(position)).intact


def test_a_mark_is_replaced_only_by_a_worker_that_knows_it(redis: RedisServer) -> None:
    store = make(redis)
    ask(store, MarkLog(b"one", None))
    ask(store, MarkLog(b"two", None))
    assert ask(store, ReadLog(None)).mark == b"one"
    ask(store, MarkLog(b"three", b"two"))
    assert ask(store, ReadLog(None)).mark == b"one"
    ask(store, MarkLog(b"three", b"one"))
    assert ask(store, ReadLog(None)).mark == b"three"


def test_of_many_that_set_a_mark_at_the_same_moment_one_does(redis: RedisServer) -> None:
    stores = [make(redis, timeout=5) for _ in range(8)]
    barrier = threading.Barrier(len(stores))
    with redis.client() as client:
        for _ in range(20):
            client.flushall()
            seen: set[bytes] = set()

            def set_mark(number: int, seen: set[bytes] = seen) -> None:
                barrier.wait()
                ask(stores[number], MarkLog(b"%d" % number, None))
                seen.add(ask(stores[number], ReadLog(None)).mark)

            threads = [threading.Thread(target=set_mark, args=(n,)) for n in range(len(stores))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(seen) == 1


def test_nothing_is_appended_to_a_log_with_another_mark(redis: RedisServer) -> None:
    store = make(redis)
    assert ask(store, AppendLog((b"a",), 3600, mark=b"one"))
    assert not ask(store, AppendLog((b"b",), 3600, mark=b"two", instead_of=b"none"))
    assert ask(store, AppendLog((b"c",), 3600, mark=b"two", instead_of=b"one"))
    page = ask(store, ReadLog(None))
    assert [content for _, content in page.entries] == [b"a", b"c"]
    assert (page.mark, page.first, page.length) == (b"two", b"a", 2)


def test_of_many_that_append_to_the_same_log_at_the_same_moment_one_does(
    redis: RedisServer,
) -> None:
    stores = [make(redis, timeout=5) for _ in range(8)]
    barrier = threading.Barrier(len(stores))
    with redis.client() as client:
        for _ in range(20):
            client.flushall()
            done: list[int] = []

            def race(number: int, done: list[int] = done) -> None:
                effect = AppendLog((b"%d" % number,), 3600, mark=b"%d" % number)
                barrier.wait()
                if ask(stores[number], effect):
                    done.append(number)

            threads = [threading.Thread(target=race, args=(n,)) for n in range(len(stores))]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            (winner,) = done
            page = ask(stores[0], ReadLog(None))
            assert [content for _, content in page.entries] == [b"%d" % winner] == [page.mark]


def test_entries_before_a_position_are_removed(redis: RedisServer) -> None:
    store = make(redis)
    append(store, b"a", b"b", b"c")
    ask(store, CutLog(ask(store, ReadLog(None)).entries[1][0]))
    assert [content for _, content in ask(store, ReadLog(None)).entries] == [b"b", b"c"]


def test_an_entry_of_another_shape_has_no_content(redis: RedisServer) -> None:
    with redis.client() as client:
        client.xadd(LOG, {"x": "y"})
        client.xadd(LOG, {"e": "a", "x": "y"})
    found = ask(make(redis), ReadLog(None)).entries
    assert [content for _, content in found] == [b"", b"a"]


def test_a_notification_returns_how_many_listen(redis: RedisServer) -> None:
    store = make(redis)
    assert ask(store, NotifyLog()) == 0
    with store.listening() as handlers:
        handlers[ListenLog](ListenLog(5))
        assert ask(store, NotifyLog()) == 1
        assert handlers[ListenLog](ListenLog(0.1)) == ()  # there is no entry in it


def test_entries_older_than_keep_are_trimmed(redis: RedisServer) -> None:
    with redis.client() as client:
        for number in range(1, 501):
            client.xadd(LOG, {"e": "old"}, id=f"{number}-0")  # of 1970
    append(make(redis), b"new", keep=3600)
    with redis.client() as client:
        assert client.xlen(LOG) < 200  # whole nodes of 100 entries go


def test_a_listener_receives_appended_entries(redis: RedisServer) -> None:
    store = make(redis)
    with store.listening() as handlers:
        assert handlers[ListenLog](ListenLog(5)) == ()  # begins, and waits for nothing
        assert handlers[ListenLog](ListenLog(0.01)) == ()
        append(store, b"a", b"b")
        received: tuple[bytes, ...] = ()
        while len(received) < 2:
            received += handlers[ListenLog](ListenLog(5))
        assert received == (b"a", b"b")


def test_entries_appended_without_notify_are_read_but_not_received(redis: RedisServer) -> None:
    store = make(redis)
    with store.listening() as handlers:
        handlers[ListenLog](ListenLog(0))
        ask(store, AppendLog((b"a", b"b"), 3600, notify=False))
        append(store, b"c")
        assert handlers[ListenLog](ListenLog(5)) == (b"c",)
    assert [content for _, content in ask(store, ReadLog(None)).entries] == [b"a", b"b", b"c"]


def test_an_append_without_notify_wakes_a_listener(redis: RedisServer) -> None:
    store = make(redis)
    with store.listening() as handlers:
        handlers[ListenLog](ListenLog(0))
        ask(store, AppendLog((b"a", b"b"), 3600, notify=False))
        assert handlers[ListenLog](ListenLog(600)) == ()  # ten minutes, if it was not woken


def test_a_listener_notices_a_restart_and_subscribes_again(redis: RedisServer) -> None:
    store = make(redis)
    with store.listening() as handlers:
        handlers[ListenLog](ListenLog(0))
        redis.kill()
        with pytest.raises(StoreFailed):
            handlers[ListenLog](ListenLog(5))
        with pytest.raises(StoreFailed):
            handlers[ListenLog](ListenLog(5))
        redis.start()
        assert handlers[ListenLog](ListenLog(5)) == ()
        append(store, b"a")
        assert handlers[ListenLog](ListenLog(5)) == (b"a",)


def test_entries_sent_before_the_store_died_are_received(redis: RedisServer) -> None:
    store = make(redis)
    with store.listening() as handlers:
        handlers[ListenLog](ListenLog(0))
        append(store, b"a", b"b")
        redis.kill()
        assert handlers[ListenLog](ListenLog(5)) == (b"a", b"b")
        with pytest.raises(StoreFailed):
            handlers[ListenLog](ListenLog(5))


def test_acknowledged_entries_are_received_though_the_store_dies_at_that_moment(
    redis: RedisServer,
) -> None:
    store = make(redis)
    for cycle in range(size(100, 10)):
        with ExitStack() as stack:
            all_of_them = [stack.enter_context(store.listening()) for _ in range(30)]
            for handlers in all_of_them:
                handlers[ListenLog](ListenLog(0))
            append(store, b"%d" % cycle)
            redis.kill()
            for handlers in all_of_them:
                assert handlers[ListenLog](ListenLog(5)) == (b"%d" % cycle,)
        redis.start()


def test_listening_to_a_store_that_hangs_fails(redis: RedisServer) -> None:
    store = make(redis)
    redis.signal(signal.SIGSTOP)
    with store.listening() as handlers, pytest.raises(StoreFailed, match="TimeoutError"):
        handlers[ListenLog](ListenLog(5))


# Life


def in_child(work: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def test_a_forked_process_has_its_own_connections(redis: RedisServer) -> None:
    store = make(redis)
    ask(store, Store("a", b"1", 30))
    with redis.client() as client:
        before = {each["id"] for each in client.client_list()}

        def work() -> bool:
            value = ask(store, Load("a"))
            store.close()
            return bool(value == b"1")

        assert in_child(work)
        assert before <= {each["id"] for each in client.client_list()}
    assert ask(store, Load("a")) == b"1"


def test_a_forked_process_waits_for_no_lock_that_another_thread_had(redis: RedisServer) -> None:
    store = make(redis)
    ask(store, Store("a", b"1", 30))
    locked, done = threading.Event(), threading.Event()

    def hold() -> None:
        pool = store._connections.client().connection_pool
        with pool._lock:  # as while a command takes a connection
            locked.set()
            done.wait(30)

    def work() -> bool:
        signal.alarm(10)
        return bool(ask(store, Load("a")) == b"1")

    holder = threading.Thread(target=hold)
    holder.start()
    assert locked.wait(10)
    try:
        assert in_child(work)
    finally:
        done.set()
        holder.join()


def test_a_closed_store_has_no_idle_connection_and_can_be_used_again(redis: RedisServer) -> None:
    store = make(redis)
    store.close()
    with redis.client() as client:
        client.ping()
        ask(store, Load("a"))
        assert len(client.client_list()) == 2
        store.close()
        deadline = time.monotonic() + 10
        while len(client.client_list()) > 1:
            assert time.monotonic() < deadline
    assert ask(store, Load("a")) is None
