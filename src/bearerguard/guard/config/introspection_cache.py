"""Where workers share what issuers answered about opaque tokens, as configuration.

The store holds digests and sealed values alone; one that is down only costs questions.
"""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.errors import ConfigurationError
from bearerguard.guard.driving import SharedStore
from bearerguard.guard.introspection.shared_cache import PURPOSE, SharedCache
from bearerguard.runtime.sealing import Sealer, Secret


class IntrospectionCache:
    """Shares answers of introspection between the workers of one API.

    Args:
        store: a store that all workers reach, such as `bearerguard.redis.RedisStore`.
        secrets: of at least 32 bytes each, oldest to newest, the same for all workers: what
            is kept is sealed with the newest.
        prefix: what all keys begin with; that of the store, if it has one, by default.

    Raises:
        ConfigurationError: there is no secret, or one is too short; or no store.
    """

    def __init__(self, store: SharedStore, *secrets: Secret, prefix: str | None = None) -> None:
        if not callable(getattr(store, "async_handlers", None)):
            raise ConfigurationError(
                'IntrospectionCache(store): pass a RedisStore("redis://...", ...)'
            )
        chosen = getattr(store, "prefix", "bearerguard") if prefix is None else prefix
        if not isinstance(chosen, str) or not chosen or not chosen.isprintable():
            raise ConfigurationError("prefix=: pass a short name, such as that of your API")
        self.store = store
        self._sealer = Sealer(*secrets, purpose=PURPOSE)
        self._prefix = chosen

    def answers(self, emit: Callable[[str, str | None, str], None]) -> SharedCache:
        """Return the answers, as one guard asks for them, which `emit` tells of failures."""
        return SharedCache(
            self._sealer,
            self._prefix,
            report=lambda issuer, cause: emit("introspection_cache_failed", issuer, cause),
        )
