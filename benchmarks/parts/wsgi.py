"""What authentication adds to a WSGI request whose token was seen before, beside the peers.

Apps are called directly, without a server: with authentication minus without it.
"""

from __future__ import annotations

from functools import partial

from bearerguard.wsgi import BearerMiddleware
from benchmarks import calling_wsgi
from benchmarks.adding import FLOOR, tabulate, without
from benchmarks.floor import floor
from benchmarks.peers import PeerError, installed, left_out
from benchmarks.peers.wsgi import MAKERS, Pair, bare
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, measure
from benchmarks.token_issuer import TokenIssuer

PLAIN, HEADERS = "bearerguard, nothing added", "bearerguard, both expiry headers"
_EXPIRY = {"access-token-expires-in", "access-token-expires-at"}


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
    cases: dict[str, Case] = {FLOOR: floor(token)}
    for name, pair in pairs.items():
        response = calling_wsgi.check(name, pair.protected, token)
        if name in {PLAIN, HEADERS} and _EXPIRY.issubset(response) != (name == HEADERS):
            raise PeerError(f"{name} responds with {sorted(response)}")
        cases[without(name)] = calling_wsgi.case(pair.without, token)
        cases[name] = calling_wsgi.case(pair.protected, token)
    samples = measure(cases, effort)
    result = tabulate("WSGI: added to a warm request", samples, pairs, {HEADERS: "T2"})
    result.notes += left_out(missing)
    return result
