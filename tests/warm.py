"""The look-up of a warm token, as both adapters do it."""

from __future__ import annotations

from bearerguard import Guard, Principal
from bearerguard.guard.token_cache import SUFFIX, TokenCache


def recalled(by: Guard | TokenCache, authorization: bytes | str) -> Principal | None:
    """Return the principal of these credentials, or None where the guard must decide."""
    known = by.recent.get(authorization[SUFFIX])
    if (
        known is None
        or known.authorization != authorization
        or not known.since <= by.clock() < known.until
    ):
        known = by.cached(authorization)
    return None if known is None else known.principal
