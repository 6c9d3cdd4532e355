"""What `import bearerguard` costs, beside its crypto dependency alone.

Fresh interpreters take turns; each reports how long its own import took, so that starting an
interpreter is not counted; in processor time, as the files are in memory. All modules are read as
bytecode, as in an installation, wherever the environment of the benchmark has it written.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from benchmarks.children import ROOT, environment
from benchmarks.result import Result
from benchmarks.rounds import Effort, Samples, figure, ratio

CRYPTO = "PyJWT's algorithms and cryptography alone"
USED = "from bearerguard import Guard, Issuer"
USED_FAST = f"{USED}, with [speed]"
_STATEMENTS = {
    # It imports those parts of cryptography that any verification of a JWT needs.
    CRYPTO: "import jwt.algorithms",
    "import bearerguard": "import bearerguard",
    # The package imports its modules when its names are used: this is an application's cost.
    USED: USED,
    USED_FAST: USED,
    "import bearerguard.asgi": "import bearerguard.asgi",
    "import bearerguard.wsgi": "import bearerguard.wsgi",
    "import bearerguard.starlette": "import bearerguard.starlette",
    "import bearerguard.flask": "import bearerguard.flask",
}
_TIMED = "from time import process_time as c; b=c()\n{}\nprint(c()-b)"


def run(effort: Effort) -> Result:
    """Import each in turn, each time in a fresh interpreter."""
    rounds = 2 if effort.quick else 15
    samples: Samples = {name: [] for name in _STATEMENTS}
    with tempfile.TemporaryDirectory() as bytecode:
        for number in range(rounds + 1):
            for name, statement in _STATEMENTS.items():
                seconds = _imported(statement, bytecode, plain=name != USED_FAST)
                if number > 0:  # the first round compiles and fills the disk cache
                    samples[name].append(seconds)
    result = Result("import: fresh interpreters", ("", "ms", "× crypto alone"))
    for name in _STATEMENTS:
        milliseconds, multiple = figure(samples[name]).scaled(1e3), ratio(samples, name, CRYPTO)
        result.row(name, milliseconds.text(1), multiple.text())
        result.keep("ms", name, value=milliseconds)
        result.keep("× crypto", name, value=multiple)
    result.reached["T8"] = ratio(samples, "import bearerguard", CRYPTO).median
    result.reached["T8 used"] = ratio(samples, USED, CRYPTO).median
    return result


def _imported(statement: str, bytecode: str, *, plain: bool) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _TIMED.format(statement)],
        cwd=ROOT,
        env=environment(
            {
                "PYTHONDONTWRITEBYTECODE": "",
                "PYTHONPYCACHEPREFIX": bytecode,
                "BEARERGUARD_PLAIN": "1" if plain else "",
            }
        ),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(done.stdout)
