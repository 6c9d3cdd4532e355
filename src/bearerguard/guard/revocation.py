"""Revocations: tokens refused before they expire, in this process or in all workers at once.

Owns the list that requests look into, an immutable snapshot swapped whole, and until when
it may be believed. Without a store it is this process's alone; with one, a thread follows
what any worker revokes, and when the store has been silent for too long nothing is known.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from typing import Protocol

from bearerguard.errors import (
    LIVES_TOO_LONG,
    REVOCATIONS_UNAVAILABLE,
    REVOKED,
    ConfigurationError,
    RevocationFailed,
    RevocationsUnavailable,
    TokenError,
)
from bearerguard.flow import AsyncHandlers, Flow, Handlers, Once, ask
from bearerguard.guard.follower import Follower
from bearerguard.guard.revocation_feed import Feed
from bearerguard.guard.revocation_list import Revocation, RevocationList
from bearerguard.messages import StoreFailed
from bearerguard.principal import Principal

# A token is accepted for its leeway after its expiry, and may claim to be issued somewhat
# later than it was: both are 300 s at most.
SLACK = 600
# A list that was read so long ago is fresh: the follower reads twice a second.
_FRESH = 5.0

Emit = Callable[[str, str | None, str], None]


class RevocationStore(Protocol):
    """What workers share; `bearerguard.redis.RedisStore` is one."""

    @property
    def secrets(self) -> Sequence[str | bytes]:
        """What seals the entries, oldest to newest."""
        ...

    def handlers(self) -> Handlers:
        """Return what answers `ReadLog`, `AppendLog` and `MarkLog` in a thread."""
        ...

    def async_handlers(self) -> AsyncHandlers:
        """Return what answers them in an event loop."""
        ...

    def listening(self) -> AbstractContextManager[Handlers]:
        """Return what answers them and `ListenLog` in one thread, inside the block."""
        ...

    def close(self) -> None:
        """Close what is idle."""
        ...


@dataclass(frozen=True, slots=True)
class RevocationsHealth:
    """How the list is: `status` is local, absent (not read yet), fresh, stale or dead.

    `age` is the seconds since the store was last read.
    """

    status: str
    entries: int
    age: float | None = None


class Revocations:
    """What was revoked.

    Args:
        store: what workers share, such as `RedisStore(...)`; without one, a revocation
            holds in this process only.
        max_token_life: the longest life of a token in seconds: so long a revocation is
            kept, and a token that lives longer is refused.
        max_staleness: for how many seconds the list is believed when the store is silent;
            then requests get 503 until it answers.

    Raises:
        ConfigurationError: an option is malformed.

    Attributes:
        current: the list; replaced whole when it changes in a way that matters.
        trusted_until: until when it may be believed, by the guard's clock in Unix seconds.
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
        if store is not None and not callable(getattr(store, "listening", None)):
            raise ConfigurationError('Revocations(store): pass a RedisStore("redis://...", ...)')
        self.max_token_life = max_token_life
        self.max_staleness = max_staleness
        self.current = RevocationList()
        self.trusted_until = math.inf
        self.store = store
        self._clock: Callable[[], float] = time.time
        self._emit: Emit = lambda _code, _issuer, _detail: None
        self._attached = False
        self._lock = threading.Lock()
        self._behind = False
        self._read_at = -math.inf  # by the system's monotonic clock
        if store is not None:
            self._feed = Feed(store.secrets, max_token_life + 2 * SLACK)
            self._follower = Follower(store)
            self.trusted_until = -math.inf
            weakref.finalize(self, self._follower.close)
            _of_this_process.add(self)

    def attach(self, clock: Callable[[], float], emit: Emit) -> None:
        """Serve a guard: go by its clock and report to it. The first guard counts."""
        if not self._attached:
            self._clock, self._emit, self._attached = clock, emit, True

    # Asking

    def check(self, principal: Principal) -> None:
        """Raise `TokenError` if the token that says this was revoked, or lives too long.

        Believes the list: `ensure` comes first.
        """
        if principal.expires_at is not None:
            born = self._clock() if principal.issued_at is None else principal.issued_at
            if principal.expires_at - born > self.max_token_life:
                raise TokenError(
                    LIVES_TOO_LONG,
                    f"it lives {principal.expires_at - born:.0f} s, longer than a revocation is"
                    " kept: let the issuer issue shorter ones, or pass"
                    " Revocations(max_token_life=...)",
                    issuer=principal.issuer,
                )
        if self.current.covers(principal):
            raise TokenError(REVOKED, "it was revoked", issuer=principal.issuer)

    def ensure(self, issuer: str) -> Flow[None]:
        """See to it that the list may be believed.

        Reads it where that was never done, or too long ago; raises `RevocationsUnavailable`
        when that is not possible.
        """
        if self._clock() < self.trusted_until:
            return
        try:
            yield from ask(Once(("revocations", id(self)), self._first_read))
        except StoreFailed as error:
            self._emit(REVOCATIONS_UNAVAILABLE.code, None, str(error))
            raise RevocationsUnavailable(issuer, 1, str(error)) from error

    def warm(self) -> Flow[None]:
        """Read the list, if that is due; a store that is down is only reported."""
        with suppress(RevocationsUnavailable):
            yield from self.ensure("")

    def health(self) -> RevocationsHealth:
        """Return how the list is."""
        now, until, count = self._clock(), self.trusted_until, len(self.current)
        if self.store is None:
            return RevocationsHealth("local", count)
        if until == -math.inf:
            return RevocationsHealth("absent", count)
        age = max(0.0, now - until + self.max_staleness)
        if now >= until:
            return RevocationsHealth("dead", count, age)
        return RevocationsHealth("fresh" if age < _FRESH else "stale", count, age)

    # Revoking

    def revoke(self, revocations: Sequence[Revocation]) -> Flow[None]:
        """Revoke, here and in every worker; raises `RevocationFailed` if that is not certain.

        It is certain when the store has it and has told every worker that was listening: what
        a store said before it died still arrives. A worker that was not listening at that
        moment looks for the store all the time and reads it then (`follower`).
        """
        if self.store is not None:
            try:
                if self._clock() >= self.trusted_until:
                    yield from ask(Once(("revocations", id(self)), self._first_read))
                yield from self._feed.publish(revocations)
            except StoreFailed as error:
                raise RevocationFailed(f"nothing is known to be revoked: {error}") from error
        self._learn(revocations)

    # Following; called by the thread

    def follow(self, heard: tuple[bytes, ...]) -> Flow[None]:
        """Take in what was heard, and what there is to read; raises `StoreFailed`."""
        self._feed.hear(heard, self._learn)
        yield from self._caught_up()
        if self._feed.lost:
            restored = yield from self._feed.restore(self._live, self._learn)
            if restored is not None:  # else the next round goes on
                detail = f"the shared store lost revocations: {restored} were appended again"
                self._emit("revocations_restored", None, detail)

    def fell_behind(self, error: Exception) -> None:
        """Note that following failed: after `max_staleness` nothing is known any more."""
        if not self._behind:
            self._behind = True
            self._emit(REVOCATIONS_UNAVAILABLE.code, None, str(error))
        if time.monotonic() - self._read_at > self.max_staleness:
            self.trusted_until = -math.inf  # even if the guard's clock was set back meanwhile

    def close(self) -> None:
        """End the thread and close idle connections; the next request starts over."""
        if self.store is not None:
            with self._lock:
                self._follower.close()
                self.trusted_until = -math.inf
            self.store.close()

    def forget_the_parent(self) -> None:
        """Begin anew in a forked process: its parent's thread and locks are not here."""
        self._lock = threading.Lock()
        self.trusted_until = -math.inf

    # Inside

    def _first_read(self) -> Flow[None]:
        if self._clock() < self.trusted_until:
            return  # another was faster
        try:
            yield from self._caught_up(starting=True)
        finally:
            self._follow_on()  # when reading failed, it waits for the store

    def _caught_up(self, *, starting: bool = False) -> Flow[None]:
        now, began = self._clock(), time.monotonic()
        yield from self._feed.catch_up(self._learn, None if starting else self._learn)
        if starting:
            self._follow_on()
        with self._lock:
            if self._follower.runs():  # else it was closed meanwhile
                self.trusted_until, self._read_at = now + self.max_staleness, began
                self._behind = False

    def _follow_on(self) -> None:
        with self._lock:
            self._follower.start(self)

    def _learn(self, revocations: Iterable[Revocation]) -> None:
        with self._lock:  # two that each add to the same list would lose one's
            self.current = self.current.extended(revocations, self._clock())

    def _live(self) -> list[Revocation]:
        return self.current.live(self._clock())


_of_this_process: weakref.WeakSet[Revocations] = weakref.WeakSet()


def _after_fork() -> None:
    for revocations in list(_of_this_process):
        revocations.forget_the_parent()


# A child that believed its parent's list would never begin to follow.
os.register_at_fork(after_in_child=_after_fork)
