"""What authentication adds to a WSGI request whose token was seen before, beside the peers.

Apps are called directly, without a server: with authentication minus without it.
"""

from __future__ import annotations

from functools import partial

from bearerguard.wsgi import BearerMiddleware
from benchmarks import calling_wsgi
from benchmarks.adding import FLOOR, tabulate, without
from benchmarks.floor import floor
from benchmarks.ours import silent_guard
from benchmarks.peers import PeerError, installed, left_out
from benchmarks.peers.wsgi import MAKERS, Pair, bare
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, measure
from benchmarks.world import World

SILENT, TELLING = "bearerguard, nothing added", "bearerguard, both expiry headers"
_EXPIRY = {"access-token-expires-in", "access-token-expires-at"}


def run(effort: Effort) -> Result:
    """Measure our face and the peers' in the same rounds."""
    world = World()
    token = world.token()
    pairs = {
        SILENT: Pair(bare, BearerMiddleware(bare, guard=silent_guard(world))),
        TELLING: Pair(bare, BearerMiddleware(bare, guard=world.guard())),
    }
    peers, missing = installed({name: partial(make, world) for name, make in MAKERS.items()})
    pairs.update(peers)
    cases: dict[str, Case] = {FLOOR: floor(token)}
    for name, pair in pairs.items():
        answer = calling_wsgi.check(name, pair.protected, token)
        if name in {SILENT, TELLING} and _EXPIRY.issubset(answer) != (name == TELLING):
            raise PeerError(f"{name} answers with {sorted(answer)}")
        cases[without(name)] = calling_wsgi.case(pair.without, token)
        cases[name] = calling_wsgi.case(pair.protected, token)
    samples = measure(cases, effort)
    result = tabulate("WSGI: added to a warm request", samples, pairs, {TELLING: "T2"})
    result.notes += left_out(missing)
    return result
