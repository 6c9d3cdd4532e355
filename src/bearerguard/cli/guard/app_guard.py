"""Finds the guard of an app for a command, which imports the app as servers do."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout

from bearerguard.middleware.app_guard import AppGuard, guard_at


def app_guard(path: str) -> AppGuard:
    """Import `module:attribute`, and return its guard; raises `ConfigurationError` as `guard_at`.

    Modules of the working directory can be imported. Their standard output becomes standard error.
    """
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as servers do
    with redirect_stdout(sys.stderr):
        return guard_at(path)
