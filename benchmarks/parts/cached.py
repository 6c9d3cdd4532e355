"""A warm request as the cache fills, from a thousand to a million tokens.

The requests go round a thousand tokens spread over the whole cache, so that memory is
touched as in an API with that many clients.
"""

from __future__ import annotations

from itertools import cycle, islice, repeat

from bearerguard.asgi import BearerMiddleware
from benchmarks.calling_asgi import Caller, receive, scope, send
from benchmarks.hs256 import stream
from benchmarks.peers.asgi import bare
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, clock, figure, measure, ratio
from benchmarks.token_issuer import TokenIssuer

_SPREAD = 1000


def run(effort: Effort) -> Result:
    """Fill a cache for each size; then measure all of them in the same rounds."""
    sizes = (1_000, 2_000) if effort.quick else (1_000, 10_000, 100_000, 1_000_000)
    cases: dict[str, Case] = {}
    with Caller() as caller:
        for size in sizes:
            cases[str(size)] = _case(caller, size)
        samples = measure(cases, effort)
    smallest = str(sizes[0])
    result = Result("scaling: cached tokens", ("tokens", "warm request, µs", "× 1,000 tokens"))
    for name in cases:
        flat = ratio(samples, name, smallest)
        result.row(f"{int(name):,}", figure(samples[name]).scaled(1e6).text(), flat.text())
        result.keep("warm × 1000 tokens", name, value=flat)
    if not effort.quick:
        result.reached["Scale tokens"] = ratio(samples, str(sizes[-1]), smallest).median
    result.notes.append("The time of a warm request includes the bare app.")
    return result


def _case(caller: Caller, size: int) -> Case:
    issuer = TokenIssuer("HS256")
    guard = issuer.guard(cache_size=size * 4)
    app = BearerMiddleware(bare, guard=guard)
    spread: list[bytes] = []
    for number, token in enumerate(islice(stream(issuer), size)):
        guard.verify(token)
        if number % (size // _SPREAD) == 0:
            spread.append(token.encode())
    if guard.health()["cached_tokens"] != size:
        raise RuntimeError(f"the cache holds {guard.health()['cached_tokens']}, not {size}")
    # New objects: a request's token comes from the network and lies in one place in memory.
    turn = cycle([token[:1] + token[1:] for token in spread])

    async def requests(count: int) -> float:
        begin = clock()
        for _ in repeat(None, count):
            await app(scope(next(turn)), receive, send)
        return clock() - begin

    caller.check(f"{size} tokens", app, spread[-1].decode())
    return Case(lambda count: caller.run(requests(count)))
