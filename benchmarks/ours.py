"""Our guard as the parts use it: with every check in place, as a user would configure it."""

from __future__ import annotations

from bearerguard import Guard
from benchmarks.world import World


def silent_guard(world: World) -> Guard:
    """Return a guard that adds nothing to a response."""
    return world.guard(expiry_headers=None, cache_control=None)
