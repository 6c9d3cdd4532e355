"""The directory of this user's tokens and locks."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "BEARERGUARD_CLIENT_HOME"


def state_directory() -> Path:
    """Return `$BEARERGUARD_CLIENT_HOME`, or `bearerguard` in the user's state directory (XDG)."""
    chosen = os.environ.get(VARIABLE)
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_STATE_HOME", "")
    # XDG: a relative path is to be ignored.
    state = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return state / "bearerguard"
