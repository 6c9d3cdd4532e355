"""The Redis transport: answers what workers share, from Redis 6.2 or Valkey.

`Load` and `Store` are plain keys; the log is a stream, its mark a key, its bell a channel.
Every command has a deadline. A store that failed is left alone for a moment, so that
requests do not queue for it. Connections are made anew in a forked process. Knows nothing
of tokens, and sends what it is given: whoever gives it has sealed it.
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
from bearerguard.runtime.flow import AsyncHandlers, Effect, Handlers, Load, Store
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.sealing import checked_secrets
from bearerguard.runtime.shared_log import (
    AppendLog,
    CutLog,
    ListenLog,
    LogPage,
    MarkLog,
    ReadLog,
    RingLog,
)

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.exceptions import NoPermissionError
    from redis.retry import Retry

    from bearerguard.transports.redis_url import check_url
except ImportError as error:  # pragma: no cover - the tests have it installed
    raise ConfigurationError("RedisStore needs redis: install bearerguard[redis]") from error

R = TypeVar("R")

# Some 200 kB: what one command brings must not hold up the others.
_PAGE = 1000
# What the bell says of entries that nobody waits for.
_SOMETHING = b""
# How long requests leave a store alone that failed.
_PAUSE = 1.0
# How often a process trims the log, in seconds.
_TRIM_INTERVAL = 60.0
# Who waits for a store longer than this has no store.
_MAX_TIMEOUT = 60
# Threads of an event loop that wait for the store at the same time.
_MAX_THREADS = 16


class RedisStore:
    """What workers share, in Redis or Valkey.

    A user of the store with restricted rights needs GET, SET, XADD, XLEN, XRANGE, XTRIM,
    PUBLISH, SUBSCRIBE, PING and transactions, on keys and the channel that begin with the prefix or
    with the prefix in braces. Without XLEN, entries that somebody removes are missed by
    workers that start only.

    Args:
        url: such as `redis://127.0.0.1:6379/0`, `rediss://user:password@host` or `unix://…`.
        secret: at least 32 bytes, the same in each worker, under which everything in the
            store is sealed; or several, oldest to newest, to renew it.
        prefix: what all keys begin with; guards with the same one share what they know.
        timeout: seconds within which the store must answer.

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
        self.secrets = checked_secrets((secret,) if isinstance(secret, str | bytes) else secret)
        self.prefix = prefix
        self._url = url
        self._timeout = timeout
        # One slot of a cluster: a transaction must not span several.
        self._log, self._mark, self._bell = (
            f"{{{prefix}}}:log{suffix}" for suffix in ("", ":mark", ":bell")
        )
        self._clients: dict[int, Any] = {}  # by process
        self._paused_until = 0.0
        self._cause = ""
        self._trim_at = 0.0

    def __repr__(self) -> str:
        """Name the prefix alone: a URL may hold a password."""
        return f"RedisStore(prefix={self.prefix!r})"

    # The tables of the drivers

    def handlers(self) -> Handlers:
        """Return what answers in a thread, on behalf of a request or an operator."""
        return {
            Load: self._unless_paused(self._load),
            Store: self._unless_paused(self._store),
            ReadLog: self._unless_paused(self._read),
            AppendLog: self._answering(self._append),
            **self._rare(),
        }

    def async_handlers(self) -> AsyncHandlers:
        """Return what answers in an event loop: the same, in threads (asyncio and trio)."""
        return {kind: _in_thread(handler) for kind, handler in self.handlers().items()}

    @contextmanager
    def listening(self) -> Generator[Handlers]:
        """Hand out what answers a thread that follows the log, inside the block."""
        bell = _Bell(self._bell, self._connected, self._timeout)
        try:
            yield {
                ReadLog: self._answering(self._read),
                AppendLog: self._answering(self._append),
                **self._rare(),
                ListenLog: self._answering(bell.listen),
            }
        finally:
            bell.close()

    def _rare(self) -> Handlers:
        return {
            MarkLog: self._answering(self._set_mark),
            CutLog: self._answering(self._cut),
            RingLog: self._answering(lambda _: self._connected().publish(self._bell, _SOMETHING)),
        }

    def close(self) -> None:
        """Close the connections that are idle; the store can be used again."""
        client = self._clients.get(os.getpid())
        if client is not None:
            client.connection_pool.disconnect(inuse_connections=False)

    # Answers

    def _load(self, effect: Load) -> bytes | None:
        value: Any = self._connected().get(effect.key)
        return None if value is None else bytes(value)

    def _store(self, effect: Store) -> None:
        milliseconds = int(effect.ttl * 1000)
        if milliseconds > 0:
            self._connected().set(effect.key, effect.value, px=milliseconds)

    def _read(self, effect: ReadLog) -> LogPage:
        after = effect.after
        # No transaction: a store that is full refuses those, and reads go on.
        with self._connected().pipeline(transaction=False) as together:
            # In this order: what is appended in between is more than the mark says, never less.
            together.get(self._mark)
            together.xrange(self._log, count=1)
            together.xlen(self._log)
            # Beginning with the entry already known shows whether it is still there.
            together.xrange(self._log, min="-" if after is None else after, count=_PAGE)
            mark, first, length, rows = together.execute(raise_on_error=False)
        if isinstance(length, NoPermissionError):
            length = None  # the user of the store may be one of before we asked for it
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
            for entry in effect.entries if effect.ring else (_SOMETHING,):
                together.publish(self._bell, entry)
            if effect.mark is not None:
                together.set(self._mark, effect.mark)
            try:
                last = together.execute()[len(effect.entries) - 1]
            except redis.WatchError:
                return False  # another worker was faster
        if effect.ring:
            # The answer may have come before the bell was sent, but the store sends all that is
            # due before it takes the next command. What is sent arrives even if it dies then.
            client.ping()
        if time.monotonic() >= self._trim_at:
            # By the store's own clock: an entry's position begins with its milliseconds.
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
                transaction.publish(self._bell, _SOMETHING)
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
                # A restarted store closed our idle connections: what is sent is idempotent.
                retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
                retry_on_error=[],
            )
            # As the store sends it: a long log is read by each worker that starts.
            made.set_response_callback("XRANGE", lambda rows, **_: rows)
            # One for all threads, without a lock: a child would inherit it locked.
            client = self._clients.setdefault(os.getpid(), made)
            for parent in self._clients.keys() - {os.getpid()}:
                self._clients.pop(parent, None)
        return client

    def _answering(self, answer: Callable[[Any], R]) -> Callable[[Any], R]:
        def answering(effect: Effect[Any]) -> R:
            try:
                reply = answer(effect)
            except Exception as error:  # an answer that is none, a host name that cannot be one
                # Its own text may quote what was sent; its type says enough.
                self._cause = type(error).__name__
                self._paused_until = time.monotonic() + _PAUSE
                raise StoreFailed(f"the shared store: {self._cause}") from error
            self._paused_until = 0.0
            return reply

        return answering

    def _unless_paused(self, answer: Callable[[Any], R]) -> Callable[[Any], R]:
        answering = self._answering(answer)

        def unless_paused(effect: Effect[Any]) -> R:
            now = time.monotonic()
            if now < self._paused_until:
                raise StoreFailed(f"the shared store failed a moment ago: {self._cause}")
            if self._paused_until:
                # One tries whether it is back; the others do not wait for what it finds.
                self._paused_until = now + self._timeout + _PAUSE
            return answering(effect)

        return unless_paused


def _content(row: Any) -> bytes:
    """Return the content of an entry: position, and then names and values in turn."""
    name, content, *_ = row[1] or (b"", b"")
    return content if name == b"e" else b""


class _Bell:
    """A subscription, of one thread."""

    def __init__(self, channel: str, connected: Callable[[], Any], timeout: float) -> None:
        self._channel = channel
        self._connected = connected
        self._timeout = timeout
        self._subscription: Any = None

    def listen(self, effect: ListenLog) -> tuple[bytes, ...]:
        heard: list[bytes] = []
        try:
            if self._subscription is None:
                self._subscribe()
                return ()
            message = self._subscription.get_message(timeout=effect.wait)
            while message is not None and len(heard) < _PAGE:
                if message["type"] == "message" and message["data"] != _SOMETHING:
                    heard.append(message["data"])
                message = self._subscription.get_message(timeout=0)
        except Exception:
            self.close()
            if not heard:
                raise
            # The last that a dying store told counts too; the next call finds it dead.
        return tuple(heard)

    def close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            subscription.close()

    def _subscribe(self) -> None:
        self._subscription = self._connected().pubsub()
        self._subscription.subscribe(self._channel)
        if self._subscription.get_message(timeout=self._timeout) is None:
            raise redis.TimeoutError("no subscription")


# Each event loop's own: what else it does in threads never waits for the store.
_limiters: RunVar[anyio.CapacityLimiter] = RunVar("bearerguard-redis")


def _in_thread(handler: Callable[[Any], R]) -> Callable[[Any], Awaitable[R]]:
    async def in_thread(effect: Effect[Any]) -> R:
        limiter = _limiters.get(None)
        if limiter is None:
            limiter = anyio.CapacityLimiter(_MAX_THREADS)
            _limiters.set(limiter)
        return await anyio.to_thread.run_sync(handler, effect, limiter=limiter)

    return in_thread
