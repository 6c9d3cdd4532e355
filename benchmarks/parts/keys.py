"""A cold verification as the issuer's JWKS grows: `kid` picks one key."""

from __future__ import annotations

from bearerguard import Guard, Issuer
from bearerguard.testing import SigningKey
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, figure, measure, ratio
from benchmarks.token_issuer import AUDIENCE, TokenIssuer
from benchmarks.verifying import each

_TOKENS = 40


def run(effort: Effort) -> Result:
    """Measure sets of 1, 10 and 100 keys in the same rounds, the signing key the last."""
    sizes = (1, 10) if effort.quick else (1, 10, 100)
    issuer = TokenIssuer("ES256")
    tokens = issuer.tokens(_TOKENS)
    others = [
        SigningKey.generate("ES256", f"another-{number}").jwk() for number in range(sizes[-1] - 1)
    ]
    cases: dict[str, Case] = {}
    for size in sizes:
        keys = {"keys": [*others[: size - 1], issuer.key.jwk()]}
        guard = Guard(Issuer(issuer.url, audience=AUDIENCE, keys=keys))
        cases[str(size)] = Case(
            each(guard.verify, tokens).run,
            prepare=lambda _count, guard=guard: guard.close(),  # type: ignore[misc]
            count=len(tokens),
        )
    samples = measure(cases, effort)
    result = Result("scaling: keys in a JWKS", ("keys", "cold verify (ES256), µs", "× 1 key"))
    for name in cases:
        flat = ratio(samples, name, "1")
        result.row(name, figure(samples[name]).scaled(1e6).text(1), flat.text())
        result.keep("cold × 1 key", name, value=flat)
    return result
