"""Many wait for one renewal: it is asked for once, and nobody's leaving ends it (CL-04)."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import anyio
import httpx2
import pytest
import trio

from bearerguard.client import BearerAuth, MemoryStorage
from bearerguard.errors import TokenRefused, TokenUnavailable
from tests.client.scripted_server import manager, settle

BACKENDS = ["asyncio", "trio"]


@pytest.fixture
def held(server):
    """A token endpoint that answers when the test says so."""
    arrived, go = threading.Event(), threading.Event()

    def endpoint(_):
        arrived.set()
        assert go.wait(20)
        return server.outcome()

    server.outcome = lambda: (200, [], server.granted())
    server.answers["/token"] = endpoint
    server.arrived, server.go = arrived, go
    yield server
    go.set()
    settle()


def free(server, time):
    """Let the held endpoint answer at once, until the first token is there."""
    server.go.set()
    tokens = manager(server, time)
    lease = tokens.lease()
    server.go.clear()
    server.arrived.clear()
    return tokens, lease


@pytest.mark.parametrize("backend", BACKENDS)
def test_CL_04_whoever_is_cancelled_leaves_and_the_others_get_the_token(held, time, backend):
    tokens, lease = free(held, time)
    got = []

    async def main():
        async with anyio.create_task_group() as tasks:
            scopes = [anyio.CancelScope() for _ in range(10)]

            async def wait(scope):
                with scope:
                    got.append((await tokens.arenew(lease)).token.access_token)

            for scope in scopes:
                tasks.start_soon(wait, scope)
            await anyio.to_thread.run_sync(held.arrived.wait, 10)
            for scope in scopes[:5]:  # whoever was first, and others
                scope.cancel()
            await anyio.sleep(0.05)
            held.go.set()

    anyio.run(main, backend=backend)
    assert got == ["t2"] * 5
    assert len(held.at("/token")) == 2


@pytest.mark.parametrize("backend", BACKENDS)
def test_CL_04_a_renewal_that_nobody_waits_for_any_more_is_kept(held, time, backend):
    tokens, lease = free(held, time)

    async def main():
        with anyio.move_on_after(5) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tokens.arenew, lease)
                await anyio.to_thread.run_sync(held.arrived.wait, 10)
                scope.cancel()

    anyio.run(main, backend=backend)
    held.go.set()  # the event loop is gone by now
    settle()
    assert tokens.token().access_token == "t2"
    assert len(held.at("/token")) == 2


def test_CL_04_threads_and_several_event_loops_wait_for_one_renewal(held, time):
    tokens, lease = free(held, time)
    ready = threading.Barrier(8)

    def by_thread():
        ready.wait(10)
        return tokens.renew(lease)

    def by_asyncio():
        async def main():
            ready.wait(10)
            return await tokens.arenew(lease)

        return asyncio.run(main())

    def by_trio():
        async def main():
            ready.wait(10)
            return await tokens.arenew(lease)

        return trio.run(main)

    with ThreadPoolExecutor(8) as pool:
        ways = [by_thread, by_thread, by_asyncio, by_asyncio, by_asyncio, by_trio, by_trio, by_trio]
        waiting = [pool.submit(way) for way in ways]
        assert held.arrived.wait(10)
        held.go.set()
        found = {each.result(20).token.access_token for each in waiting}
    assert found == {"t2"}
    assert len(held.at("/token")) == 2


def test_CL_04_a_child_that_is_forked_during_a_renewal_renews_for_itself(held, time):
    tokens = manager(held, time, MemoryStorage(lock_timeout=2))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(tokens.token)
        assert held.arrived.wait(10)
        child = os.fork()
        if child == 0:
            code = 1
            try:
                code = 0 if tokens.token().access_token in {"t1", "t2"} else 2
            finally:
                os._exit(code)
        held.go.set()
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert waiting.result(20).access_token in {"t1", "t2"}
    assert len(held.at("/token")) == 2


@pytest.mark.parametrize(
    ("outcome", "error"),
    [((503, [], b""), TokenUnavailable), ((400, [], {"error": "invalid_client"}), TokenRefused)],
)
def test_CL_04_a_failure_reaches_all_who_wait(held, time, outcome, error):
    tokens, lease = free(held, time)
    held.outcome = lambda: outcome
    ready = threading.Barrier(20)

    def wait(number):
        ready.wait(10)
        try:
            if number % 2:
                tokens.renew(lease)
            else:
                anyio.run(tokens.arenew, lease)
        except error:
            return "failed"
        return "renewed"

    with ThreadPoolExecutor(20) as pool:
        waiting = [pool.submit(wait, number) for number in range(20)]
        assert held.arrived.wait(10)
        held.go.set()
        assert [each.result(20) for each in waiting] == ["failed"] * 20
    assert len(held.at("/token")) == 2
    assert tokens.lease() == lease, "it serves to its end"


def test_CL_04_requests_with_a_token_that_serves_never_wait_for_the_next(held, time):
    tokens, _ = free(held, time)
    time.pass_by(3550)
    with httpx2.Client(auth=BearerAuth(tokens)) as client, ThreadPoolExecutor(10) as pool:
        urls = [f"{held.url}/api"] * 30
        found = {each.text for each in pool.map(client.get, urls)}
        assert found == {"t1"}
        assert held.arrived.wait(10)
        assert not held.go.is_set()
        held.go.set()
        settle()
        assert client.get(urls[0]).text == "t2"
    assert len(held.at("/token")) == 2


def test_CL_04_requests_are_not_serialised(server, time):
    together = threading.Barrier(10)

    def api(_):
        together.wait(10)  # broken, unless ten requests are under way at once
        return 200, [], b"good"

    server.answers["/api"] = api
    with httpx2.Client(auth=BearerAuth(manager(server, time))) as client:
        client.get(f"{server.url}/api/first")
        with ThreadPoolExecutor(10) as pool:
            answers = list(pool.map(client.get, [f"{server.url}/api"] * 10))
    assert [each.text for each in answers] == ["good"] * 10


def test_CL_04_what_no_source_should_raise_reaches_the_caller_too(time):
    class Broken:
        key, resources = "broken", ()

        def token(self, previous):
            raise RuntimeError("a bug")
            yield

    from bearerguard.client import TokenManager

    tokens = TokenManager(Broken(), **time.options)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a bug"):
            tokens.token()
