"""A DPoP request whose token is cached, beside the verification of its proof's signature alone.

The request goes through the ASGI adapter: token, proof, replay store and the headers of the
response. Each proof is used once, as by clients. Beside it stands the library of Auth0 for APIs.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from functools import partial
from typing import Any

from bearerguard import Allow, MemoryReplays
from bearerguard.asgi import BearerMiddleware, received_request
from bearerguard.guard.binding.binding import USED_PROOF
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import base64url, signing
from bearerguard.protocol.jose.jwk import ALGORITHMS as CRYPTO
from bearerguard.testing import sign
from benchmarks import calling_asgi
from benchmarks.calling_asgi import receive, send
from benchmarks.peers import PeerError, installed, left_out
from benchmarks.peers.asgi import PATH
from benchmarks.peers.auth0 import ISSUER, Decide, auth0_api_python
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, Samples, figure, measure, ratio
from benchmarks.token_issuer import AUDIENCE, TokenIssuer

ALGORITHMS = ("ES256", "EdDSA")
RAW, GUARD, REQUEST, AUTH0 = "raw", "guard", "request", "auth0-api-python"
_PROOFS = 200


def run(effort: Effort) -> Result:
    """Measure both algorithms."""
    result = Result(
        "dpop: a warm DPoP request, in multiples of the raw verification of its proof",
        ("", *ALGORITHMS),
    )
    peers, missing = installed({AUTH0: auth0_api_python})
    measured = {name: _measured(name, effort, peers) for name in ALGORITHMS}
    microseconds = [figure(measured[name][RAW]).scaled(1e6) for name in ALGORITHMS]
    result.row("raw verification, µs", *(each.text() for each in microseconds))
    labels = {GUARD: "the guard's decision", REQUEST: "the whole request"}
    for case in (GUARD, REQUEST, *peers):
        ratios = {
            name: ratio(measured[name], case, RAW) for name in ALGORITHMS if case in measured[name]
        }
        cells = [ratios[name].text() if name in ratios else "-" for name in ALGORITHMS]
        result.row(labels.get(case, f"{case}, its decision"), *cells)
        for name, each in ratios.items():
            result.keep(name, case, value=each)
    for name, each in zip(ALGORITHMS, microseconds, strict=True):
        result.keep(name, RAW, value=each)
    result.notes += [
        "The token is cached; the key of the proofs is known; replays in memory.",
        f"{AUTH0} accepts no EdDSA, verifies each token anew, and notes no used proof.",
        *left_out(missing),
    ]
    return result


def _measured(algorithm: str, effort: Effort, peers: Mapping[str, Decide]) -> Samples:
    key = signing.PrivateKey(algorithm, None, signing.generate(algorithm))
    issuer = TokenIssuer("ES256")
    count = 20 if effort.quick else _PROOFS
    token = _bound(issuer, key)
    proofs = _proofs(key, token, count)
    scopes = [_scope(token, proof) for proof in proofs]
    guard = issuer.guard(dpop="required")
    middleware = BearerMiddleware(_app, guard=guard)
    binding: Any = guard._binding  # noqa: SLF001 - a proof can be used once

    def forget(_count: int) -> None:
        binding.proofs.replays = MemoryReplays()
        for scope in scopes:
            scope.pop(USED_PROOF, None)

    def whole(_count: int) -> None:
        for scope in scopes:
            _finish(middleware(scope, receive, send))

    def decide(_count: int) -> None:
        for scope in scopes:
            fields = [scope["headers"][-2][1]]
            decision = guard.decide_now(fields, request=partial(received_request, scope))
            if not isinstance(decision, Allow):
                raise PeerError(f"a good proof was refused: {decision}")

    # The key of the token and that of the proofs are known from here on.
    guard.run(
        guard.decide([scopes[0]["headers"][-2][1]], request=partial(received_request, scopes[0]))
    )
    forget(0)
    decide(0)
    cases = {
        RAW: Case(_raw(key, proofs), count=count),
        GUARD: Case(decide, prepare=forget, count=count),
        REQUEST: Case(whole, prepare=forget, count=count),
    }
    if algorithm == "ES256":
        cases |= {
            name: Case(_by_peer(decide, key, count), count=count) for name, decide in peers.items()
        }
    return measure(cases, effort)


def _bound(issuer: TokenIssuer, key: signing.PrivateKey) -> str:
    claims = {**issuer.claims(), "cnf": {"jkt": dpop.key_thumbprint(key)}}
    return sign(issuer.header(), claims, issuer.key)


def _proofs(key: signing.PrivateKey, token: str, count: int) -> list[bytes]:
    return [
        dpop.proof(
            key, "GET", AUDIENCE + PATH, now=time.time(), jti=uuid.uuid4().hex, access_token=token
        ).encode()
        for _ in range(count)
    ]


async def _app(_scope: Any, _receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def _scope(token: str, proof: bytes) -> dict[str, Any]:
    made = calling_asgi.scope(token.encode())
    given = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", proof)]
    return {**made, "headers": [*made["headers"][:-1], *given]}


def _finish(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run what never waits to its end, without an event loop."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise PeerError("a warm request has waited")


def _raw(key: signing.PrivateKey, proofs: Sequence[bytes]) -> Any:
    """Return the verification of the signatures alone, by cryptography's own call."""
    verify, public = CRYPTO[key.algorithm].verify, key.private.public_key()
    pairs = [
        (text, base64url.decode(signature))
        for text, _, signature in (proof.rpartition(b".") for proof in proofs)
    ]

    def verify_all(_count: int) -> None:
        for text, signature in pairs:
            verify(text, public, signature)

    return verify_all


def _by_peer(decide: Decide, key: signing.PrivateKey, count: int) -> Any:
    """Return the decisions of a peer, once it refused a proof for another token."""
    token, other = _bound(ISSUER, key), _bound(ISSUER, key)
    requests = [_headers(token, proof) for proof in _proofs(key, token, count)]
    try:
        _finish(decide(_headers(other, _proofs(key, token, 1)[0]), "GET", AUDIENCE + PATH))
    except Exception as error:
        if "ath" not in str(error):
            raise
    else:
        raise PeerError("a proof for another token was accepted")

    def decide_all(_count: int) -> None:
        for headers in requests:
            _finish(decide(headers, "GET", AUDIENCE + PATH))

    return decide_all


def _headers(token: str, proof: bytes) -> dict[str, str]:
    return {"authorization": f"DPoP {token}", "dpop": proof.decode()}
