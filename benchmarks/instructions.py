"""A check against regressions that no clock disturbs: the instructions of a warm request.

callgrind counts the instructions that the processor executes, so a busy machine changes nothing:
five runs differed by 0.1 %. What a request adds is divided by the floor's count of the same run.
Most of the difference between builds of an interpreter, or between processors for which libc
chooses another memcpy, then cancels.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import ROOT, environment
from benchmarks.counted import COUNT

COMMITTED = Path(__file__).with_name("instructions.json")
# A tenth of what a request adds is less than one more call and copy per request, and about a
# hundred times the difference between runs. It leaves room for another patch release of the
# interpreter, and for another compiler.
TOLERANCE = 0.10
MISSING = "valgrind is not installed (on Debian: apt-get install valgrind)"

# Each judged case: the app alone that it is compared with, and its description.
ADDED = {
    "asgi plain": ("asgi bare", "warm ASGI request, nothing added to the response"),
    "asgi headers": ("asgi bare", "warm ASGI request, both expiry headers added"),
    "wsgi headers": ("wsgi bare", "warm WSGI request, both expiry headers added"),
}


class CountError(Exception):
    """Nothing could be counted."""


@dataclass(frozen=True)
class Counts:
    """Instructions for one operation of each case."""

    each: dict[str, float]

    def ratios(self) -> dict[str, float]:
        """Return how many floors each judged case adds."""
        floor = self.each["floor"]
        return {
            name: (self.each[name] - self.each[bare]) / floor for name, (bare, _) in ADDED.items()
        }


def interpreter() -> str:
    """Return the name under which this interpreter's figures are committed."""
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def has_valgrind() -> bool:
    """Whether valgrind is on PATH."""
    return shutil.which("valgrind") is not None


def count() -> Counts:
    """Count all cases in one run under callgrind; it takes about 20 seconds."""
    if not has_valgrind():
        raise CountError(MISSING)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.%p"
        command = [
            "valgrind",
            "--tool=callgrind",
            f"--callgrind-out-file={folder}/out.%p",
            f"--log-file={log}",
            sys.executable,
            "-m",
            "benchmarks.counted",
        ]
        # Addresses and hashes decide how dicts and sets collide: both are held still.
        still = shutil.which("setarch")
        done = subprocess.run(
            [*([still, "-R"] if still else []), *command],
            cwd=ROOT,
            env=environment({"PYTHONHASHSEED": "0", "BEARERGUARD_PLAIN": "1"}),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise CountError(f"callgrind ended with {done.returncode}:\n{done.stderr[-2000:]}")
        totals: dict[str, dict[int, int]] = {}
        for line in done.stdout.splitlines():
            pid, times, name = line.split(" ", 2)
            totals.setdefault(name, {})[int(times)] = _collected(Path(folder) / f"log.{pid}")
    return Counts(
        {name: (total[2 * COUNT] - total[COUNT]) / COUNT for name, total in totals.items()}
    )


def committed() -> dict[str, dict[str, float]]:
    """Return the committed ratios by interpreter."""
    found: dict[str, dict[str, float]] = json.loads(COMMITTED.read_text())
    return found


def exceeded(found: dict[str, float], allowed: dict[str, float]) -> list[str]:
    """Return a sentence for each ratio beyond the committed one and its tolerance."""
    return [
        f"{description} adds {found[name]:.2f} floors of instructions;"
        f" {allowed[name]:.2f} are committed, with a tolerance of {TOLERANCE:.0%}"
        for name, (_, description) in ADDED.items()
        if found[name] > allowed[name] * (1 + TOLERANCE)
    ]


def main(*, update: bool) -> int:
    """Count, print, and compare with the committed ratios or replace them."""
    try:
        counts = count()
    except CountError as error:
        print(error)
        return 1
    for name, instructions in counts.each.items():
        print(f"{name:14} {instructions:10,.1f} instructions")
    kept, found = committed(), counts.ratios()
    allowed = kept.get(interpreter())
    for name, (_, description) in ADDED.items():
        before = "nothing" if allowed is None else f"{allowed[name]:.2f}"
        print(f"{description}: adds {found[name]:.2f} floors; committed: {before}")
    if update:
        kept[interpreter()] = {name: round(value, 2) for name, value in found.items()}
        COMMITTED.write_text(json.dumps(dict(sorted(kept.items())), indent=2) + "\n")
        print(f"Written: {COMMITTED.relative_to(ROOT)}, Python {interpreter()}")
        return 0
    if allowed is None:
        print(f"No figures are committed for Python {interpreter()}: run this with --update")
        return 1
    faults = exceeded(found, allowed)
    for fault in faults:
        print(f"MORE: {fault}")
    return 1 if faults else 0


def _collected(log: Path) -> int:
    found = re.search(r"Collected : (\d+)", log.read_text())
    if found is None:
        raise CountError(f"callgrind reports nothing for a child:\n{log.read_text()[-2000:]}")
    return int(found[1])
