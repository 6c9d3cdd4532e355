"""A token in use is believed without looking, until what it rests on ends: then at once no more."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from bearerguard import Guard, Revocations, scopes
from bearerguard.redis import RedisStore
from bearerguard.testing import LocalIssuer
from tests.adapters.doors import DOORS, Door
from tests.conformance.harness import NOON, Clock
from tests.redis_server import RedisServer

NOW = NOON
SECRET = "s" * 32


@pytest.fixture(params=DOORS)
def behind(request: pytest.FixtureRequest) -> Callable[..., Door]:
    made: Callable[..., Door] = request.param
    return made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def issuer(clock: Clock) -> LocalIssuer:
    return LocalIssuer(algorithm="ES256", clock=clock)


@pytest.fixture
def stored(redis: RedisServer) -> Iterator[Callable[..., Revocations]]:
    made: list[Revocations] = []

    def stored(**options: Any) -> Revocations:
        store = RedisStore(redis.url, secret=SECRET, timeout=0.5)
        made.append(Revocations(store, **options))
        return made[-1]

    yield stored
    for each in made:
        each.close()


def warmed(ask: Door, token: str) -> str:
    """Return a token after it was looked at, recalled, and found in use."""
    assert [ask(token).status for _ in range(3)] == [200] * 3
    return token


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_it_expires(behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock) -> None:
    ask = behind(issuer.guard(clock=clock))
    token = warmed(ask, issuer.token(lifetime=60))
    clock.now = NOW + 89.9  # 30 s of leeway
    assert ask(token).status == 200
    clock.now = NOW + 90
    assert ask(token).status == 401
    clock.now = NOW
    assert ask(token).status == 200


def test_another_token_with_its_end_is_another(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    ask = behind(issuer.guard(clock=clock))
    token = warmed(ask, issuer.token())
    position = len(token) - 60  # before what it is found by, and still in the signature
    altered = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
    assert altered[-43:] == token[-43:]
    assert [ask(altered).status for _ in range(3)] == [401] * 3
    assert ask(token).status == 200


def test_sent_twice_it_is_refused(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    ask = behind(issuer.guard(clock=clock), optional=True)
    token = warmed(ask, issuer.token())
    for tokens in ((token, token), (token, token, token), ("x", token), (token, "x")):
        assert ask(*tokens).status == 400


def test_it_serves_faces_of_other_demands(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    token = warmed(behind(guard), issuer.token(scope="read"))
    strict, lax = behind(guard, require=scopes("write")), behind(guard, require=scopes("read"))
    for _ in range(3):
        assert (strict(token).status, lax(token).status) == (403, 200)


def test_its_key_is_withdrawn(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    with issuer.guard(clock=clock) as guard:
        ask = behind(guard)
        token = warmed(ask, issuer.token())
        issuer.rotate(keep=False)
        warmed(ask, issuer.token())  # whose unknown key has them fetched
        assert ask(token).status == 401


def test_it_is_revoked_at_a_guard_that_shares_the_list(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    revocations = Revocations()
    other = issuer.guard(clock=clock, revocations=revocations)
    ask = behind(issuer.guard(clock=clock, revocations=revocations))
    token, spared = warmed(ask, issuer.token()), warmed(ask, issuer.token())
    other.revoke(token)
    assert ask(token).status == 401
    assert ask(spared).status == 200


def test_guards_made_at_once_all_hear_of_a_revocation(issuer: LocalIssuer, clock: Clock) -> None:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(50):
            revocations = Revocations()
            guards: list[Guard] = []
            ready = threading.Barrier(4)

            def make(
                into: list[Guard] = guards,
                shared: Revocations = revocations,
                ready: threading.Barrier = ready,
            ) -> None:
                ready.wait()
                into.append(issuer.guard(clock=clock, revocations=shared))

            threads = [threading.Thread(target=make) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            token = issuer.token()
            doors = [door(guard) for guard in guards for door in DOORS]
            for ask in doors:
                warmed(ask, token)
            guards[0].revoke(token)
            assert [ask(token).status for ask in doors] == [401] * 8
    finally:
        sys.setswitchinterval(interval)


def test_the_list_is_closed_and_its_store_gone(
    behind: Callable[..., Door],
    issuer: LocalIssuer,
    clock: Clock,
    redis: RedisServer,
    stored: Callable[..., Revocations],
) -> None:
    clock.now = time.time()  # the guards' own
    revocations = stored()
    other = issuer.guard(revocations=revocations)
    ask = behind(issuer.guard(revocations=revocations))
    token = warmed(ask, issuer.token())
    redis.signal(signal.SIGSTOP)
    other.close()
    assert ask(token).status == 503
    redis.signal(signal.SIGCONT)
    eventually(lambda: ask(token).status == 200)


def test_the_list_grows_old_though_the_clock_stands_still(
    behind: Callable[..., Door],
    issuer: LocalIssuer,
    clock: Clock,
    redis: RedisServer,
    stored: Callable[..., Revocations],
) -> None:
    ask = behind(issuer.guard(clock=clock, revocations=stored(max_staleness=1.0)))
    token = warmed(ask, issuer.token())
    redis.signal(signal.SIGSTOP)
    eventually(lambda: ask(token).status == 503)
    redis.signal(signal.SIGCONT)
    eventually(lambda: ask(token).status == 200)


def test_the_guard_is_closed(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    token = warmed(behind(guard), issuer.token())
    guard.close()
    assert not guard.recent
    warmed(behind(guard), token)  # it begins anew


def test_a_forked_process_looks_anew(
    behind: Callable[..., Door], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    ask = behind(guard)
    token = warmed(ask, issuer.token())
    child = os.fork()
    if child == 0:
        # A thread of the parent may have ended what it rests on, and not have said so yet.
        os._exit(1 if guard.recent else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert guard.recent
    assert ask(token).status == 200
