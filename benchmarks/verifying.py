"""One process of the part `verify`: prints the samples of its build as JSON.

usage: python -m benchmarks.verifying ROUNDS TOKENS [--peers]

The raw verification, the minimum, our guard and each peer verify the same tokens in the same
rounds. Before each batch our guard forgets its tokens, so that each is verified anew; it keeps its
keys.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Sequence
from functools import partial
from hashlib import sha256
from typing import Any

from bearerguard.protocol.jose import base64url, speed
from bearerguard.protocol.jose.jwk import ALGORITHMS as CRYPTO
from bearerguard.protocol.jose.jwk import parse_jwk
from bearerguard.protocol.jose.verifier import verifier
from benchmarks.peers import PeerError, installed
from benchmarks.peers.jose import MAKERS, check
from benchmarks.rounds import Case, Effort, measure
from benchmarks.token_issuer import ALGORITHMS, SECRET, TokenIssuer

_FAST = ("msgspec", "pybase64")


def key_of(issuer: TokenIssuer) -> Any:
    """Return the key that verifies the signatures of an issuer."""
    return SECRET if issuer.is_symmetric else parse_jwk(issuer.key.jwk()).material


def raw(issuer: TokenIssuer, tokens: Sequence[str]) -> Case:
    """Return the signature verifications alone."""
    key = key_of(issuer)
    pairs: list[tuple[bytes, bytes]] = []
    for token in tokens:
        signing_input, _, signature = token.encode().rpartition(b".")
        pairs.append((signing_input, base64url.decode(signature)))
    verify = CRYPTO[issuer.algorithm].verify
    if not all(verify(text, key, signature) for text, signature in pairs):
        raise PeerError("the raw verification refuses its own signatures")

    def run(_count: int) -> None:
        for text, signature in pairs:
            verify(text, key, signature)

    return Case(run, count=len(tokens))


def least(issuer: TokenIssuer, tokens: Sequence[str]) -> Case:
    """Return the minimum for anything that caches tokens: digest, base64, JSON, signature.

    Only the signature is checked. It is to a new token what F is to a known one.
    """
    is_genuine = verifier(issuer.algorithm, key_of(issuer))
    parse = json.loads if speed.msgspec is None else speed.msgspec.json.decode
    known: dict[bytes, Any] = {}

    def verify(token: str) -> None:
        octets = token.encode()
        key = sha256(octets).digest()
        header, payload, signature = octets.split(b".")
        claims = parse(base64url.decode(payload))
        signing_input = octets[: len(header) + 1 + len(payload)]
        if not is_genuine(signing_input, base64url.decode(signature)):
            raise PeerError("the minimal verification refuses a genuine token")
        known[key] = claims

    return Case(each(verify, tokens).run, prepare=lambda _count: known.clear(), count=len(tokens))


def each(verify: Callable[[str], object], tokens: Sequence[str]) -> Case:
    """Return the whole verification of each token."""

    def run(_count: int) -> None:
        for token in tokens:
            verify(token)

    return Case(run, count=len(tokens))


def ours(issuer: TokenIssuer, tokens: Sequence[str]) -> Case:
    """Return the cold verification by a guard with all its checks."""
    guard = issuer.guard()
    check("bearerguard", guard.verify, tokens[0])
    return Case(
        each(guard.verify, tokens).run, prepare=lambda _count: guard.close(), count=len(tokens)
    )


def main(rounds: int, count: int, *, with_peers: bool) -> dict[str, Any]:
    """Measure; return samples by algorithm, and which of the fast libraries are in use."""
    logging.disable(logging.CRITICAL)  # each guard is shown a bad token on purpose
    samples: dict[str, Any] = {}
    missing: list[str] = []
    fast: list[str] = []
    for algorithm in ALGORITHMS:
        issuer = TokenIssuer(algorithm)
        tokens = issuer.tokens(count)
        cases = {
            "raw": raw(issuer, tokens),
            "least": least(issuer, tokens),
            "bearerguard": ours(issuer, tokens),
        }
        # Before a peer is imported, which may use them too.
        fast = fast or [name for name in _FAST if name in sys.modules]
        if with_peers:
            made, missing = installed({name: partial(m, issuer) for name, m in MAKERS.items()})
            for name, verify in made.items():
                if verify is not None:
                    check(name, verify, tokens[0])
                    cases[name] = each(verify, tokens)
        samples[algorithm] = measure(cases, Effort(rounds=rounds))
    return {"samples": samples, "missing": missing, "fast": fast}


if __name__ == "__main__":
    outcome = main(int(sys.argv[1]), int(sys.argv[2]), with_peers="--peers" in sys.argv)
    json.dump(outcome, sys.stdout)
