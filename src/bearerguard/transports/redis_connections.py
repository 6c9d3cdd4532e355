"""Connections to Redis, and what a failure means for the requests that come after it.

Every command has a timeout. After a failure Redis is not used for a moment, so that requests do not
queue for it. A forked process opens its own connections.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError
from redis.retry import Retry

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.messages import StoreFailed
from bearerguard.transports.redis_url import check_url

A = TypeVar("A")
R = TypeVar("R")

# For how many seconds requests do not use a store that failed.
_PAUSE = 1.0
# A request must not wait longer for a store.
_MAX_TIMEOUT = 60


class RedisConnections:
    """The connections of one store.

    Args:
        store: the class of the store, for messages.
        url: the URL of Redis.
        prefix: what all keys of the store begin with.
        timeout: the seconds within which Redis must reply.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(self, store: str, url: str, *, prefix: str, timeout: float) -> None:
        check_url(store, url)
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable() or "}" in prefix:
            raise ConfigurationError("prefix=: pass a short name, such as that of your API")
        if not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_TIMEOUT:
            raise ConfigurationError(f"timeout=: pass up to {_MAX_TIMEOUT} seconds, more than 0")
        self._url = url
        self._timeout = timeout
        self._clients: dict[int, Any] = {}  # by process
        self._paused_until = 0.0
        self._cause = ""

    def client(self) -> Any:  # its own types leave much of it untyped
        """Return this process's client, which is safe for threads."""
        client = self._clients.get(os.getpid())
        if client is None:
            made = redis.Redis.from_url(
                self._url,
                protocol=2,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                # A restarted store has closed idle connections. Commands are idempotent, but for
                # charges of limits: one that is charged twice is the safe side.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                retry_on_error=[],
            )
            # Unparsed, as each worker that starts reads the whole log.
            made.set_response_callback("XRANGE", lambda rows, **_: rows)
            # One for all threads, without a lock: a forked child would inherit it locked.
            client = self._clients.setdefault(os.getpid(), made)
            for parent in self._clients.keys() - {os.getpid()}:
                inherited = self._clients.pop(parent, None)
                if inherited is not None:
                    # Else it would wait for the lock of its pool, which a thread may have held
                    # that this process does not have.
                    inherited.auto_close_connection_pool = False
        return client

    def close(self) -> None:
        """Close the connections that are idle."""
        client = self._clients.get(os.getpid())
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)

    def reporting(self, handler: Callable[[A], R]) -> Callable[[A], R]:
        """Return `handler`, whose errors are raised as `StoreFailed`."""

        def reporting(request: A) -> R:
            try:
                reply = handler(request)
            except Exception as error:  # of any type: a malformed reply, a malformed host name
                self._cause = _cause(error, self._timeout)
                self._paused_until = time.monotonic() + _PAUSE
                raise StoreFailed(f"the shared store: {self._cause}") from error
            self._paused_until = 0.0
            return reply

        return reporting

    def unless_paused(self, handler: Callable[[A], R]) -> Callable[[A], R]:
        """Return `handler`, which fails at once for a moment after a failure."""
        reporting = self.reporting(handler)

        def unless_paused(request: A) -> R:
            now = time.monotonic()
            if now < self._paused_until:
                raise StoreFailed(f"the shared store failed a moment ago: {self._cause}")
            if self._paused_until:
                # One request tries whether the store is back; the others do not wait for it.
                self._paused_until = now + self._timeout + _PAUSE
            return reporting(request)

        return unless_paused


def _cause(error: Exception, seconds: float) -> str:
    """Return why a command failed; the text of an error may quote what was sent."""
    # Imported here, since it imports an HTTP library.
    from bearerguard.transports.failures import system_failure  # noqa: PLC0415 - see above

    name = type(error).__name__
    if isinstance(error, redis.AuthenticationError):
        return f"it refused the user or the password ({name}): check its URL"
    if isinstance(error, NoPermissionError):
        return f"its user may not run a command ({name}): permit it in the store's ACL"
    found = system_failure(error, seconds)
    if found is not None:
        return f"{found.words} ({name})"
    if isinstance(error, redis.TimeoutError):
        return f"timed out after {seconds:g} s ({name})"
    return name
