"""What authentication adds to an ASGI request whose token was seen before, beside the peers.

Apps are called directly, without a server: with authentication minus without it.
"""

from __future__ import annotations

from functools import partial

from bearerguard.asgi import BearerMiddleware
from benchmarks.adding import FLOOR, tabulate, without
from benchmarks.calling_asgi import Caller
from benchmarks.floor import floor
from benchmarks.peers import PeerError, installed, left_out
from benchmarks.peers.asgi import MAKERS, Pair, bare
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, measure
from benchmarks.token_issuer import TokenIssuer

PLAIN, HEADERS = "bearerguard, nothing added", "bearerguard, both expiry headers"
_TARGETS = {PLAIN: "T1 plain", HEADERS: "T1 headers"}
_EXPIRY = {b"access-token-expires-in", b"access-token-expires-at"}


def run(effort: Effort) -> Result:
    """Measure our middleware and the peers' in the same rounds."""
    issuer = TokenIssuer()
    token = issuer.token()
    pairs = {
        PLAIN: Pair(bare, BearerMiddleware(bare, guard=issuer.plain_guard())),
        HEADERS: Pair(bare, BearerMiddleware(bare, guard=issuer.guard())),
    }
    peers, missing = installed({name: partial(make, issuer) for name, make in MAKERS.items()})
    pairs.update(peers)
    with Caller() as caller:
        for name, pair in pairs.items():
            response = caller.check(name, pair.protected, token)
            if name in _TARGETS and _EXPIRY.issubset(response) != (name == HEADERS):
                raise PeerError(f"{name} responds with {sorted(response)}")
        cases: dict[str, Case] = {FLOOR: floor(token)}
        for name, pair in pairs.items():
            cases[without(name)] = caller.case(pair.without, token)
            cases[name] = caller.case(pair.protected, token)
        samples = measure(cases, effort)
    result = tabulate("ASGI: added to a warm request", samples, pairs, _TARGETS)
    result.notes += left_out(missing)
    return result
