"""Login attempts that are counted in a real Redis, by several processes, healthy and failing."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bearerguard import ConfigurationError
from bearerguard.redis import RedisThrottle
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.rate_limits import Charge, RateLimit, ThrottleStore
from bearerguard.server.login.throttle import DatabaseThrottle, sites_of
from bearerguard.server.store.database import Database
from bearerguard.server.store.migrate import migrate
from bearerguard.server.store.people import login_attempts
from bearerguard.server.store.pruning import KINDS
from tests.processes import free_port
from tests.redis_server import RedisServer
from tests.server.people.harness import PASSWORD, PeopleHarness
from tests.server.stores import postgresql_store, sqlite_store

SLOW = RateLimit(attempts=3, interval=1000.0)


@pytest.fixture(params=["sqlite", "postgresql", "redis"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[str]:
    if request.param == "redis":
        yield request.getfixturevalue("redis").url
    elif request.param == "sqlite":
        yield sqlite_store(tmp_path).url
    else:
        with postgresql_store(request.getfixturevalue("postgresql_server")) as made:
            yield made.url


@pytest.fixture
def store(url: str) -> Generator[ThrottleStore]:
    with opened(url) as store:
        yield store


@contextmanager
def opened(url: str) -> Generator[ThrottleStore]:
    if url.startswith("redis:"):
        throttle = RedisThrottle(url, timeout=10.0)
        yield throttle
        throttle.close()
        return
    database = Database(url, connections=8)
    migrate(database)
    yield DatabaseThrottle(database, time.time)
    database.close()


def test_a_limit_admits_a_burst_and_then_says_when_the_next_attempt_may_be_made(
    store: ThrottleStore,
) -> None:
    assert [store.charge([Charge("a", SLOW)]) for _ in range(3)] == [0, 0, 0]
    wait = store.charge([Charge("a", SLOW)])
    assert 990 < wait <= 1000
    assert store.charge([Charge("b", SLOW)]) == 0
    store.close()
    assert 990 < store.charge([Charge("a", SLOW)]) <= 1000


def test_a_limit_recovers_with_time(store: ThrottleStore) -> None:
    quick = Charge("a", RateLimit(attempts=1, interval=0.05))
    assert store.charge([quick]) == 0
    deadline = time.monotonic() + 10
    while wait := store.charge([quick]):
        assert 0 < wait <= 0.051
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_an_attempt_that_is_refused_is_charged_to_no_limit(store: ThrottleStore) -> None:
    first, second, third = (Charge(key, SLOW) for key in "abc")
    for _ in range(3):
        store.charge([second])
    for _ in range(3):
        assert 990 < store.charge([first, second, third]) <= 1000
    assert [store.charge([first]) for _ in range(4)][:3] == [0, 0, 0]
    assert [store.charge([third]) for _ in range(3)] == [0, 0, 0]
    assert store.charge([third, first]) > 0


def test_attempts_that_are_refused_leave_no_keys_in_redis(redis: RedisServer) -> None:
    store = RedisThrottle(redis.url, prefix="test")
    used_up = Charge("in all", RateLimit(1, 1000.0))
    waits = [store.charge([Charge(f"address {each}", SLOW), used_up]) for each in range(50)]
    assert waits.count(0) == 1
    with redis.client() as client:
        assert sorted(client.keys()) == [b"{test}:limit:address 0", b"{test}:limit:in all"]


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_attempts_that_are_refused_leave_no_rows_in_the_database(url: str) -> None:
    database = Database(url, connections=2)
    migrate(database)
    store = DatabaseThrottle(database, time.time)
    used_up = Charge("in all", RateLimit(1, 1000.0))
    waits = [store.charge([Charge(f"address {each}", SLOW), used_up]) for each in range(50)]
    rows = database.execute(select(login_attempts.c.digest)).scalars()
    database.close()
    assert waits.count(0) == 1
    assert sorted(rows) == ["address 0", "in all"]


@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_pruning_waits_for_no_limit_that_an_attempt_is_charged_to(url: str) -> None:
    """It would have locked others before: an attempt that needs those, too, would end both."""
    database = Database(url, connections=3)
    migrate(database)
    now = 1_700_000_000.0
    charges = [Charge(key, SLOW) for key in "ab"]
    DatabaseThrottle(database, lambda: now).charge(charges)
    later = now + SLOW.span
    with database.write(concurrent=True) as attempt:
        attempt.run("UPDATE login_attempts SET whole_at = whole_at + 1000 WHERE digest = 'b'")
        with database.write(concurrent=True) as pruning:
            pruning.run("SET LOCAL lock_timeout = '100ms'")
            found = KINDS["login attempts"](database, later, 0.0, 100)
            assert found is not None
            assert found.remove(pruning) == 1
    left = database.execute(select(login_attempts.c.digest)).scalars()
    database.close()
    assert left == ["b"]


def test_a_charge_that_is_given_back_may_be_made_again(store: ThrottleStore) -> None:
    for _ in range(3):
        store.charge([Charge("a", SLOW)])
    store.release(give_back=[Charge("a", SLOW), Charge("unknown", SLOW)])
    assert store.charge([Charge("a", SLOW)]) == 0
    assert store.charge([Charge("a", SLOW)]) > 0
    for _ in range(2):
        assert store.charge([Charge("unknown", SLOW)]) == 0


def test_a_limit_that_is_reset_is_whole_again(store: ThrottleStore) -> None:
    for _ in range(3):
        store.charge([Charge("a", SLOW)])
        store.charge([Charge("b", SLOW)])
    store.release(reset=["a"], give_back=[Charge("b", SLOW)])
    assert [store.charge([Charge("a", SLOW)]) for _ in range(3)] == [0, 0, 0]
    store.release()


def test_redis_forgets_a_key_when_its_limit_has_recovered(redis: RedisServer) -> None:
    store = RedisThrottle(redis.url, prefix="test")
    store.charge([Charge("a", SLOW), Charge("b", RateLimit(attempts=10, interval=0.001))])
    with redis.client() as client:
        assert 0 < client.pttl("{test}:limit:a") <= 1_000_000
        deadline = time.monotonic() + 10
        while client.exists("{test}:limit:b"):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        store.release(give_back=[Charge("a", SLOW)])
        assert client.keys() == []


def test_a_clock_that_was_set_back_locks_nobody_out(redis: RedisServer) -> None:
    store = RedisThrottle(redis.url)
    with redis.client() as client:
        client.set("{bearerguard}:limit:a", f"{(time.time() + 86_400) * 1000:.3f}")
    assert store.charge([Charge("a", SLOW)]) == 0
    assert 990 < store.charge([Charge("a", SLOW)]) <= 1000


@pytest.mark.parametrize(
    ("address", "networks", "factors"),
    [
        ("198.51.100.7", ["198.51.100.7"], [1]),
        ("::ffff:198.51.100.7", ["198.51.100.7"], [1]),
        ("64:ff9b::198.51.100.7", ["198.51.100.7"], [1]),
        (
            "64:ff9b:1::198.51.100.7",
            ["64:ff9b:1::/64", "64:ff9b:1::/56", "64:ff9b:1::/48"],
            [1, 4, 16],
        ),
        (
            "2001:db8:1:203:4::5%eth0",
            ["2001:db8:1:203::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"],
            [1, 4, 16],
        ),
        ("::1", ["::1"], [5]),
        ("::ffff:127.0.0.1", ["127.0.0.1"], [5]),
        ("unix:socket", ["unix:socket"], [5]),
        ("", [""], [5]),
    ],
)
def test_an_address_is_limited_with_the_networks_that_a_site_may_have(
    address: str, networks: list[str], factors: list[int]
) -> None:
    sites = sites_of(address)
    assert (list(sites.networks), list(sites.factors)) == (networks, factors)
    assert sites.are_shared == (factors == [5])


def attempts(url: str, count: int, admitted: Any) -> None:
    known = Charge("account", RateLimit(25, 1000.0))
    with opened(url) as store:
        ways = [[Charge(f"address {each}", SLOW), known] for each in range(count)]
        admitted.put(sum(store.charge(charges) == 0 for charges in ways for _ in range(2)))


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_machines_whose_clocks_differ_by_minutes_exceed_no_limit_together(url: str) -> None:
    database = Database(url, connections=2)
    migrate(database)
    now = 1_700_000_000.0
    ahead, behind = (
        DatabaseThrottle(database, lambda: now + 400),
        DatabaseThrottle(database, lambda: now),
    )
    quick = Charge("a", RateLimit(attempts=5, interval=20.0))
    made = [each.charge([quick]) for _ in range(50) for each in (ahead, behind)]
    database.close()
    assert made.count(0) == 5


def test_processes_that_try_at_the_same_time_exceed_no_limit(url: str) -> None:
    with opened(url):
        pass  # the tables are made
    context = multiprocessing.get_context("spawn")
    admitted: Any = context.Queue()
    processes = [context.Process(target=attempts, args=(url, 10, admitted)) for _ in range(3)]
    for process in processes:
        process.start()
    assert sum(admitted.get(timeout=60) for _ in processes) == 25
    for process in processes:
        process.join()


def test_a_user_of_redis_needs_the_rights_that_are_documented_and_no_others(
    redis: RedisServer,
) -> None:
    with redis.client() as client:
        rights = "+get +set +del +time +evalsha +script|load"
        client.execute_command(
            "ACL", "SETUSER", "throttle", "on", ">word", "~{bearerguard}*", *rights.split()
        )
    store = RedisThrottle(redis.url.replace("redis://", "redis://throttle:word@"))
    assert store.charge([Charge("a", SLOW)]) == 0
    store.release(reset=["a"])
    other = RedisThrottle(redis.url.replace("redis://", "redis://throttle:other@"))
    with pytest.raises(StoreFailed, match="refused the user or the password") as raised:
        other.charge([Charge("a", SLOW)])
    assert "other" not in str(raised.value)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": "http://127.0.0.1"}, r"RedisThrottle\(url\)"),
        ({"url": "redis://127.0.0.1?colour=hunter2"}, r"RedisThrottle\(url\): an option"),
        ({"prefix": "a}b"}, "prefix="),
        ({"timeout": 0}, "timeout="),
    ],
)
def test_a_mistake_in_an_option_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named) as raised:
        RedisThrottle(**{"url": "redis://:p4ssword@127.0.0.1:1", **options})
    assert "hunter2" not in str(raised.value)
    assert repr(RedisThrottle("redis://:p4ssword@127.0.0.1:1")) == (
        "RedisThrottle(prefix='bearerguard')"
    )


# Signing in


def harness_of(redis: RedisServer, folder: Path, **options: Any) -> PeopleHarness:
    harness = PeopleHarness(folder, throttle=RedisThrottle(redis.url, timeout=0.3), **options)
    harness.people.accounts.add("ada", PASSWORD)
    harness.events.clear()
    return harness


def guesses(harness: PeopleHarness, count: int) -> list[int]:
    visitor = harness.visitor()
    return [visitor.sign_in("ada", f"guess number {each}").status for each in range(count)]


def test_machines_share_the_limits_and_the_database_is_not_written(
    redis: RedisServer, tmp_path: Path
) -> None:
    one = harness_of(redis, tmp_path)
    two = PeopleHarness(tmp_path, throttle=RedisThrottle(redis.url))
    assert guesses(one, 6) + guesses(two, 6) == [403] * 10 + [429] * 2
    assert one.rows("login_attempts") == []
    assert two.visitor().sign_in("ada", PASSWORD).header("Retry-After") in {"299", "300"}


def test_the_right_password_makes_the_allowance_whole(redis: RedisServer, tmp_path: Path) -> None:
    harness = harness_of(redis, tmp_path)
    for _ in range(3):
        assert guesses(harness, 9) == [403] * 9
        assert harness.visitor().sign_in("ada", PASSWORD).status == 303


def test_redis_holds_no_name_and_no_address(redis: RedisServer, tmp_path: Path) -> None:
    harness = harness_of(redis, tmp_path)
    guesses(harness, 2)
    content = redis.dump()
    assert b"{bearerguard}:limit:" in content
    for known in (b"ada", b"192.0.2.7", b"guess number"):
        assert known not in content


# A Redis that is full still says who is at a limit.
@pytest.mark.parametrize(("how", "before"), [("killed", 10), ("hangs", 10), ("full", 9)])
def test_without_redis_the_database_counts_and_events_say_so(
    redis: RedisServer, tmp_path: Path, how: str, before: int
) -> None:
    harness = harness_of(redis, tmp_path)
    assert guesses(harness, before) == [403] * before
    if how == "killed":
        redis.kill()
    elif how == "hangs":
        redis.signal(signal.SIGSTOP)
    else:
        with redis.client() as client:
            client.config_set("maxmemory", "1")
    # Nobody is locked out by the outage, and nobody guesses without a limit.
    assert guesses(harness, 12) == [403] * 10 + [429] * 2
    assert "throttle_unavailable" in harness.reported
    if how == "killed":
        redis.start()
    elif how == "hangs":
        redis.signal(signal.SIGCONT)
    else:
        with redis.client() as client:
            client.config_set("maxmemory", "0")
    deadline = time.monotonic() + 10
    while "throttle_restored" not in harness.reported:
        assert time.monotonic() < deadline
        harness.visitor().sign_in("grace", "wrong password")
        time.sleep(0.1)


def test_an_attempt_that_was_charged_before_an_outage_ends_without_an_error(
    redis: RedisServer, tmp_path: Path
) -> None:
    harness = harness_of(redis, tmp_path)
    throttle = harness.people.throttle
    attempt = throttle.charge("ada", "192.0.2.7")
    redis.kill()
    throttle.forgive(attempt)
    assert harness.reported == ["throttle_unavailable"]


def test_a_redis_that_was_never_there_costs_no_login(tmp_path: Path) -> None:
    throttle = RedisThrottle(f"redis://127.0.0.1:{free_port()}", timeout=0.3)
    harness = PeopleHarness(tmp_path, throttle=throttle)
    harness.people.accounts.add("ada", PASSWORD)
    assert harness.visitor().sign_in("ada", PASSWORD).status == 303
