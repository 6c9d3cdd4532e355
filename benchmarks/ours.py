"""Our guard as the parts use it: with every check in place, as a user would configure it."""

from __future__ import annotations

import inspect
from typing import Any

from bearerguard import Guard
from benchmarks.world import World


def silent_guard(world: World) -> Guard:
    """Return a guard that adds nothing to a response."""
    options: dict[str, Any] = {"expiry_headers": None}
    if "cache_control" in inspect.signature(Guard).parameters:
        options["cache_control"] = None
    return world.guard(**options)
