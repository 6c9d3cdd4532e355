"""One guard over several loops, threads, processes, and after close."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time

import anyio
import pytest

from bearerguard import Guard
from bearerguard.testing import LocalIssuer

# Threads of guards that other tests still refer to.
_others: set[threading.Thread] = set()


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name == "bearerguard-keys"}


def refreshing() -> int:
    """How many threads refresh keys for this test."""
    return len(_threads() - _others)


def settled(expected: int) -> bool:
    deadline = time.monotonic() + 10
    while refreshing() != expected and time.monotonic() < deadline:
        time.sleep(0.01)
    return refreshing() == expected


@pytest.fixture(autouse=True)
def threads_of_other_tests() -> None:
    gc.collect()
    _others.clear()
    _others.update(_threads())


@pytest.fixture
def issuer() -> LocalIssuer:
    return LocalIssuer(algorithm="ES256")


def test_one_guard_serves_several_event_loops(issuer: LocalIssuer) -> None:
    with issuer.guard() as guard:
        for backend in ("asyncio", "trio", "asyncio"):
            for _ in range(2):
                principal = anyio.run(guard.averify, issuer.token(), backend=backend)
                assert principal.subject == "user"
        token = issuer.token()
        first = anyio.run(guard.averify, token)
        assert anyio.run(guard.averify, token) is first  # cached
    assert issuer.hits["/jwks"] == 1


def test_constructing_opens_nothing_and_one_thread_is_started_by_the_first_fetch(
    issuer: LocalIssuer,
) -> None:
    before = refreshing()
    guard = issuer.guard()
    assert refreshing() == before
    token = issuer.token()
    for _ in range(3):
        guard.verify(token)
    assert refreshing() == before + 1
    guard.close()
    assert settled(before)


def test_a_guard_without_references_ends_its_thread(issuer: LocalIssuer) -> None:
    before = refreshing()
    guard = issuer.guard()
    guard.verify(issuer.token())
    del guard
    gc.collect()
    assert settled(before)


def test_a_closed_guard_can_be_used_again(issuer: LocalIssuer) -> None:
    now = [time.time()]
    guard = issuer.guard(clock=lambda: now[0])

    async def lifespan() -> None:
        async with guard:
            await guard.awarm()
            await guard.averify(issuer.token())

    anyio.run(lifespan)
    anyio.run(lifespan)
    now[0] += 290
    with guard:
        token = issuer.token(claims={"exp": now[0] + 60})
        guard.verify(token)
        now[0] += 2
        guard.verify(token)  # finds the refresh overdue, and starts the thread again
        deadline = time.monotonic() + 10
        while issuer.hits["/jwks"] < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert issuer.hits["/jwks"] >= 2


def test_a_guard_closed_in_the_middle_of_a_refresh_starts_no_other_thread(
    issuer: LocalIssuer,
) -> None:
    before = refreshing()
    now = [time.time()]
    guard = issuer.guard(clock=lambda: now[0])
    token = issuer.token()
    guard.verify(token)
    issuer.delay = 0.2
    now[0] += 290
    guard.verify(token)
    time.sleep(0.05)
    guard.close()
    assert settled(before)


def test_a_forked_worker_refreshes_its_own_keys(issuer: LocalIssuer) -> None:
    now = [time.time()]
    with issuer.guard(clock=lambda: now[0]) as guard:
        token = issuer.token()
        guard.verify(token)
        child = os.fork()
        if child == 0:
            try:
                works = refreshing() == 0
                now[0] += 290
                guard.verify(token)
                works &= refreshing() == 1
                deadline = time.monotonic() + 10
                while issuer.hits["/jwks"] < 2 and time.monotonic() < deadline:
                    time.sleep(0.01)
                works &= issuer.hits["/jwks"] == 2
                os._exit(0 if works else 1)
            finally:
                os._exit(2)
        assert os.waitpid(child, 0)[1] == 0
        assert refreshing() >= 1


def test_nothing_is_left_open_when_nobody_closes() -> None:
    code = """
import asyncio, warnings, gc
from bearerguard import Guard, Issuer
from bearerguard.testing import LocalIssuer
issuer = LocalIssuer(algorithm="ES256")
with issuer.serve() as url:
    guard = Guard(Issuer(url, audience=issuer.audience))
    guard.verify(issuer.token())
    asyncio.run(guard.averify(issuer.token(header={"kid": None})))
    asyncio.run(Guard(Issuer(url, audience=issuer.audience)).averify(issuer.token()))
gc.collect()
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "Exception" not in done.stderr


def test_guards_are_context_managers_sync_and_async(issuer: LocalIssuer) -> None:
    async def main() -> None:
        async with issuer.guard() as guard:
            assert isinstance(guard, Guard)
            await guard.aclose()

    anyio.run(main)
    with issuer.guard() as guard:
        assert guard.health()["cached_tokens"] == 0
