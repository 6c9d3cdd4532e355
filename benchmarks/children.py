"""Fresh interpreters: for what depends on how a process began, its build or its memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Without these, an interpreter would be watched while it is measured.
_WATCHERS = ("COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG", "PYTHONDEVMODE")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a fresh interpreter: ours, and no one watching."""
    inherited = {name: value for name, value in os.environ.items() if name not in _WATCHERS}
    return {**inherited, **(extra or {})}


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
