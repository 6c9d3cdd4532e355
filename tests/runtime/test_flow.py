"""Flows and their drivers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anyio
import pytest

from bearerguard.runtime.flow import Effect, Fetch, Flow, arun, ask, run
from bearerguard.runtime.messages import Response

GREETING = Fetch("GET", "https://id.test", (("authorization", "secret"),), b"secret")


def greeting() -> Flow[str]:
    answer = yield from ask(GREETING)
    try:
        yield from ask(GREETING)
    except ValueError as error:
        return f"{answer.status} then {error}"
    return "two answers"


def handlers() -> dict[type[Effect[Any]], Any]:
    answers: Iterator[Response | Exception] = iter([Response(200), ValueError("no")])

    def fetch(_effect: Fetch) -> Response:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return {Fetch: fetch}


def test_the_sync_and_the_async_driver_run_a_flow_alike() -> None:
    table = handlers()

    async def fetch(effect: Fetch) -> Response:
        answer: Response = table[Fetch](effect)
        return answer

    assert run(greeting(), handlers()) == "200 then no"

    async def main() -> str:
        return await arun(greeting(), {Fetch: fetch})

    assert anyio.run(main) == "200 then no"


def test_what_a_flow_raises_reaches_the_caller_and_the_flow_is_closed() -> None:
    closed: list[bool] = []

    def failing() -> Flow[None]:
        try:
            yield from ask(GREETING)
        finally:
            closed.append(True)

    def fail(_effect: Fetch) -> Response:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(failing(), {Fetch: fail})
    assert closed == [True]


def test_the_repr_of_an_effect_has_no_secret() -> None:
    assert "secret" not in repr(GREETING)
