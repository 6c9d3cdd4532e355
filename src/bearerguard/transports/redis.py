"""The Redis transport: performs the effects of a shared store, in Redis 6.2 or later or Valkey.

`Load`, `Store` and `Insert` use plain keys; the log is a stream, its mark a key, its notifications
go over a channel. Knows nothing of tokens; values are sealed before they come here.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from bearerguard.runtime.effects import Insert, Load, Store, Take
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.flow import AsyncHandlers, Effect, Handlers
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
    from redis.exceptions import NoPermissionError

    from bearerguard.transports.redis_connections import RedisConnections

R = TypeVar("R")

# Entries in one page, some 200 kB: one command must not hold up the others.
_PAGE = 1000
# The notification without an entry: there is something to read.
_SOMETHING = b""
# How often a process trims the log, in seconds.
_TRIM_INTERVAL = 60.0
# How many threads of an event loop wait for the store at the same time.
_MAX_THREADS = 16


class RedisStore:
    """A store that workers share, in Redis or Valkey.

    It is a `RevocationStore`, a `SharedStore` and a `ReplayStore`.

    A database user with restricted rights needs GET, GETDEL, SET, XADD, XLEN, XRANGE, XTRIM,
    PUBLISH, SUBSCRIBE, PING and transactions, on keys and the channel that begin with the prefix
    or with the prefix in braces. Without XLEN, entries that were removed are noticed only by
    workers that start.

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
        self._connections = RedisConnections("RedisStore", url, prefix=prefix, timeout=timeout)
        self.secrets: tuple[bytes, ...] = secret_list(secret)
        self.prefix = prefix
        self._timeout = timeout
        # One slot of a cluster: a transaction must not span several.
        self._log, self._mark, self._channel = (
            f"{{{prefix}}}:log{suffix}" for suffix in ("", ":mark", ":notify")
        )
        self._trim_at = 0.0

    def __repr__(self) -> str:
        """Show the prefix alone: a URL may hold a password."""
        return f"RedisStore(prefix={self.prefix!r})"

    # The tables of the drivers

    def handlers(self) -> Handlers:
        """Return the handlers for a thread that serves requests."""
        return {
            Load: self._connections.unless_paused(self._load),
            Store: self._connections.unless_paused(self._store),
            Insert: self._connections.unless_paused(self._insert),
            Take: self._connections.unless_paused(self._take),
            ReadLog: self._connections.unless_paused(self._read),
            AppendLog: self._connections.reporting(self._append),
            **self._rare(),
        }

    def async_handlers(self) -> AsyncHandlers:
        """Return the handlers for an event loop, asyncio's or trio's; they run in threads."""
        return {kind: _in_thread(handler) for kind, handler in self.handlers().items()}

    @contextmanager
    def listening(self) -> Generator[Handlers]:
        """Return the handlers for the thread that listens, inside the block."""
        subscription = _Subscription(self._channel, self._connections.client, self._timeout)
        try:
            yield {
                ReadLog: self._connections.reporting(self._read),
                AppendLog: self._connections.reporting(self._append),
                **self._rare(),
                ListenLog: self._connections.reporting(subscription.listen),
            }
        finally:
            subscription.close()

    def _rare(self) -> Handlers:
        return {
            MarkLog: self._connections.reporting(self._set_mark),
            CutLog: self._connections.reporting(self._cut),
            NotifyLog: self._connections.reporting(
                lambda _: self._connections.client().publish(self._channel, _SOMETHING)
            ),
        }

    def close(self) -> None:
        """Close the connections that are idle; the store can be used again."""
        self._connections.close()

    # Handlers

    def _load(self, effect: Load) -> bytes | None:
        value: Any = self._connections.client().get(effect.key)
        return None if value is None else bytes(value)

    def _store(self, effect: Store) -> None:
        milliseconds = int(effect.ttl * 1000)
        if milliseconds > 0:
            self._connections.client().set(effect.key, effect.value, px=milliseconds)

    def _insert(self, effect: Insert) -> bool:
        milliseconds = max(1, int(effect.ttl * 1000))
        return bool(self._connections.client().set(effect.key, b"", px=milliseconds, nx=True))

    def _take(self, effect: Take) -> bytes | None:
        value: Any = self._connections.client().getdel(effect.key)
        return None if value is None else bytes(value)

    def _read(self, effect: ReadLog) -> LogPage:
        after = effect.after
        # No transaction: a full store refuses transactions, and reads must go on.
        with self._connections.client().pipeline(transaction=False) as together:
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
        client = self._connections.client()
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
        self._connections.client().xtrim(self._log, minid=effect.before, approximate=False)

    def _set_mark(self, effect: MarkLog) -> None:
        with self._connections.client().pipeline(transaction=True) as transaction:
            transaction.watch(self._mark)
            if transaction.get(self._mark) == effect.instead_of:
                transaction.multi()
                transaction.set(self._mark, effect.mark)
                transaction.publish(self._channel, _SOMETHING)
                try:
                    transaction.execute()
                except redis.WatchError:
                    return  # another worker was faster


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
