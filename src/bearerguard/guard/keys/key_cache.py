"""The keys of one issuer: fetched once for all who need them, refreshed ahead, never wiped.

What requests see is an immutable snapshot swapped whole. Requests wait for a fetch only
when there are no keys yet, or when a token names a key that nobody has heard of. Knows no
tokens; where keys stand and how they parse is `protocol`'s.
"""

from __future__ import annotations

import math
import os
import random
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bearerguard.errors import IssuerUnavailable
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.keys import discovery
from bearerguard.guard.keys.refetch import BackOff, Bucket, max_age
from bearerguard.guard.tokens.token_cache import Lease
from bearerguard.protocol.http import document
from bearerguard.protocol.jose.jwk import KeySet, VerificationKey, parse_jwks
from bearerguard.protocol.jose.verifier import Verifier
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.flow import Fetch, Flow, Once, ask
from bearerguard.runtime.messages import FetchFailed, Response

# Many workers must not all refresh at the same moment.
_EARLIEST, _LATEST = 0.8, 0.95
# How long a lease runs on while the refresh that would extend it is under way.
_GRACE = 1.0
# An issuer's tokens have a header for each key; one that puts more into them gains less.
_MAX_PROOFS = 64
_ACCEPT = (("accept", "application/jwk-set+json, application/json"),)


class Proof(NamedTuple):
    """What proved a token: the key's verifier for its algorithm, and the key's lease."""

    verify: Verifier
    lease: Lease
    may_be_id_token: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The keys at a moment, each with the lease of the tokens it proved.

    Times are in seconds as `monotonic` counts them. What was asked for before `overdue_at` may
    be served though it is due; after it only while the issuer does not answer.

    `proofs` remembers, by a token's encoded header, what proved a token that had it: a
    shortcut past reading the header and choosing a key, made of good signatures alone.
    """

    keys: KeySet
    leases: Mapping[VerificationKey, Lease]
    fetched_at: float = 0.0
    due_at: float = math.inf
    overdue_at: float = math.inf
    dead_at: float = math.inf
    proofs: dict[bytes, Proof] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class KeysHealth:
    """How an issuer's keys are: `status` is static, absent, fresh, stale or dead."""

    status: str
    keys: int = 0
    age: float | None = None
    failures: int = 0


class KeyCache:
    """Keeps one issuer's keys.

    `clock` returns Unix seconds, as leases have them; `monotonic`, seconds that no change of
    the clock disturbs. `schedule` is told when a refresh is due, in seconds from now;
    `release`, when a key ends.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] | None = None,
        events: Events,
        schedule: Callable[[KeyCache, float], None],
        release: Callable[[], None],
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._release = release
        self._events = events
        self._schedule = schedule
        self._bucket = Bucket(issuer.key_policy.cooldown)
        self._back_off = BackOff(issuer.key_policy.cooldown)
        self._jwks_uri = issuer.jwks_uri
        self._discovered_at = -math.inf
        self._answered_at = -math.inf
        self._is_retired = False
        # When the next use of the keys has to look whether they are due, or dead.
        self._look_at = math.inf
        self._snapshot: Snapshot | None = None
        if issuer.static_keys is not None:
            keys = issuer.static_keys
            self._snapshot = Snapshot(
                keys, {key: Lease(math.inf, key_id=key.kid) for key in keys.keys}
            )
        _of_this_process.add(self)

    def candidates(
        self, algorithm: str, kid: str | None
    ) -> Flow[list[tuple[VerificationKey, Lease]]]:
        """Return the keys that may have signed a token.

        Fetches when there are no keys, or none that fits; raises `IssuerUnavailable` when
        that is not possible. An empty list says that the issuer has no such key.
        """
        snapshot = yield from self.load()
        arrived, began = self._monotonic(), -math.inf
        if arrived >= self._look_at and not self._look():
            began = yield from self._catch_up()
            snapshot = yield from self.load()
        found = _fitting(snapshot, algorithm, kid)
        if found or snapshot.due_at == math.inf:
            return found
        # A fetch that was under way when the token arrived may have missed its key.
        while not found and began < arrived:
            began = yield from ask(Once(("keys", self._issuer.url), self._refetch))
            found = _fitting(self._snapshot or snapshot, algorithm, kid)
        return found

    def proof(self, header: bytes) -> Proof | None:
        """Return what proved an earlier token with this encoded header, while its key counts."""
        if self._monotonic() >= self._look_at and not self._look():
            return None
        snapshot = self._snapshot
        return None if snapshot is None else snapshot.proofs.get(header)

    def remember(self, header: bytes, key: VerificationKey, proof: Proof) -> None:
        """Note what proved a token, unless its key was withdrawn meanwhile."""
        snapshot = self._snapshot
        if (
            snapshot is not None
            and snapshot.leases.get(key) is proof.lease
            and len(snapshot.proofs) < _MAX_PROOFS
        ):
            snapshot.proofs[header] = proof

    def load(self) -> Flow[Snapshot]:
        """Return keys that are alive, fetching them only when there are none."""
        snapshot = self._alive()
        while snapshot is None:
            yield from ask(Once(("keys", self._issuer.url), self._first_fetch))
            snapshot = self._alive()
        return snapshot

    def _catch_up(self) -> Flow[float]:
        """Fetch keys that are overdue; return when that began.

        If the issuer does not answer, those there are go on serving.
        """
        try:
            return (yield from ask(Once(("keys", self._issuer.url), self._overdue_fetch)))
        except IssuerUnavailable:
            return -math.inf

    def refresh(self) -> Flow[None]:
        """Fetch anew if that is due; raises `IssuerUnavailable` when it fails."""
        if not self._is_retired:
            self._shorten_leases()
            yield from ask(Once(("keys", self._issuer.url), self._due_fetch))

    def warm(self) -> Flow[None]:
        """Fetch the keys if they are absent or due; a failure is an event and no more."""
        try:
            yield from self.load()
            if self.next_refresh() == 0.0:
                yield from self.refresh()
        except IssuerUnavailable:
            return  # requests will try again

    def renew(self, lease: Lease) -> bool:
        """Whether what a key proved may still be believed, though its lease ran out.

        Extends the lease and sees to the refresh that is due.
        """
        snapshot = self._alive()
        if snapshot is None or lease.ended or self._is_overdue(snapshot):
            return False
        lease.extend(self._clock() + self._lease_seconds(snapshot))
        self._plan()
        return True

    def _look(self) -> bool:
        """See to the refresh that is due; whether the keys may be used meanwhile."""
        snapshot = self._alive()
        if snapshot is None or self._is_overdue(snapshot):
            return False
        self._look_at = self._monotonic() + self._lease_seconds(snapshot)
        self._plan()
        return True

    def _plan(self) -> None:
        """Have the keys refreshed when they are due: this process may know nothing of it yet."""
        delay = self.next_refresh()
        if delay is not None:
            self._schedule(self, delay)

    def _lease_seconds(self, snapshot: Snapshot) -> float:
        """Return for how long the keys need not be looked at, in seconds from now."""
        now = self._monotonic()
        ahead = max(_GRACE, snapshot.due_at - now)
        if snapshot.overdue_at > now:  # from then on requests wait for newer ones
            ahead = min(ahead, snapshot.overdue_at - now)
        return min(ahead, snapshot.dead_at - now)

    def _is_overdue(self, snapshot: Snapshot) -> bool:
        """Whether newer keys are to be waited for: they could be had, as far as is known."""
        return self._monotonic() >= snapshot.overdue_at and not self._back_off.failures

    def unschedule(self) -> None:
        """Have the next use say anew when a refresh is due: nobody is going to do it."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.due_at < math.inf:
            self._look_at = -math.inf
            for lease in snapshot.leases.values():
                lease.extend(-math.inf)

    def begin_in_child(self) -> None:
        """Go on in a forked process, whose parent's thread refreshes nothing here.

        Workers forked at the same moment must not all refresh at the same one.
        """
        snapshot, now = self._snapshot, self._monotonic()
        if snapshot is not None and snapshot.due_at < math.inf:
            left = (snapshot.due_at - now) * random.uniform(_EARLIEST, 1.0)  # noqa: S311 - no secret
            self._snapshot = replace(snapshot, due_at=min(snapshot.due_at, now + left))
        self.unschedule()

    def _shorten_leases(self) -> None:
        """Let no lease run on for longer than it was meant to, because the clock was set back."""
        snapshot = self._snapshot
        if snapshot is not None:
            latest = self._clock() + self._lease_seconds(snapshot)
            for lease in snapshot.leases.values():
                if lease.until > latest + _GRACE:
                    lease.extend(latest)

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh ahead, None when none is to come."""
        snapshot = self._alive()
        if snapshot is None or snapshot.due_at == math.inf or self._is_retired:
            return None
        now = self._monotonic()
        return max(snapshot.due_at - now, self._back_off.wait(now), 0.0)

    def retire(self) -> None:
        """Refresh nothing ahead from now on."""
        self._is_retired = True

    def health(self) -> KeysHealth:
        """Return how the keys are; those that are due are refreshed now that somebody asks."""
        snapshot, now = self._snapshot, self._monotonic()
        if snapshot is None:
            return KeysHealth("absent", failures=self._back_off.failures)
        count = len(snapshot.keys.keys)
        if snapshot.due_at == math.inf:
            return KeysHealth("static", count)
        dead = self._alive() is None
        is_old = self._back_off.failures > 0 or now >= snapshot.overdue_at
        status = "dead" if dead else "stale" if is_old else "fresh"
        if now >= snapshot.due_at:
            self._plan()
        return KeysHealth(status, count, now - snapshot.fetched_at, self._back_off.failures)

    def _alive(self) -> Snapshot | None:
        snapshot = self._snapshot
        return None if snapshot is None or self._monotonic() >= snapshot.dead_at else snapshot

    # What is done once for all who ask: each returns the time at which it began.

    def _first_fetch(self) -> Flow[float]:
        began = self._monotonic()
        if self._alive() is None:
            self._check_back_off()
            yield from self._fetch()
        return began

    def _due_fetch(self) -> Flow[float]:
        began = self._monotonic()
        if (self.next_refresh() or 0.0) <= 0.0:
            yield from self._fetch()
        return began

    def _overdue_fetch(self) -> Flow[float]:
        began, snapshot = self._monotonic(), self._alive()
        if snapshot is None or not self._is_overdue(snapshot):
            return -math.inf  # another caller has fetched them meanwhile
        yield from self._fetch()
        return began

    def _refetch(self) -> Flow[float]:
        began = self._monotonic()
        self._check_back_off()
        if self._bucket.take(began):
            yield from self._fetch()
        elif not 0 <= began - self._answered_at < self._issuer.key_policy.cooldown:
            raise self._unavailable(self._bucket.wait(began), "an unknown key was just asked for")
        return began

    def _check_back_off(self) -> None:
        pause = self._back_off.wait(self._monotonic())
        if pause > 0:
            raise self._unavailable(pause, "the last fetch of its keys failed")

    def _unavailable(self, pause: float, cause: str) -> IssuerUnavailable:
        return IssuerUnavailable(self._issuer.url, max(1, math.ceil(pause)), cause)

    def _fetch(self) -> Flow[None]:
        began = self._monotonic()
        try:
            answer = yield from self._download()
            keys, problems = parse_jwks(document.loads(answer.body))
        except Exception as error:  # whatever a transport raises, the token is not to blame
            pause = self._back_off.failed(self._monotonic())
            known = isinstance(error, FetchFailed | ValueError)
            cause = str(error) if known else f"the transport raised {type(error).__name__}"
            if isinstance(error, ValueError) and self._jwks_uri is not None:
                cause = f"{self._jwks_uri}: {cause}"
            self._jwks_uri = self._issuer.jwks_uri  # the issuer may have moved its keys
            self._events.emit("keys_fetch_failed", self._issuer.url, cause)
            raise self._unavailable(pause, cause) from error
        for problem in problems:
            self._events.emit("keys_passed_over", self._issuer.url, problem)
        self._install(keys, max_age(answer), began)

    def _install(self, keys: KeySet, lifetime: float | None, began: float) -> None:
        issuer, now, before = self._issuer, self._monotonic(), self._snapshot
        interval = issuer.key_policy.refresh
        if lifetime is not None:
            interval = min(interval, max(issuer.key_policy.cooldown, lifetime))
        delay = interval * random.uniform(_EARLIEST, _LATEST)  # noqa: S311 - no secret
        until = self._clock() + delay
        known = before.leases if before is not None else {}
        leases = {
            key: known.get(key) or Lease(until, self._release, key_id=key.kid) for key in keys.keys
        }
        # A key that the issuer withdrew while it answered is not in use for longer either.
        overdue_at, dead_at = began + issuer.key_policy.refresh, now + issuer.key_policy.max_age
        self._snapshot = Snapshot(keys, leases, now, now + delay, overdue_at, dead_at)
        self._answered_at = now
        self._look_at = now + delay
        self._back_off.succeeded()
        for key, lease in known.items():
            if key not in leases:
                lease.end()
        for lease in leases.values():
            lease.extend(until)
        self._events.emit("keys_fetched", issuer.url, f"{len(keys.keys)} keys")
        self._schedule(self, delay)

    def _download(self) -> Flow[Response]:
        uri = self._jwks_uri
        if uri is None or self._is_outdated(uri):
            uri = yield from self._discover()
            self._jwks_uri, self._discovered_at = uri, self._monotonic()
        answer = yield from ask(Fetch("GET", uri, self._headers(uri)))
        refused = document.unserved(uri, answer)
        if refused is not None:
            raise refused
        return answer

    def _headers(self, uri: str) -> tuple[tuple[str, str], ...]:
        token = self._issuer.key_policy.token
        if token is None or uri != self._issuer.jwks_uri:
            return _ACCEPT
        text = token() if callable(token) else token
        return (*_ACCEPT, ("authorization", f"Bearer {text}"))

    def _is_outdated(self, jwks_uri: str) -> bool:
        age = self._monotonic() - self._discovered_at
        return jwks_uri != self._issuer.jwks_uri and age >= self._issuer.key_policy.max_age

    def _discover(self) -> Flow[str]:
        uri = yield from discovery.discover(self._issuer, discovery.jwks_uri)
        discovery.check_endpoint(self._issuer, "jwks_uri", uri, "jwks_uri=")
        return uri


def _fitting(
    snapshot: Snapshot, algorithm: str, kid: str | None
) -> list[tuple[VerificationKey, Lease]]:
    return [(key, snapshot.leases[key]) for key in snapshot.keys.candidates(algorithm, kid)]


_of_this_process: weakref.WeakSet[KeyCache] = weakref.WeakSet()


def _after_fork() -> None:
    for keys in list(_of_this_process):
        keys.begin_in_child()


# The thread that refreshes is the parent's alone.
os.register_at_fork(after_in_child=_after_fork)
