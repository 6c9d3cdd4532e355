"""Revocations: tokens refused before they expire, in this process or in all workers at once.

Without a store the list is this process's alone; with one, a thread follows what any worker
revokes, and when the store has been silent for too long nothing is known.
"""

from __future__ import annotations

import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from bearerguard.errors import (
    LIVES_TOO_LONG,
    REVOCATIONS_UNAVAILABLE,
    REVOKED,
    ConfigurationError,
    RevocationFailed,
    RevocationsUnavailable,
    TokenError,
)
from bearerguard.guard.revocation.feed import Feed
from bearerguard.guard.revocation.follower import Follower
from bearerguard.guard.revocation.forwarding import Forwarding
from bearerguard.guard.revocation.revocation_list import Revocation
from bearerguard.guard.revocation.store import RevocationStore
from bearerguard.guard.revocation.trusted_list import Belief
from bearerguard.principal import Principal
from bearerguard.runtime.flow import Flow, Once, ask
from bearerguard.runtime.messages import StoreFailed

# A token is accepted for its leeway after its expiry, and may claim to be issued somewhat
# later than it was: both are 300 s at most.
SLACK = 600
_OF_A_STORE = ("secrets", "handlers", "async_handlers", "listening", "close")
# A list that was read so long ago is fresh: the follower reads twice a second.
_FRESH = 5.0

Emit = Callable[[str, str | None, str], None]


@dataclass(frozen=True, slots=True)
class RevocationsHealth:
    """How the list is: `status` is local, absent (not read yet), fresh, stale or dead.

    `age` is the seconds since the store was last read.
    """

    status: str
    entries: int
    age: float | None = None


class Revocations(Belief):
    """What was revoked.

    Args:
        store: what workers share, such as `RedisStore(...)`; without one, a revocation
            holds in this process only, or in the database of an authorization server that
            is embedded beside the guard.
        max_token_life: the longest life of a token in seconds: so long a revocation is
            kept, and a token that lives longer is refused, or is older and names no end. So
            is one that does not say when it was issued (`iat`). Workers and APIs that share a
            store keep what the longest of them demands.
        max_staleness: for how many seconds the list is believed when the store is silent;
            then requests get 503 until it answers.

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
        if store is not None and not all(hasattr(store, name) for name in _OF_A_STORE):
            raise ConfigurationError('Revocations(store): pass a RedisStore("redis://...", ...)')
        self.max_token_life = max_token_life
        self.max_staleness = max_staleness
        super().__init__(math.inf if store is None else -math.inf)
        self.store = store
        self._clock: Callable[[], float] = time.time
        self._emit: Emit = lambda _code, _issuer, _detail: None
        self._attached = False
        self._lock = threading.Lock()
        self._behind = False
        self._read_at = -math.inf  # by the system's monotonic clock
        if store is not None:
            name = str(getattr(store, "prefix", ""))
            self._feed = Feed(store.secrets, max_token_life + 2 * SLACK, name=name)
            self._follower = Follower(store)
            self._forwarding = Forwarding()
            weakref.finalize(self, self._follower.close)
            _of_this_process.add(self)

    def attach(self, clock: Callable[[], float], emit: Emit) -> None:
        """Serve a guard: go by its clock and report to it. The first guard counts."""
        if not self._attached:
            self._clock, self._emit, self._attached = clock, emit, True
            if self.store is not None:
                self._feed.clock = clock

    def kept_by(self, store: RevocationStore) -> Revocations:
        """Return the same kept by a store, unless one was given."""
        if self.store is not None:
            return self
        return Revocations(
            store, max_token_life=self.max_token_life, max_staleness=self.max_staleness
        )

    def fed_by(self, source: RevocationStore) -> None:
        """Have what is in the log of a server beside the guard told to all workers too."""
        self._forwarding.add(source.handlers())

    # Asking

    def check(self, principal: Principal, key_id: str | None = None) -> None:
        """Raise `TokenError` if the token that says this was revoked, or lives too long.

        `key_id` is that of the key that proved it, where one did and has an id.

        Believes the list: `ensure` comes first.
        """
        self._check_life(principal)
        if self.current.covers(principal, key_id):
            raise TokenError(REVOKED, "it was revoked", issuer=principal.issuer)

    def _check_life(self, principal: Principal) -> None:
        """Refuse what may be accepted when a revocation of it is forgotten."""
        born, over, now = principal.issued_at, principal.expires_at, self._clock()
        if born is None:
            # By `exp` alone a long-lived token would pass in its last day, when what revoked it
            # a day before is forgotten.
            remedy = (
                "nobody knows how long it lives: with revocations=, tokens and introspection"
                " answers must have iat: have the issuer add it"
            )
        elif (life := (now if over is None else over) - born) > self.max_token_life:
            remedy = f"it lives {life:.0f} s, too long: pass Revocations(max_token_life=...)"
        else:
            return
        raise TokenError(LIVES_TOO_LONG, remedy, issuer=principal.issuer)

    def ensure(self, issuer: str) -> Flow[None]:
        """See to it that the list may be believed.

        Reads it where that was never done, or too long ago; raises `RevocationsUnavailable`
        when that is not possible.
        """
        try:
            yield from self._first_of_all()
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
        if self.store is None:
            self.learn(revocations)
            return
        try:
            yield from self._first_of_all()
            yield from self._publish(revocations)
        except StoreFailed as error:
            raise RevocationFailed(f"nothing is known to be revoked: {error}") from error

    def forward(self) -> Flow[None]:
        """Revoke what servers beside the guard have written down; for a thread.

        Raises `RevocationFailed`; whatever failed is tried again by the thread that follows.
        """
        try:
            yield from self._first_of_all()
            yield from self._forwarding.forward(self._is_known, self._publish)
        except StoreFailed as error:
            raise RevocationFailed(f"other workers have not been told: {error}") from error

    def learn(self, revocations: Iterable[Revocation]) -> None:
        """Take in what the store has already; takes no time."""
        with self._lock:  # two that each add to the same list would lose one's
            self._replace(self.current.extended(revocations, self._clock()))

    # Following; called by the thread

    def follow(self, heard: tuple[bytes, ...]) -> Flow[None]:
        """Take in what was heard, and what there is to read; raises `StoreFailed`."""
        self._feed.hear(heard, self.learn)
        yield from self._caught_up()
        if self._feed.lost:
            restored = yield from self._feed.restore(self._live, self.learn)
            self._report()
            if restored:  # else others did it, or the next round goes on
                detail = f"the shared store lost revocations: {restored} were appended again"
                self._emit("revocations_restored", None, detail)
        trouble = yield from self._forwarding.attempt(self._is_known, self._publish)
        if trouble:  # the list is no older for that
            self._emit("revocations_not_forwarded", None, trouble)

    def fell_behind(self, error: Exception) -> None:
        """Note that following failed: after `max_staleness` nothing is known any more."""
        if not self._behind:
            self._behind = True
            self._emit(REVOCATIONS_UNAVAILABLE.code, None, str(error))
        if time.monotonic() - self._read_at > self.max_staleness:
            self._trust(-math.inf)  # even if the guard's clock was set back meanwhile

    def close(self) -> None:
        """End the thread and close idle connections; the next request starts over."""
        if self.store is not None:
            with self._lock:
                self._follower.close()
                self._trust(-math.inf)
            self.store.close()

    def forget_the_parent(self) -> None:
        """Begin anew in a forked process: its parent's thread and locks are not here."""
        self._lock = threading.Lock()
        self._trust(-math.inf)

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
        try:
            yield from self._feed.catch_up(self.learn, None if starting else self.learn)
        finally:
            self._report()
        if starting:
            self._follow_on()
        if self._feed.settling:
            if starting:
                raise StoreFailed("the shared store lost revocations; the others append them again")
            return
        with self._lock:
            if self._follower.runs():  # else it was closed meanwhile
                self._trust(now + self.max_staleness)
                self._read_at = began
                self._behind = False

    def _first_of_all(self) -> Flow[None]:
        """Read the list, if that is due."""
        if self._clock() >= self.trusted_until:
            yield from ask(Once(("revocations", id(self)), self._first_read))

    def _publish(self, revocations: Sequence[Revocation]) -> Flow[None]:
        yield from self._feed.publish(revocations)
        self.learn(revocations)

    def _report(self) -> None:
        while self.store is not None and self._feed.reports:
            code, detail = self._feed.reports.pop(0)
            self._emit(code, None, detail)

    def _follow_on(self) -> None:
        with self._lock:
            self._follower.start(self)

    def _is_known(self, revocation: Revocation) -> bool:
        return revocation.expires_at <= self._clock() or self.current.includes(revocation)

    def _live(self) -> list[Revocation]:
        return self.current.live(self._clock())


_of_this_process: weakref.WeakSet[Revocations] = weakref.WeakSet()


def _after_fork() -> None:
    for revocations in list(_of_this_process):
        revocations.forget_the_parent()


# A child that believed its parent's list would never begin to follow.
os.register_at_fork(after_in_child=_after_fork)
