"""The option `introspection_cache=`: where workers share introspection responses.

The store holds digests and sealed values alone; an outage of it only costs calls to the issuer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from bearerguard.errors import ConfigurationError
from bearerguard.guard.introspection.shared_cache import PURPOSE, SharedCache
from bearerguard.guard.stores import SharedStore
from bearerguard.runtime.sealing import Sealer, Secret, secret_list

_STORE_METHODS = ("handlers", "async_handlers")


class IntrospectionCache:
    """Shares introspection responses (RFC 7662) between the workers of one API.

    Args:
        store: a store that all workers reach, such as `bearerguard.redis.RedisStore` or any
            `SharedStore`.
        secret: at least 32 bytes, the same for all workers, under which values are sealed; or a
            list, newest first, to rotate it: the first one seals, any of them opens.
        prefix: the prefix of all keys; by default the store's, if it has one.

    Raises:
        ConfigurationError: an option is missing or malformed.
    """

    def __init__(
        self,
        store: SharedStore,
        *,
        secret: Secret | Sequence[Secret],
        prefix: str | None = None,
    ) -> None:
        if not all(callable(getattr(store, name, None)) for name in _STORE_METHODS):
            raise ConfigurationError(
                'IntrospectionCache(store): pass a RedisStore("redis://...", ...), or another'
                " object with the methods of bearerguard.stores.SharedStore"
            )
        chosen = getattr(store, "prefix", "bearerguard") if prefix is None else prefix
        if not isinstance(chosen, str) or not chosen or not chosen.isprintable():
            raise ConfigurationError("prefix=: pass a short name, such as that of your API")
        self.store = store
        self._sealer = Sealer(*secret_list(secret), purpose=PURPOSE)
        self._prefix = chosen

    def responses(
        self, emit: Callable[[str, str | None, str], None], monotonic: Callable[[], float]
    ) -> SharedCache:
        """Return the shared responses for one guard, whose `emit` reports failures."""
        return SharedCache(self._sealer, self._prefix, emit=emit, monotonic=monotonic)


def check_introspection_cache(cache: object) -> None:
    """Raise `ConfigurationError` unless this is an `IntrospectionCache` or None."""
    if cache is not None and not isinstance(cache, IntrospectionCache):
        raise ConfigurationError(
            "introspection_cache=: pass IntrospectionCache(RedisStore(...), secret=...)"
        )
