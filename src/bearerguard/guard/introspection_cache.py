"""Where workers share what issuers answered about opaque tokens, as configuration.

The store holds digests and sealed values alone; one that is down only costs questions.
"""

from __future__ import annotations

from bearerguard.guard.driving import SharedStore
from bearerguard.guard.shared_cache import PURPOSE, SharedCache
from bearerguard.sealing import Sealer, Secret


class IntrospectionCache:
    """Shares answers of introspection between the workers of one API.

    Args:
        store: a store that all workers reach, such as `bearerguard.redis.RedisStore`.
        secrets: of at least 32 bytes each, oldest to newest, the same for all workers: what
            is kept is sealed with the newest.
        prefix: what all keys begin with.

    Raises:
        ConfigurationError: there is no secret, or one is too short.
    """

    def __init__(self, store: SharedStore, *secrets: Secret, prefix: str = "bearerguard") -> None:
        self.store = store
        self.answers = SharedCache(Sealer(*secrets, purpose=PURPOSE), prefix)
