"""The URL of a store in Redis: checked before anything connects.

Uses the parser of `redis`. Errors quote nothing of the URL: it may hold a password.
"""

from __future__ import annotations

from typing import Any

import redis

from bearerguard.errors import ConfigurationError

# Options that our stores set. In a URL they would override it: replies must be octets, in time.
_OURS = (
    *("protocol", "legacy_responses", "decode_responses", "encoding", "encoding_errors"),
    *("timeout", "socket_timeout", "socket_connect_timeout"),
    *("retry", "retry_on_error", "retry_on_timeout"),
)


def check_url(store: str, url: object) -> None:
    """Raise `ConfigurationError` for a URL of a `store` from which no connection can be made."""
    options: Any = None
    if isinstance(url, str):
        options = _options(store, url)
    if options is None:
        raise ConfigurationError(f"{store}(url): pass a URL such as redis://127.0.0.1:6379/0")
    for name in _OURS:
        if name in options:
            raise ConfigurationError(
                f"{store}(url): remove {name}= from it: the format of replies is fixed, and the"
                " time to wait is the option timeout="
            )


def _options(store: str, url: str) -> Any:  # the driver's types leave much of it untyped
    """Return the options that the driver reads from a URL, None for a malformed one."""
    try:
        pool = redis.ConnectionPool.from_url(url)
    except ValueError:
        return None
    try:
        pool.make_connection()  # it connects on first use
    except Exception as error:  # of any type: each option has its own way to be wrong
        raise ConfigurationError(
            f"{store}(url): an option after its ? is unknown to the driver, or has a malformed"
            f" value: {type(error).__name__}"
        ) from None
    return pool.connection_kwargs
