"""How much a fault test does: about a tenth by itself, all of it under `scripts/stress`."""

from __future__ import annotations

import os

FULL = bool(os.environ.get("BEARERGUARD_STRESS"))


def size(full: int, ordinary: int) -> int:
    return full if FULL else ordinary
