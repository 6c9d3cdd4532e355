"""A warm request's way to its principal, as both faces go it."""

from __future__ import annotations

from bearerguard import Guard, Principal
from bearerguard.guard.tokens.token_cache import SUFFIX, TokenCache


def recalled(by: Guard | TokenCache, authorization: bytes | str) -> Principal | None:
    """Return whose credentials these are if nothing need be decided, else None."""
    known = by.recent.get(authorization[SUFFIX])
    if (
        known is None
        or known.authorization != authorization
        or not known.since <= by.clock() < known.until
    ):
        known = by.cached(authorization)
    return None if known is None else known.principal
