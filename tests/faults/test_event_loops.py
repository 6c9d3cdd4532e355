"""Event loops that end, and requests that are cancelled, while their guard fetches over HTTP."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Generator
from typing import Any

import anyio
import pytest

from bearerguard import Guard, HttpTransport, asgi
from tests.faults.clocked_api import NO_TLS
from tests.faults.issuer_place import Place
from tests.faults.size import size

LOOPS, ROUNDS, TASKS = size(200, 20), size(50, 5), 40


@pytest.fixture
def place() -> Generator[Place]:
    with Place() as made:
        yield made


def make_guard(place: Place) -> Guard:
    how = place.issuer.introspection.options(cache_ttl=60)
    issuer = place.issuer.issuer(introspection=how)
    return Guard(issuer, transport=HttpTransport(timeout=5, ssl_context=NO_TLS))


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names alone


def refreshers() -> set[threading.Thread]:
    return {each for each in threading.enumerate() if each.name == "bearerguard-keys"}


def test_a_guard_goes_on_in_the_next_loop_and_leaves_nothing_open(place: Place) -> None:
    """Each loop introspects over a kept connection, which ends with its loop."""
    others = refreshers()
    guard = make_guard(place)

    async def main() -> None:
        opaque = place.issuer.opaque_token()
        assert (await guard.averify(opaque)).subject == "user"
        assert (await guard.averify(place.issuer.token())).subject == "user"
        await guard.aclose()

    for _ in range(3):
        asyncio.run(main())
    before = open_files()
    for _ in range(LOOPS):
        asyncio.run(main())
        guard.verify(place.issuer.opaque_token())  # and a thread, between loops
    guard.close()
    assert open_files() <= before + 2
    for thread in refreshers() - others:
        thread.join(10)
    assert not refreshers() - others


def test_a_loop_that_ends_during_a_fetch_holds_up_no_other(place: Place) -> None:
    """`asyncio.run` cancels what is under way; another loop and a thread wait for nothing of it."""
    guard = make_guard(place)
    entered, let_go = threading.Event(), threading.Event()

    def late(connection: Any, request: Any) -> None:
        entered.set()
        let_go.wait(10)

    async def leave() -> None:
        asking = asyncio.create_task(guard.averify(place.issuer.token()))
        await anyio.to_thread.run_sync(entered.wait, 5)
        del asking  # the loop ends beside it

    with place.answering(late):
        asyncio.run(leave())
    let_go.set()
    token = place.issuer.token()
    assert asyncio.run(guard.averify(token)).subject == "user"
    assert guard.verify(token).subject == "user"
    guard.close()


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


class Requests:
    """Requests with one token through the ASGI adapter, of which some are cancelled.

    Attributes:
        statuses: of those that were not cancelled.
    """

    def __init__(self, guard: Guard, token: str) -> None:
        self.statuses: Counter[int] = Counter()
        self._app: Any = asgi.BearerMiddleware(_app, guard=guard)
        self._scope = {
            "type": "http",
            "method": "GET",
            "path": "/",
            "headers": [(b"authorization", b"Bearer " + token.encode())],
        }

    async def send(self) -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses[message["status"]] += 1

        await self._app(dict(self._scope), None, send)

    async def cancelled_after(self, seconds: float) -> None:
        async def send(message: Any) -> None:
            """Faster than its cancellation: not counted."""

        with anyio.move_on_after(seconds):
            await self._app(dict(self._scope), None, send)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("opaque", [False, True], ids=["signed", "opaque"])
def test_requests_that_are_cancelled_cost_the_others_nothing(
    place: Place, backend: str, opaque: bool
) -> None:
    """The leader is cancelled when its request has arrived, half of the waiters at any time."""
    issuer, chance = place.issuer, random.Random(7)
    arrived, cancelled = threading.Event(), threading.Event()

    def hold_the_first(connection: Any, request: Any) -> None:
        if not arrived.is_set():
            arrived.set()
            cancelled.wait(10)
            raise ConnectionError  # nobody reads it
        time.sleep(0.05)
        place.respond(connection, request)

    async def main() -> int:
        async with make_guard(place) as guard:
            requests = Requests(guard, issuer.opaque_token() if opaque else issuer.token())
            before = place.asked
            arrived.clear()
            cancelled.clear()
            async with anyio.create_task_group() as group, anyio.create_task_group() as leading:
                leading.start_soon(requests.cancelled_after, 60.0)
                await anyio.to_thread.run_sync(arrived.wait, 5)
                for _ in range(TASKS // 2):
                    group.start_soon(requests.send)
                    group.start_soon(requests.cancelled_after, chance.uniform(0.0, 0.1))
                await anyio.sleep(0.02)  # they have joined
                leading.cancel_scope.cancel()
                cancelled.set()
            assert requests.statuses == {200: TASKS // 2}
            return place.asked - before

    with place.answering(hold_the_first):
        asked = [anyio.run(main, backend=backend) for _ in range(ROUNDS)]
    print(f"{backend}: {TASKS // 2} passed in each round, with {asked} requests to the issuer")
    # Two for its metadata and its keys, or introspection, and one that was in vain. Who takes over
    # may be cancelled too.
    assert min(asked) >= 3
    assert max(asked) < TASKS
