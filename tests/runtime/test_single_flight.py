"""Single-flight across threads, tasks, loops and processes."""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from bearerguard.runtime.fetching.single_flight import AsyncSingleFlight, SingleFlight
from bearerguard.runtime.flow import Effect, Flow, Once, ask


class Wait(Effect[int]):
    """Waits for something outside."""


def flow() -> Flow[int]:
    return (yield from ask(Wait()))


ONCE = Once("key", flow)


def test_a_thread_whose_leader_was_interrupted_leads_itself() -> None:
    single = SingleFlight()
    leading, interrupt = threading.Event(), threading.Event()

    def interrupted(_effect: Wait) -> int:
        leading.set()
        interrupt.wait(10)
        raise SystemExit

    def leader() -> None:
        with pytest.raises(SystemExit):
            single.once(ONCE, {Wait: interrupted})

    results: list[int] = []
    first = threading.Thread(target=leader)
    first.start()
    leading.wait(10)
    second = threading.Thread(target=lambda: results.append(single.once(ONCE, {Wait: lambda _: 7})))
    second.start()
    threading.Timer(0.05, interrupt.set).start()
    first.join(10)
    second.join(10)
    assert results == [7]


def test_a_child_process_does_not_wait_for_its_parents_flights() -> None:
    single = SingleFlight()

    def in_flight(_effect: Wait) -> int:
        child = os.fork()
        if child == 0:
            answered = single.once(ONCE, {Wait: lambda _: 1})
            os._exit(0 if answered == 1 else 1)
        return os.waitpid(child, 0)[1]

    assert single.once(ONCE, {Wait: in_flight}) == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_tasks_share_a_result_and_an_error(backend: str) -> None:
    single = AsyncSingleFlight()
    calls: list[int] = []
    outcomes: list[object] = []

    async def main(answer: Callable[[Wait], Awaitable[int]]) -> None:
        async def one() -> None:
            try:
                outcomes.append(await single.once(ONCE, {Wait: answer}))
            except LookupError as error:
                outcomes.append(type(error))

        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(one)

    async def succeed(_effect: Wait) -> int:
        calls.append(1)
        await anyio.sleep(0.01)
        return 5

    async def fail(_effect: Wait) -> int:
        calls.append(1)
        await anyio.sleep(0.01)
        raise LookupError

    anyio.run(main, succeed, backend=backend)
    anyio.run(main, fail, backend=backend)
    assert outcomes == [5] * 5 + [LookupError] * 5
    assert len(calls) == 2


def test_an_event_loop_that_died_in_flight_leaves_nothing_behind() -> None:
    single = AsyncSingleFlight()

    async def forever(_effect: Wait) -> int:
        await anyio.sleep_forever()
        return 0

    async def main() -> None:
        with anyio.move_on_after(0.01):
            await single.once(ONCE, {Wait: forever})

    async def answer(_effect: Wait) -> int:
        return 3

    async def again() -> Any:
        return await single.once(ONCE, {Wait: answer})

    anyio.run(main)
    assert anyio.run(again) == 3
