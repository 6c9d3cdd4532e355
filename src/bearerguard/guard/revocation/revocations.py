"""The revocations of a process: the list, until when it is trusted, and how each guard uses it.

Without a store the list belongs to this process alone. With one, a thread follows what any worker
revokes, and the list is trusted for `max_staleness` seconds after each read. Several guards may
share one `Revocations`: each has its own clock, events and cached tokens (`GuardRevocations`).
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Collection, Generator, Iterable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from bearerguard.errors import (
    LIVES_TOO_LONG,
    REVOCATIONS_UNAVAILABLE,
    REVOKED,
    ConfigurationError,
    RevocationFailed,
    RevocationsUnavailable,
    TokenError,
)
from bearerguard.guard.fetch_history import FetchHistory
from bearerguard.guard.health import LastError
from bearerguard.guard.observers import error_kind
from bearerguard.guard.revocation.feed import Feed
from bearerguard.guard.revocation.follower import Follower
from bearerguard.guard.revocation.forwarding import Forwarding
from bearerguard.guard.revocation.revocation_list import Key, Revocation, RevocationList
from bearerguard.guard.stores import RevocationStore
from bearerguard.principal import Principal
from bearerguard.runtime.fetching.watch import Watch, unwatched
from bearerguard.runtime.flow import Flow, Once, ask
from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.reporting.outage import Outage

# A token is accepted until its leeway after `exp`, and its `iat` may be ahead of the clock: each by
# 300 s at most.
SLACK = 600
_STORE_METHODS = ("secrets", "handlers", "async_handlers", "listening", "close")
# The follower reads twice a second: a list read within this many seconds is fresh.
_FRESH = 5.0

Emit: TypeAlias = Callable[[str, str | None, str], None]
"""Reports an event: its code, the issuer, the detail."""
OnRevoked: TypeAlias = Callable[[Collection[Key] | None], None]
"""Is told the keys of what was revoked; None when the list may no longer be trusted."""


class Dependent(Protocol):
    """A cache of tokens that depends on the list."""

    @property
    def forget_recent(self) -> Callable[[], None]:
        """Return what makes the cache check every token again before it is used."""
        ...


@dataclass(frozen=True, slots=True)
class RevocationsHealth:
    """The state of the list.

    Attributes:
        status: `local` (no store), `absent` (not read yet), `fresh`, `stale`, or `dead` (not
            read for `max_staleness`).
        ready: whether the list is used now: not `absent` or `dead`.
        fresh: whether the store was read a moment ago, or there is none.
        entries: how many revocations it has.
        age: the seconds since the store was last read; None where it never was.
        last_success: when it was last read, in Unix seconds; None where it never was.
        last_error: why and when a read last failed, also if one succeeded later.
        latencies: how many seconds the last five complete reads took, the newest first.
    """

    status: str
    ready: bool
    fresh: bool
    entries: int
    age: float | None
    last_success: float | None
    last_error: LastError | None
    latencies: tuple[float, ...]


class Revocations:
    """Tokens, subjects, clients, sessions and keys that were revoked before they expired.

    Several guards may share one. Each goes by its own clock, and an event about the store is
    reported to all of them.

    Args:
        store: the log that workers share, such as `RedisStore(...)` or any `RevocationStore`.
            Without one, a revocation holds in this process only; beside an embedded
            authorization server it is kept in the server's database.
        max_token_life: the longest life of a token in seconds. A revocation is kept for so long. A
            token is refused if it has no `iat`, or if it lives longer: from `iat` to `exp`, or
            until now without `exp`. All that share a store keep revocations for the longest
            `max_token_life` among them.
        max_staleness: for how many seconds the list is trusted while the store does not respond;
            after that, requests get 503 until it does.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(
        self,
        store: RevocationStore | None = None,
        *,
        max_token_life: float = 86_400,
        max_staleness: float = 300,
    ) -> None:
        for name, seconds in (("token_life", max_token_life), ("staleness", max_staleness)):
            if not isinstance(seconds, int | float) or not 0 < seconds < math.inf:
                raise ConfigurationError(f"max_{name}=: pass a positive number of seconds")
        if store is not None and not all(hasattr(store, name) for name in _STORE_METHODS):
            raise ConfigurationError(
                'Revocations(store): pass a RedisStore("redis://...", ...), or another object with'
                " the methods of bearerguard.stores.RevocationStore"
            )
        self.max_token_life = max_token_life
        self.max_staleness = max_staleness
        self.store: RevocationStore | None = None
        self.current: RevocationList = RevocationList()
        """The list; replaced whole by each change."""
        self._guards = _Guards()
        self._lock = threading.Lock()
        self._is_behind = False
        self._history = FetchHistory()
        self._outage = Outage(time.monotonic)
        self._read_at = -math.inf  # by the system's monotonic clock
        if store is not None:
            self._set_store(store)

    def _set_store(self, store: RevocationStore) -> None:
        name = str(getattr(store, "prefix", ""))
        self._feed = Feed(
            store.secrets, self.max_token_life + 2 * SLACK, name=name, clock=self._guards.now
        )
        self._follower = Follower(store)
        self._forwarding = Forwarding()
        weakref.finalize(self, self._follower.close)
        _of_this_process.add(self)
        self.store = store

    # Guards

    def attach(
        self, clock: Callable[[], float], emit: Emit, watch: Watch = unwatched
    ) -> GuardRevocations:
        """Return the revocations for one guard, by its clock.

        Events are reported to `emit`; `watch` watches each read of the store.
        """
        guard = GuardRevocations(self, clock, emit, watch)
        with self._lock:
            self._guards.add(guard)
            guard.current = self.current
            age = time.monotonic() - self._read_at
            if self.store is None:
                guard.trust(math.inf)
            elif age < self.max_staleness and self._follower.runs():
                guard.trust(clock() + self.max_staleness - age)
        return guard

    def use_log(self, log: RevocationStore) -> None:
        """Keep revocations in the log of a server beside the guard, unless there is a store.

        Raises `ConfigurationError` if a guard uses them without that log already: its requests
        could not read it.
        """
        if self.store is not None:
            return
        if self._guards.all():
            raise ConfigurationError(
                "revocations=: another guard uses this Revocations already, without the database"
                " of this guard's authorization server: make the guard beside the server first,"
                " give Revocations(...) a store, or give each guard its own"
            )
        self._set_store(log)

    def forwards(self, log: RevocationStore) -> bool:
        """Forward the log of a server beside a guard; return False if it is the store itself."""
        if self.store == log:
            return False
        self._forwarding.add(log)
        return True

    def health(self) -> RevocationsHealth:
        """Return the state of the list, by the system's clock."""
        read = self._read_at > -math.inf
        return self.health_at(time.monotonic() - self._read_at if read else None)

    def health_at(self, age: float | None) -> RevocationsHealth:
        """Return the state of a list that was read `age` seconds ago, None if it was not read."""
        if self.store is None:
            status = "local"
        elif age is None:
            status = "absent"
        elif age >= self.max_staleness:
            status = "dead"
        else:
            status = "fresh" if age < _FRESH else "stale"
        return RevocationsHealth(
            status,
            ready=status not in {"absent", "dead"},
            fresh=status in {"local", "fresh"},
            entries=len(self.current),
            age=age if self.store is not None else None,
            last_success=self._history.last_success,
            last_error=self._history.last_error,
            latencies=self._history.latencies,
        )

    # Revoking

    def publish(self, revocations: Sequence[Revocation]) -> Flow[None]:
        """Append revocations to the store, then to the list; raises `StoreFailed`."""
        yield from self._feed.publish(revocations)
        self.add(revocations)

    def forward(self) -> Flow[None]:
        """Publish what servers beside the guards have written; for a thread.

        Raises `StoreFailed`; the thread that follows the store tries again.
        """
        yield from self._forwarding.forward(self._is_known, self.publish)

    def add(self, revocations: Iterable[Revocation]) -> None:
        """Add revocations that the store has already."""
        added = list(revocations)
        with self._lock:  # two threads that extend the same list would lose one addition
            extended = self.current.extended(added, self._guards.now())
            if extended is not self.current:
                self.current = extended
                keys = [each.key for each in added]
                for guard in self._guards.all():
                    guard.replace(extended, keys)

    # Reading and following

    def read(self, *, starting: bool = False) -> Flow[None]:
        """Read what was appended to the store; raises `StoreFailed`.

        `starting` is the first read, for a request; the others are for the thread.
        """
        began = time.monotonic()
        begins = [(guard, guard.clock()) for guard in self._guards.all()]
        try:
            with self._guards.watching():
                yield from self._feed.catch_up(self.add, None if starting else self.add)
        finally:
            self._report()
        if starting:
            self.start_following()
        if self._feed.settling:
            if starting:
                raise StoreFailed(
                    "the shared store lost revocations; other workers append them now"
                )
            return
        with self._lock:
            if self._follower.runs():  # else it was closed during the read
                for guard, now in begins:
                    guard.trust(now + self.max_staleness)
                self._read_at = began
                self._is_behind = False
                self._history.succeeded(self._guards.now(), time.monotonic() - began)
        if restored := self._outage.succeeded():
            self._guards.emit("revocations_available", restored)

    def failed(self, error: Exception) -> None:
        """Note that the store could not be read."""
        self._outage.failed()
        self._history.failed(self._guards.now(), error_kind(error))

    def start_following(self) -> None:
        """Start the thread that follows the store, unless it runs."""
        with self._lock:
            self._follower.start(self)

    def follow(self, notified: tuple[bytes, ...]) -> Flow[None]:
        """Add the entries of a notification, and read the log; called by the thread.

        Raises `StoreFailed`.
        """
        self._feed.add_notified(notified, self.add)
        yield from self.read()
        if self._feed.lost:
            restored = yield from self._feed.restore(self._live, self.add)
            self._report()
            if restored:  # else other workers did it, or the next round goes on
                detail = f"the shared store lost revocations: {restored} were appended again"
                self._guards.emit("revocations_restored", detail)
        cause = yield from self._forwarding.attempt(self._is_known, self.publish)
        if cause:  # this does not make the list stale
            self._guards.emit("revocations_not_forwarded", cause)

    def following_failed(self, error: Exception) -> None:
        """Report an outage once, and stop trusting the list after `max_staleness`."""
        self.failed(error)
        if not self._is_behind:
            self._is_behind = True
            self._guards.emit(REVOCATIONS_UNAVAILABLE.code, str(error))
        if time.monotonic() - self._read_at > self.max_staleness:
            self._distrust()  # even if a guard's clock was set back meanwhile

    def close(self) -> None:
        """Stop the thread and close idle connections; the next request starts over."""
        if self.store is not None:
            with self._lock:
                self._follower.close()
                self._distrust()
                self._read_at = -math.inf
            self.store.close()

    def begin_in_child(self) -> None:
        """Start over in a forked process, which has neither the thread nor its locks."""
        self._lock = threading.Lock()
        self._distrust()
        self._read_at = -math.inf

    def _distrust(self) -> None:
        for guard in self._guards.all():
            guard.trust(-math.inf)

    def _report(self) -> None:
        while self._feed.reports:
            self._guards.emit(*self._feed.reports.pop(0))

    def _is_known(self, revocation: Revocation) -> bool:
        return revocation.expires_at <= self._guards.now() or self.current.includes(revocation)

    def _live(self) -> list[Revocation]:
        return self.current.live(self._guards.now())


class GuardRevocations:
    """The revocations as one guard uses them: by its clock, with its events and cached tokens.

    Attributes:
        current: the present list.
        trusted_until: until when it is trusted, by the guard's clock in Unix seconds.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        shared: Revocations,
        clock: Callable[[], float],
        emit: Emit,
        watch: Watch = unwatched,
    ) -> None:
        self.shared = shared
        self.watch = watch
        self.clock = clock
        self.emit = emit
        self.current: RevocationList = shared.current
        self.trusted_until: float = -math.inf
        self._dependents: tuple[weakref.ref[Dependent], ...] = ()
        self._watchers: tuple[weakref.WeakMethod[OnRevoked], ...] = ()

    # The list, and until when it is trusted; set by `Revocations`

    def add_dependent(self, cache: Dependent) -> None:
        """Call `forget_recent` of a cache after each change; the cache is held weakly."""
        alive = [each for each in self._dependents if each() is not None]
        self._dependents = (*alive, weakref.ref(cache))

    def watch_changes(self, watcher: OnRevoked) -> None:
        """Call a bound method, held weakly, with what was revoked.

        It gets None when the list may no longer be trusted. It is called in any thread, and must
        not block.
        """
        alive = [each for each in self._watchers if each() is not None]
        self._watchers = (*alive, weakref.WeakMethod(watcher))

    def replace(self, current: RevocationList, revoked: Collection[Key]) -> None:
        """Use another list, to which these keys were added."""
        self.current = current
        self._forget_recent()
        self._tell(revoked)

    def trust(self, until: float) -> None:
        """Trust the list until then."""
        before, self.trusted_until = self.trusted_until, until
        if until <= before:
            self._forget_recent()
            self._tell(None)

    def _tell(self, revoked: Collection[Key] | None) -> None:
        for each in self._watchers:
            watcher = each()
            if watcher is not None:
                watcher(revoked)

    def _forget_recent(self) -> None:
        for each in self._dependents:
            cache = each()
            if cache is not None:
                cache.forget_recent()

    # Checking

    def check(self, principal: Principal, key_id: str | None = None) -> None:
        """Raise `TokenError` if the token of `principal` was revoked, or lives too long.

        `key_id` is the `kid` of the key that signed it, if there is one. Call `ensure` first:
        the list is used as it is.
        """
        self._check_life(principal)
        if self.current.covers(principal, key_id):
            raise TokenError(REVOKED, "it was revoked", issuer=principal.issuer)

    def _check_life(self, principal: Principal) -> None:
        """Refuse a token that could still be valid after its revocation has been removed."""
        issued_at, expires_at, now = principal.issued_at, principal.expires_at, self.clock()
        longest = self.shared.max_token_life
        if issued_at is None:
            # By `exp` alone, a long-lived token would pass shortly before it expires, when an
            # earlier revocation of it has been removed.
            remedy = (
                "its lifetime is unknown: with revocations=, tokens and introspection"
                " responses must have iat: have the issuer add it"
            )
        elif (life := (now if expires_at is None else expires_at) - issued_at) > longest:
            remedy = f"it lives {life:.0f} s, longer than Revocations(max_token_life={longest:.0f})"
        else:
            return
        raise TokenError(LIVES_TOO_LONG, remedy, issuer=principal.issuer)

    def ensure(self, issuer: str) -> Flow[None]:
        """Read the list if it is not trusted now; raises `RevocationsUnavailable` if that fails.

        `issuer` is the issuer of the token that asks.
        """
        try:
            yield from self._read_if_due()
        except StoreFailed as error:
            self.shared.failed(error)
            self.emit(REVOCATIONS_UNAVAILABLE.code, None, str(error))
            raise RevocationsUnavailable(issuer, 1, str(error)) from error

    def warm(self) -> Flow[None]:
        """Read the list if it is not trusted now; an outage of the store is only reported."""
        with suppress(RevocationsUnavailable):
            yield from self.ensure("")

    def health(self) -> RevocationsHealth:
        """Return the state of the list, by the guard's clock; a list that was not read is read."""
        if self.shared.store is None:
            return self.shared.health()
        if self.trusted_until == -math.inf:
            self.shared.start_following()  # a pod that is not ready gets no request
            return self.shared.health()  # not read yet, or no longer trusted
        age = max(0.0, self.clock() - self.trusted_until + self.shared.max_staleness)
        return self.shared.health_at(age)

    # Revoking

    def revoke(self, revocations: Sequence[Revocation]) -> Flow[None]:
        """Revoke here and in every worker; raises `RevocationFailed` if that is not certain.

        It is certain when the store has it and has notified every worker that listens: what
        a store sent before it died still arrives. A worker that did not listen at that moment
        tries to reach the store all the time, and reads it then (`follower`).
        """
        if self.shared.store is None:
            self.shared.add(revocations)
            return
        try:
            yield from self._read_if_due()
            yield from self.shared.publish(revocations)
        except StoreFailed as error:
            raise RevocationFailed(
                f"it is uncertain whether anything was revoked: {error}"
            ) from error

    def forward(self) -> Flow[None]:
        """Publish what servers beside the guard have written; for a thread.

        Raises `RevocationFailed`; the thread that follows the store tries again.
        """
        try:
            yield from self._read_if_due()
            yield from self.shared.forward()
        except StoreFailed as error:
            raise RevocationFailed(f"other workers have not been notified: {error}") from error

    def _read_if_due(self) -> Flow[None]:
        if self.clock() >= self.trusted_until:
            yield from ask(Once(("revocations", id(self.shared)), self._first_read))

    def _first_read(self) -> Flow[None]:
        if self.clock() < self.trusted_until:
            return  # a concurrent request has read it
        try:
            yield from self.shared.read(starting=True)
        finally:
            self.shared.start_following()  # when the read failed, the thread waits for the store


class _Guards:
    """The guards that share one `Revocations`; held weakly, swapped whole."""

    def __init__(self) -> None:
        self._references: tuple[weakref.ref[GuardRevocations], ...] = ()

    def add(self, guard: GuardRevocations) -> None:
        alive = [each for each in self._references if each() is not None]
        self._references = (*alive, weakref.ref(guard))

    def all(self) -> list[GuardRevocations]:
        guards = [each() for each in self._references]
        return [guard for guard in guards if guard is not None]

    def now(self) -> float:
        """Return the earliest time of all guards: a revocation must not expire for any of them."""
        return min((guard.clock() for guard in self.all()), default=time.time())

    def emit(self, code: str, detail: str) -> None:
        for guard in self.all():
            guard.emit(code, None, detail)

    @contextmanager
    def watching(self) -> Generator[None]:
        """Let each guard watch a read of the store."""
        with ExitStack() as watches:
            for guard in self.all():
                watches.enter_context(guard.watch(""))
            yield


_of_this_process: weakref.WeakSet[Revocations] = weakref.WeakSet()


def _after_fork() -> None:
    for revocations in list(_of_this_process):
        revocations.begin_in_child()


# A child that trusted its parent's list would never begin to follow the store.
os.register_at_fork(after_in_child=_after_fork)


def check_revocations(revocations: object) -> None:
    """Raise `ConfigurationError` unless this is `Revocations` or None."""
    if revocations is not None and not isinstance(revocations, Revocations):
        raise ConfigurationError("revocations=: pass Revocations(...), or None for none")
