"""The Redis transport: performs the effects of a shared store, in Redis 6.2 or later or Valkey.

`Load` and `Store` use plain keys; the log is a stream, its mark a key, its notifications go over
a channel. Every command has a timeout. After a failure the store is not used for a moment, so that
requests do not queue for it. A forked process opens its own connections. Knows nothing of
tokens; values are sealed before they come here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.flow import AsyncHandlers, Effect, Handlers, Load, Store
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import secret_list
from bearerguard.runtime.shared_log import (
    AppendLog,
    CutLog,
    ListenLog,
    LogPage,
    MarkLog,
    NotifyLog,
    ReadLog,
)

with Extra("redis", needed_by="bearerguard.redis"):
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError
    from redis.retry import Retry

    from bearerguard.transports.redis_url import check_url

R = TypeVar("R")

# Entries in one page, some 200 kB: one command must not hold up the others.
_PAGE = 1000
# The notification without an entry: there is something to read.
_SOMETHING = b""
# For how many seconds requests do not use a store that failed.
_PAUSE = 1.0
# How often a process trims the log, in seconds.
_TRIM_INTERVAL = 60.0
# A request must not wait longer for a store.
_MAX_TIMEOUT = 60
# How many threads of an event loop wait for the store at the same time.
_MAX_THREADS = 16


class RedisStore:
    """A store that workers share, in Redis or Valkey; a `RevocationStore` and a `SharedStore`.

    A database user with restricted rights needs GET, SET, XADD, XLEN, XRANGE, XTRIM, PUBLISH,
    SUBSCRIBE, PING and transactions, on keys and the channel that begin with the prefix or with
    the prefix in braces. Without XLEN, entries that were removed are noticed only by workers
    that start.

    Args:
        url: such as `redis://127.0.0.1:6379/0`, `rediss://user:password@host` or `unix://…`.
        secret: at least 32 bytes, the same in each worker, under which everything in the
            store is sealed; or a list, newest first, to renew it: the first seals, all open.
        prefix: what all keys begin with; guards with the same prefix share revocations.
        timeout: the seconds within which the store must reply.

    Raises:
        ConfigurationError: an option is missing or malformed.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | bytes | Sequence[str | bytes],
        prefix: str = "bearerguard",
        timeout: float = 1.0,
    ) -> None:
        check_url(url)
        if not isinstance(prefix, str) or not prefix or not prefix.isprintable() or "}" in prefix:
            raise ConfigurationError("prefix=: pass a short name, such as that of your API")
        if not isinstance(timeout, int | float) or not 0 < timeout <= _MAX_TIMEOUT:
            raise ConfigurationError(f"timeout=: pass up to {_MAX_TIMEOUT} seconds, more than 0")
        self.secrets: tuple[bytes, ...] = secret_list(secret)
        self.prefix = prefix
        self._url = url
        self._timeout = timeout
        # One slot of a cluster: a transaction must not span several.
        self._log, self._mark, self._channel = (
            f"{{{prefix}}}:log{suffix}" for suffix in ("", ":mark", ":notify")
        )
        self._clients: dict[int, Any] = {}  # by process
        self._paused_until = 0.0
        self._cause = ""
        self._trim_at = 0.0

    def __repr__(self) -> str:
        """Show the prefix alone: a URL may hold a password."""
        return f"RedisStore(prefix={self.prefix!r})"

    # The tables of the drivers

    def handlers(self) -> Handlers:
        """Return the handlers for a thread that serves requests."""
        return {
            Load: self._unless_paused(self._load),
            Store: self._unless_paused(self._store),
            ReadLog: self._unless_paused(self._read),
            AppendLog: self._reporting(self._append),
            **self._rare(),
        }

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers for an event loop, asyncio's or trio's; they run in threads."""
        return {kind: _in_thread(handler) for kind, handler in self.handlers().items()}

    @contextmanager
    def listening(self) -> Generator[Handlers]:
        """Return the handlers for the thread that listens, inside the block."""
        subscription = _Subscription(self._channel, self._connected, self._timeout)
        try:
            yield {
                ReadLog: self._reporting(self._read),
                AppendLog: self._reporting(self._append),
                **self._rare(),
                ListenLog: self._reporting(subscription.listen),
            }
        finally:
            subscription.close()

    def _rare(self) -> Handlers:
        return {
            MarkLog: self._reporting(self._set_mark),
            CutLog: self._reporting(self._cut),
            NotifyLog: self._reporting(
                lambda _: self._connected().publish(self._channel, _SOMETHING)
            ),
        }

    def close(self) -> None:
        """Close the connections that are idle; the store can be used again."""
        client = self._clients.get(os.getpid())
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)

    # Handlers

    def _load(self, effect: Load) -> bytes | None:
        value: Any = self._connected().get(effect.key)
        return None if value is None else bytes(value)

    def _store(self, effect: Store) -> None:
        milliseconds = int(effect.ttl * 1000)
        if milliseconds > 0:
            self._connected().set(effect.key, effect.value, px=milliseconds)

    def _read(self, effect: ReadLog) -> LogPage:
        after = effect.after
        # No transaction: a full store refuses transactions, and reads must go on.
        with self._connected().pipeline(transaction=False) as together:
            # In this order: there may be more entries than the mark says, never fewer.
            together.get(self._mark)
            together.xrange(self._log, count=1)
            together.xlen(self._log)
            # From the last entry that was read, to see whether it is still there.
            together.xrange(self._log, min="-" if after is None else after, count=_PAGE)
            mark, first, length, rows = together.execute(raise_on_error=False)
        if isinstance(length, NoPermissionError):
            length = None  # the database user has no right to XLEN
        for reply in (mark, first, length, rows):
            if isinstance(reply, Exception):
                raise reply
        more = len(rows) == _PAGE
        entries = [(row[0].decode(), _content(row)) for row in rows]
        intact = after is None or (bool(entries) and entries[0][0] == after)
        if after is not None and intact:
            del entries[0]
        oldest = _content(first[0]) if first else None
        return LogPage(mark, tuple(entries), intact, more, oldest, length)

    def _append(self, effect: AppendLog) -> bool:
        client = self._connected()
        with client.pipeline(transaction=True) as together:
            if effect.mark is not None:
                together.watch(self._mark)
                if together.get(self._mark) != effect.instead_of:
                    return False
                together.multi()
            for entry in effect.entries:
                together.xadd(self._log, {"e": entry})
            for entry in effect.entries if effect.notify else (_SOMETHING,):
                together.publish(self._channel, entry)
            if effect.mark is not None:
                together.set(self._mark, effect.mark)
            try:
                last = together.execute()[len(effect.entries) - 1]
            except redis.WatchError:
                return False  # another worker was faster
        if effect.notify:
            # The reply may have come before the notification was sent, but the store sends all of
            # them before its next command. They arrive even if it dies then.
            client.ping()
        if time.monotonic() >= self._trim_at:
            # By the store's clock: an entry's position begins with its milliseconds.
            oldest = int(last.decode().partition("-")[0]) - int(effect.keep * 1000)
            client.xtrim(self._log, minid=str(max(0, oldest)), approximate=True)
            self._trim_at = time.monotonic() + _TRIM_INTERVAL
        return True

    def _cut(self, effect: CutLog) -> None:
        self._connected().xtrim(self._log, minid=effect.before, approximate=False)

    def _set_mark(self, effect: MarkLog) -> None:
        with self._connected().pipeline(transaction=True) as transaction:
            transaction.watch(self._mark)
            if transaction.get(self._mark) == effect.instead_of:
                transaction.multi()
                transaction.set(self._mark, effect.mark)
                transaction.publish(self._channel, _SOMETHING)
                try:
                    transaction.execute()
                except redis.WatchError:
                    return  # another worker was faster

    # Connections

    def _connected(self) -> Any:  # its own types leave much of it untyped
        client = self._clients.get(os.getpid())
        if client is None:
            made = redis.Redis.from_url(
                self._url,
                protocol=2,
                socket_timeout=self._timeout,
                socket_connect_timeout=self._timeout,
                # A restarted store has closed idle connections; commands are idempotent.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                retry_on_error=[],
            )
            # Unparsed, as each worker that starts reads the whole log.
            made.set_response_callback("XRANGE", lambda rows, **_: rows)
            # One for all threads, without a lock: a forked child would inherit it locked.
            client = self._clients.setdefault(os.getpid(), made)
            for parent in self._clients.keys() - {os.getpid()}:
                self._clients.pop(parent, None)
        return client

    def _reporting(self, handler: Callable[[Any], R]) -> Callable[[Any], R]:
        def reporting(effect: Effect[Any]) -> R:
            try:
                reply = handler(effect)
            except Exception as error:  # of any type: a malformed reply, a malformed host name
                self._cause = _cause(error, self._timeout)
                self._paused_until = time.monotonic() + _PAUSE
                raise StoreFailed(f"the shared store: {self._cause}") from error
            self._paused_until = 0.0
            return reply

        return reporting

    def _unless_paused(self, handler: Callable[[Any], R]) -> Callable[[Any], R]:
        reporting = self._reporting(handler)

        def unless_paused(effect: Effect[Any]) -> R:
            now = time.monotonic()
            if now < self._paused_until:
                raise StoreFailed(f"the shared store failed a moment ago: {self._cause}")
            if self._paused_until:
                # One request tries whether the store is back; the others do not wait for it.
                self._paused_until = now + self._timeout + _PAUSE
            return reporting(effect)

        return unless_paused


def _cause(error: Exception, seconds: float) -> str:
    """Return why a command failed; the text of an error may quote what was sent."""
    # Imported here, since it imports an HTTP library.
    from bearerguard.transports.failures import system_failure  # noqa: PLC0415

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


def _content(row: Any) -> bytes:
    """Return the content of an entry: a position, then names and values in turn."""
    name, content, *_ = row[1] or (b"", b"")
    return content if name == b"e" else b""


class _Subscription:
    """A subscription to the notifications, for one thread."""

    def __init__(self, channel: str, connected: Callable[[], Any], timeout: float) -> None:
        self._channel = channel
        self._connected = connected
        self._timeout = timeout
        self._subscription: Any = None

    def listen(self, effect: ListenLog) -> tuple[bytes, ...]:
        received: list[bytes] = []
        try:
            if self._subscription is None:
                self._subscribe()
                return ()
            message = self._subscription.get_message(timeout=effect.wait)
            while message is not None and len(received) < _PAGE:
                if message["type"] == "message" and message["data"] != _SOMETHING:
                    received.append(message["data"])
                message = self._subscription.get_message(timeout=0)
        except Exception:
            self.close()
            if not received:
                raise
            # Entries received before the store died count; the next call fails.
        return tuple(received)

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()

    def _subscribe(self) -> None:
        self._subscription = self._connected().pubsub()
        self._subscription.subscribe(self._channel)
        if self._subscription.get_message(timeout=self._timeout) is None:
            raise redis.TimeoutError("no subscription")


# Each event loop has its own: the app's other threads never wait for the store.
_limiters: RunVar[anyio.CapacityLimiter] = RunVar("bearerguard-redis")


def _in_thread(handler: Callable[[Any], R]) -> Callable[[Any], Awaitable[R]]:
    async def in_thread(effect: Effect[Any]) -> R:
        limiter = _limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_MAX_THREADS)
            _limiters.set(limiter)
        return await anyio.to_thread.run_sync(handler, effect, limiter=limiter)

    return in_thread
