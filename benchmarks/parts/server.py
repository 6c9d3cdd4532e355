"""Requests per second of real servers under wrk: bare, PyJWT every time, ours warm and cold.

A server has work with each header that it sends: an app that itself sends as many as our middleware
adds shows how much of the difference that is.

One worker each. All variants of a server run at once and are loaded one after the other, in
many short windows; each window is compared with the bare app's of the same round.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.peers import left_out
from benchmarks.result import Result
from benchmarks.rounds import Effort, Figure, Samples, figure
from benchmarks.serving import (
    MISSING,
    Server,
    free_port,
    granian,
    has_wrk,
    load,
    started,
    uvicorn,
)
from benchmarks.token_issuer import TokenIssuer

_SERVERS = {"uvicorn": uvicorn, "granian": granian}
_VARIANTS = {
    "bare": "the app alone",
    "bare_headers": "the app alone, sending the same three headers itself",
    "pyjwt": "Starlette + PyJWT every time",
    "warm": "bearerguard, warm",
    "plain": "bearerguard, warm, nothing added",
    "cold": "bearerguard, cold (every request another token)",
}
# As T1: with nothing added to the response, and with what is added by default.
_TARGETS = {"plain": "plain", "warm": "headers"}
_ROUNDS = 12
_COLD_TOKENS = 2_000


def run(effort: Effort) -> Result:
    """Load each server's variants in interleaved windows."""
    result = Result(
        "server: one worker under wrk", ("", "requests/s", "× bare", "× PyJWT every time")
    )
    if not has_wrk():
        result.notes.append(MISSING)
        return result
    servers = [name for name in _SERVERS if importlib.util.find_spec(name) is not None]
    result.notes += left_out([name for name in _SERVERS if name not in servers])
    issuer = TokenIssuer()
    with tempfile.TemporaryDirectory() as folder:
        jwks, tokens = Path(folder) / "jwks.json", Path(folder) / "tokens"
        jwks.write_text(json.dumps(issuer.jwks()))
        tokens.write_text("\n".join(issuer.tokens(150 if effort.quick else _COLD_TOKENS)))
        for name in servers:
            with ExitStack() as stack:
                variants = {}
                for variant in _VARIANTS:
                    port = free_port()
                    command = _SERVERS[name](variant, port, 1)
                    variants[variant] = stack.enter_context(started(command, port, jwks))
                samples = _windows(variants, issuer.token(), tokens, effort)
            _add(result, name, samples)
    result.notes.append("wrk runs on the same machine and takes its share of it.")
    return result


def _windows(variants: dict[str, Server], token: str, tokens: Path, effort: Effort) -> Samples:
    samples: Samples = {name: [] for name in variants}
    order = list(variants)
    for number in range(1 if effort.quick else _ROUNDS):
        start = number % len(order)
        for name in order[start:] + order[:start]:
            cold = tokens if name == "cold" else None
            samples[name].append(load(variants[name], 1, token=token, cold=cold))
    return samples


def _add(result: Result, server: str, samples: Samples) -> None:
    for name, description in _VARIANTS.items():
        of_bare, of_pyjwt = _over(samples, name, "bare"), _over(samples, name, "pyjwt")
        rate = figure(samples[name])
        result.row(f"{server}: {description}", rate.text(0), of_bare.text(), of_pyjwt.text())
        result.keep("requests/s", server, name, value=rate)
        result.keep("× bare", server, name, value=of_bare)
        result.keep("× PyJWT", server, name, value=of_pyjwt)
        if server == "uvicorn" and name in _TARGETS:
            result.reached[f"T5 {_TARGETS[name]} bare"] = of_bare.median
            result.reached[f"T5 {_TARGETS[name]} PyJWT"] = of_pyjwt.median


def _over(samples: Samples, name: str, other: str) -> Figure:
    return figure([a / b for a, b in zip(samples[name], samples[other], strict=True)])
