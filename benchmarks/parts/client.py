"""What fresh tokens add to a client's warm request, beside the peers.

Responses come from memory, so that nothing waits. Each figure is a client with authentication
minus the same library's client with a fixed header.
"""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from functools import partial
from itertools import repeat
from typing import Any

from bearerguard.runtime.messages import Request, Response
from bearerguard.testing.loopback import serving
from benchmarks.adding import without
from benchmarks.peers import installed, left_out
from benchmarks.peers.client import LIFETIME, MAKERS, OURS, URL, Pair, Tokens, check
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, added, clock, figure, measure
from benchmarks.token_issuer import TokenIssuer

# These libraries leave cyclic garbage, and a collection costs more than the figure. Each batch
# starts without garbage, and is so long that one collection makes no difference.
_LONG = Effort(rounds=25, batch=0.1)


def run(effort: Effort) -> Result:
    """Measure our clients and the peers' in the same rounds."""
    token = TokenIssuer().token()
    body = json.dumps({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME})

    def respond(_request: Request) -> Response:
        return Response(200, (("Content-Type", "application/json"),), body.encode())

    with serving(respond) as origin, asyncio.Runner() as runner:
        tokens = Tokens(f"{origin}/token", token)
        pairs = {name: make(tokens) for name, make in OURS.items()}
        peers, missing = installed({name: partial(make, tokens) for name, make in MAKERS.items()})
        pairs.update(peers)
        cases: dict[str, Case] = {}
        for name, pair in pairs.items():
            for case, client in ((without(name), pair.without), (name, pair.authenticated)):
                cases[case] = _case(runner, pair, client)
                cases[case].run(1)
                check(case, client, tokens)
        samples = measure(cases, effort if effort.quick else _LONG)
        for pair in pairs.values():
            _close(runner, pair)
    columns = ("", "added, µs", "with a fixed header, µs")
    result = Result("client: added to a warm request", columns)
    for name in pairs:
        microseconds = added(samples, name, without(name)).scaled(1e6)
        fixed = figure(samples[without(name)]).scaled(1e6)
        result.row(name, microseconds.text(), fixed.text())
        result.keep("µs", name, value=microseconds)
        if name in OURS:
            target = f"Client {name.split()[1]}"  # the more expensive of sync and async counts
            result.reached[target] = max(microseconds.median, result.reached.get(target, 0.0))
    result.notes += left_out(missing)
    return result


def _case(runner: asyncio.Runner, pair: Pair, client: Any) -> Case:
    if pair.is_async:
        return Case(lambda count: runner.run(_requests(client, count)), prepare=_collect)
    return Case(_calling(client.get), prepare=_collect)


def _collect(_count: int) -> None:
    gc.collect()


def _calling(get: Callable[[str], Any]) -> Callable[[int], None]:
    def calls(count: int) -> None:
        for _ in repeat(None, count):
            get(URL)

    return calls


async def _requests(client: Any, count: int) -> float:
    begin = clock()
    for _ in repeat(None, count):
        await client.get(URL)
    return clock() - begin


def _close(runner: asyncio.Runner, pair: Pair) -> None:
    for client in (pair.without, pair.authenticated):
        if pair.is_async:
            runner.run(client.aclose())
        else:
            client.close()
