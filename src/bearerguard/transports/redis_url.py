"""The address of a shared store, as an operator gives it: checked before anything connects.

Needs `redis`, whose driver reads it. Quotes nothing of it: it may hold a password.
"""

from __future__ import annotations

from typing import Any

import redis

from bearerguard.errors import ConfigurationError

# An address goes before all else that the driver is told. Answers must be octets, and in time.
_OURS = (
    *("protocol", "legacy_responses", "decode_responses", "encoding", "encoding_errors"),
    *("timeout", "socket_timeout", "socket_connect_timeout"),
    *("retry", "retry_on_error", "retry_on_timeout"),
)


def check_url(url: object) -> None:
    """Raise `ConfigurationError` for an address that no connection can be made from."""
    options: Any = None
    if isinstance(url, str):
        options = _options(url)
    if options is None:
        raise ConfigurationError("RedisStore(url): pass a URL such as redis://127.0.0.1:6379/0")
    for name in _OURS:
        if name in options:
            raise ConfigurationError(
                f"RedisStore(url): remove {name}= from it: how the store answers is not to be"
                " chosen, and for how long to wait says timeout="
            )


def _options(url: str) -> Any:  # the driver's types leave much of it untyped
    """Return what the driver makes of it, None where that is nothing."""
    try:
        pool = redis.ConnectionPool.from_url(url)
    except ValueError:
        return None
    try:
        pool.make_connection()  # which connects when it is used, not before
    except Exception as error:  # of any type: each option has its own way to be wrong
        raise ConfigurationError(
            "RedisStore(url): an option after its ? is none of the driver's, or has a value that"
            f" is none: {type(error).__name__}"
        ) from None
    return pool.connection_kwargs
