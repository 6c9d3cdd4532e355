"""The guard of an app, for a command: imported from the working directory, as servers do."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout

from bearerguard.middleware.app_guard import AppGuard, guard_at


def app_guard(path: str) -> AppGuard:
    """Import what a path names, and return its guard; raises as `guard_at` does.

    The working directory is importable. What the import prints goes to standard error.
    """
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as servers do
    with redirect_stdout(sys.stderr):
        return guard_at(path)
