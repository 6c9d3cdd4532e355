"""Fresh interpreters, for figures that depend on a process's build, imports or memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# With these, an interpreter would be traced while it is measured.
_TRACERS = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "PYTHONDEVMODE")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a fresh interpreter: this one's, without tracers."""
    inherited = {name: value for name, value in os.environ.items() if name not in _TRACERS}
    return {**inherited, **(extra or {})}


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force if it takes more than 10 seconds."""
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask(module: str, *arguments: str, extra: Mapping[str, str] | None = None) -> Any:
    """Run a module of this package in a fresh interpreter; return the JSON it prints."""
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env=environment(extra),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)
