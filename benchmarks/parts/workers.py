"""Requests per second as worker processes are added: granian, our guard warm, under wrk.

Each worker has a guard of its own and verifies a token once; nothing is shared between them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.result import Result
from benchmarks.rounds import Effort, Samples, figure
from benchmarks.serving import MISSING, free_port, granian, has_wrk, load, started
from benchmarks.token_issuer import TokenIssuer

_WORKERS = (1, 2)
_VARIANTS = {"bare": "the app alone", "warm": "bearerguard, warm"}
_ROUNDS = 10


def run(effort: Effort) -> Result:
    """Load one and two workers in interleaved windows."""
    result = Result("workers: granian under wrk", ("", "requests/s", "× 1 worker"))
    if not has_wrk():
        result.notes.append(MISSING)
        return result
    if importlib.util.find_spec("granian") is None:
        result.notes.append("granian is not installed, so this part is left out.")
        return result
    issuer = TokenIssuer()
    token = issuer.token()
    samples: Samples = {}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        jwks = Path(folder) / "jwks.json"
        jwks.write_text(json.dumps(issuer.jwks()))
        servers = {}
        for variant in _VARIANTS:
            for workers in _WORKERS:
                port = free_port()
                command = granian(variant, port, workers)
                servers[f"{variant} {workers}"] = stack.enter_context(started(command, port, jwks))
        for number in range(1 if effort.quick else _ROUNDS):
            order = list(servers)
            start = number % len(order)
            for name in order[start:] + order[:start]:
                samples.setdefault(name, []).append(load(servers[name], 1, token=token))
    for variant, description in _VARIANTS.items():
        for workers in _WORKERS:
            rates, single = samples[f"{variant} {workers}"], samples[f"{variant} 1"]
            scaled = figure([a / b for a, b in zip(rates, single, strict=True)])
            label = f"{description}, {workers} worker{'s' if workers > 1 else ''}"
            result.row(label, figure(rates).text(0), scaled.text())
            result.keep("× 1 worker", variant, str(workers), value=scaled)
    result.notes.append(
        f"{os.cpu_count()} cores, one of which wrk needs: on two, a second worker cannot double."
    )
    return result
