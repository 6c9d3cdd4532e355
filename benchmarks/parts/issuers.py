"""A warm and a cold request as the number of trusted issuers grows: `iss` picks one."""

from __future__ import annotations

from bearerguard import Guard, Issuer
from bearerguard.asgi import BearerMiddleware
from benchmarks.calling_asgi import Caller
from benchmarks.floor import floor
from benchmarks.peers.asgi import bare
from benchmarks.result import Result
from benchmarks.rounds import Case, Effort, figure, measure, ratio
from benchmarks.token_issuer import AUDIENCE, TokenIssuer
from benchmarks.verifying import each

_COLD_TOKENS = 40


def run(effort: Effort) -> Result:
    """Measure guards of 1, 100 and 10 000 issuers in the same rounds."""
    sizes = (1, 100) if effort.quick else (1, 100, 10_000)
    issuer = TokenIssuer("ES256")
    token, tokens = issuer.token(), issuer.tokens(_COLD_TOKENS)
    cases: dict[str, Case] = {"F": floor(token)}
    with Caller() as caller:
        for size in sizes:
            guard = _guard(issuer, size)
            app = BearerMiddleware(bare, guard=guard)
            caller.check(f"{size} issuers", app, token)
            cases[f"warm {size}"] = caller.case(app, token)
            cold = _guard(issuer, size)
            cases[f"cold {size}"] = Case(
                each(cold.verify, tokens).run,
                prepare=lambda _count, cold=cold: cold.close(),  # type: ignore[misc]
                count=len(tokens),
            )
        samples = measure(cases, effort)
    result = Result(
        "scaling: trusted issuers",
        ("issuers", "warm request, µs", "× 1 issuer", "cold verify (ES256), µs", "× 1 issuer"),
    )
    for size in sizes:
        warm, cold_one = f"warm {size}", f"cold {size}"
        flat, flat_cold = ratio(samples, warm, "warm 1"), ratio(samples, cold_one, "cold 1")
        result.row(
            f"{size:,}",
            figure(samples[warm]).scaled(1e6).text(),
            flat.text(),
            figure(samples[cold_one]).scaled(1e6).text(1),
            flat_cold.text(),
        )
        result.keep("warm × 1 issuer", str(size), value=flat)
        result.keep("cold × 1 issuer", str(size), value=flat_cold)
    if not effort.quick:
        result.reached["Scale issuers"] = ratio(samples, f"warm {sizes[-1]}", "warm 1").median
    result.notes.append("The time of a warm request includes the bare app.")
    return result


def _guard(issuer: TokenIssuer, size: int) -> Guard:
    """Return a guard with that many issuers, of which `issuer` is the last."""
    others = [
        Issuer(f"https://tenant-{number}.example.com", audience=AUDIENCE, keys=issuer.jwks())
        for number in range(size - 1)
    ]
    return Guard(*others, issuer.config())
