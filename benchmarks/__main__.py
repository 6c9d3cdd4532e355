"""The command line: `scripts/benchmark [part ...] [--quick] [--output DIR] [--publish]`.

`--only SERVER,... --operations OPERATION,...` choose what the parts that are not run by default do.

Runs parts, prints a table of each and the targets at the end, writes the JSON and the chart.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import platform
import sys
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks import chart, instructions, report
from benchmarks.children import ROOT
from benchmarks.result import Result
from benchmarks.rounds import QUICK, Effort
from benchmarks.targets import ALL_TARGETS, TARGETS

# In the order in which they are run when none is named.
PARTS = (
    "asgi",
    "wsgi",
    "client",
    "verify",
    "dpop",
    "jwks",
    "server",
    "memory",
    "imports",
    "issuers",
    "cached",
    "keys",
    "eviction",
    "threads",
    "workers",
)
# Run only when they are named: each takes as long as all the others.
SERVER_PARTS = ("server_tokens", "server_grants")
_ALL = (*PARTS, *SERVER_PARTS)
_PUBLISHED = ROOT / "docs" / "benchmark.svg"


def main() -> int:
    """Run the parts named on the command line, or all."""
    options = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    options.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(_ALL)}")
    options.add_argument("--quick", action="store_true", help="one tiny round: shows that it runs")
    options.add_argument("--output", type=Path, default=ROOT / ".benchmark", metavar="DIR")
    options.add_argument("--publish", action="store_true", help=f"write {_PUBLISHED.name} to docs")
    options.add_argument("--instructions", action="store_true", help="count instructions instead")
    options.add_argument(
        "--update", action="store_true", help="with --instructions: keep the count"
    )
    for name in ("--only", "--operations"):
        options.add_argument(
            name, type=_names, default=(), metavar="NAME,...", help=f"for {SERVER_PARTS[0]}"
        )
    chosen = options.parse_args()
    unknown = [name for name in chosen.parts if name not in _ALL]
    if unknown:
        options.error(f"no such part: {', '.join(unknown)}; choose from {', '.join(_ALL)}")
    if chosen.publish and (chosen.quick or chosen.parts):
        options.error("--publish needs a whole run: no part may be named, and not --quick")
    if chosen.instructions:
        return instructions.main(update=chosen.update)
    _be_quiet()
    busy = os.getloadavg()[0]
    effort = replace(
        QUICK if chosen.quick else Effort(), only=chosen.only, operations=chosen.operations
    )
    wanted = chosen.parts or PARTS
    results = {name: _run(name, effort) for name in _ALL if name in wanted}
    reached = {name: value for each in results.values() for name, value in each.reached.items()}
    if chosen.quick:
        print("A quick run shows that everything runs; its figures mean nothing.")
    else:
        expected = () if chosen.parts else TARGETS
        report.targets(
            [each for each in ALL_TARGETS if each in expected or each.name in reached], reached
        )
    print(
        f"Load average before: {busy:.1f} on {os.cpu_count()} cores."
        " On a busy machine, the figures of server, workers and threads mean little."
    )
    _write(chosen.output, results, reached, publish=chosen.publish)
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _run(name: str, effort: Effort) -> Result:
    print(f"... {name}", file=sys.stderr, flush=True)
    part = importlib.import_module(f"benchmarks.parts.{name}")
    result: Result = part.run(effort)
    report.part(result)
    return result


def _be_quiet() -> None:
    """Silence what guards and peers log about the bad tokens that check them."""
    logging.getLogger().addHandler(logging.NullHandler())
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    os.environ["PYTHONWARNINGS"] = "ignore"


def _write(
    folder: Path, results: dict[str, Result], reached: dict[str, float], *, publish: bool
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load average at the end": os.getloadavg()[0],
        "versions": {name: version(name) for name in ("bearerguard", "cryptography", "PyJWT")},
        "parts": {name: result.data for name, result in results.items()},
        "notes": {name: result.notes for name, result in results.items()},
        "targets": {
            target.name: {
                "reached": reached[target.name],
                "bound": target.bound,
                "met": target.is_met(reached[target.name]),
            }
            for target in ALL_TARGETS
            if target.name in reached
        },
    }
    (folder / "results.json").write_text(json.dumps(document, indent=2) + "\n")
    drawn = chart.draw(document)
    (folder / "benchmark.svg").write_text(drawn)
    print(f"Written: {folder}/results.json and benchmark.svg")
    if publish:
        _PUBLISHED.parent.mkdir(exist_ok=True)
        _PUBLISHED.write_text(drawn)
        print(f"Written: {_PUBLISHED}")


if __name__ == "__main__":
    sys.exit(main())
