"""A warm token passes without a decision, until what it depends on ends; then it is refused."""

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
from tests.adapters.adapters import ADAPTERS, Send
from tests.conformance.harness import NOON, Clock
from tests.redis_server import RedisServer

NOW = NOON
SECRET = "s" * 32


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


def warmed(send: Send, token: str) -> str:
    """Return a token after requests that decided on it, found it cached, and found it in use."""
    assert [send(token).status for _ in range(3)] == [200] * 3
    return token


def eventually(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_warm_token_expires(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    send = behind(issuer.guard(clock=clock))
    token = warmed(send, issuer.token(expires_in=60))
    clock.now = NOW + 89.9  # 30 s of leeway
    assert send(token).status == 200
    clock.now = NOW + 90
    assert send(token).status == 401
    clock.now = NOW
    assert send(token).status == 200


def test_a_token_with_the_same_suffix_is_another_token(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    send = behind(issuer.guard(clock=clock))
    token = warmed(send, issuer.token())
    position = len(token) - 60  # before what it is found by, and still in the signature
    altered = token[:position] + ("A" if token[position] != "A" else "B") + token[position + 1 :]
    assert altered[-43:] == token[-43:]
    assert [send(altered).status for _ in range(3)] == [401] * 3
    assert send(token).status == 200


def test_a_warm_token_that_is_sent_twice_is_refused(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    send = behind(issuer.guard(clock=clock), optional=True)
    token = warmed(send, issuer.token())
    for tokens in ((token, token), (token, token, token), ("x", token), (token, "x")):
        assert send(*tokens).status == 400


def test_each_adapter_applies_its_own_requirement(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    token = warmed(behind(guard), issuer.token(scopes=["read"]))
    strict, lax = behind(guard, require=scopes("write")), behind(guard, require=scopes("read"))
    for _ in range(3):
        assert (strict(token).status, lax(token).status) == (403, 200)


def test_a_warm_token_ends_with_its_key(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    with issuer.guard(clock=clock) as guard:
        send = behind(guard)
        token = warmed(send, issuer.token())
        issuer.rotate(keep=False)
        warmed(send, issuer.token())  # whose unknown key has them fetched
        assert send(token).status == 401


def test_a_warm_token_is_revoked_by_a_guard_that_shares_the_list(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    revocations = Revocations()
    other = issuer.guard(clock=clock, revocations=revocations)
    send = behind(issuer.guard(clock=clock, revocations=revocations))
    token, spared = warmed(send, issuer.token()), warmed(send, issuer.token())
    other.revoke(token)
    assert send(token).status == 401
    assert send(spared).status == 200


def test_guards_made_at_the_same_time_all_learn_of_a_revocation(
    issuer: LocalIssuer, clock: Clock
) -> None:
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
            sends = [adapter(guard) for guard in guards for adapter in ADAPTERS]
            for send in sends:
                warmed(send, token)
            guards[0].revoke(token)
            assert [send(token).status for send in sends] == [401] * 8
    finally:
        sys.setswitchinterval(interval)


def test_a_warm_token_is_503_when_the_list_is_closed_and_its_store_unavailable(
    behind: Callable[..., Send],
    issuer: LocalIssuer,
    clock: Clock,
    redis: RedisServer,
    stored: Callable[..., Revocations],
) -> None:
    clock.now = time.time()  # the guards' own
    revocations = stored()
    other = issuer.guard(revocations=revocations)
    send = behind(issuer.guard(revocations=revocations))
    token = warmed(send, issuer.token())
    redis.signal(signal.SIGSTOP)
    other.close()
    assert send(token).status == 503
    redis.signal(signal.SIGCONT)
    eventually(lambda: send(token).status == 200)


def test_a_warm_token_is_503_when_the_list_is_stale_by_monotonic_time(
    behind: Callable[..., Send],
    issuer: LocalIssuer,
    clock: Clock,
    redis: RedisServer,
    stored: Callable[..., Revocations],
) -> None:
    send = behind(issuer.guard(clock=clock, revocations=stored(max_staleness=1.0)))
    token = warmed(send, issuer.token())
    redis.signal(signal.SIGSTOP)
    eventually(lambda: send(token).status == 503)
    redis.signal(signal.SIGCONT)
    eventually(lambda: send(token).status == 200)


def test_a_closed_guard_forgets_warm_tokens(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    token = warmed(behind(guard), issuer.token())
    guard.close()
    assert not guard.recent
    warmed(behind(guard), token)  # it begins anew


def test_a_forked_process_has_no_warm_tokens(
    behind: Callable[..., Send], issuer: LocalIssuer, clock: Clock
) -> None:
    guard = issuer.guard(clock=clock)
    send = behind(guard)
    token = warmed(send, issuer.token())
    child = os.fork()
    if child == 0:
        # A thread of the parent may have ended what it rests on, and not have said so yet.
        os._exit(1 if guard.recent else 0)
    assert os.waitpid(child, 0)[1] == 0
    assert guard.recent
    assert send(token).status == 200
