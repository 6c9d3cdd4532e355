"""The keys of one issuer: fetched once for all requests, refreshed ahead, kept during an outage.

Requests see an immutable snapshot that is swapped whole. They wait for a fetch only when there
are no keys yet, or when a token names an unknown key. Knows no tokens; how metadata and keys
are parsed belongs to `protocol`.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable, Mapping
from random import SystemRandom
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bearerguard.errors import IssuerUnavailable
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.fetch_history import FetchHistory
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.keys.refetch_budget import Backoff, RefetchBudget
from bearerguard.guard.observers import error_kind
from bearerguard.protocol.http import document
from bearerguard.protocol.http.caching import max_age
from bearerguard.protocol.jose.jwk import KeySet, VerificationKey, parse_jwks
from bearerguard.protocol.jose.verifier import Verifier
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.flow import Fetch, Flow, Once, ask
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.runtime.reporting.outage import Outage

if TYPE_CHECKING:
    from bearerguard.guard.health import KeysHealth

# A refresh is due after a random part of the interval, so that workers do not all refresh at once.
_EARLIEST, _LATEST = 0.8, 0.95
# It has no state that a forked child would share, or that a program seeds.
_random = SystemRandom()
# For how long keys stay valid while the refresh that is due is under way.
_GRACE = 1.0
# Usually an issuer's tokens have one JOSE header for each key. More than this are not cached.
_MAX_HEADERS = 64
_ACCEPT = (("accept", "application/jwk-set+json, application/json"),)


class SelectedKey(NamedTuple):
    """The key that a JOSE header selects: its verifier for the algorithm, and its validity."""

    verify: Verifier
    validity: KeyValidity
    may_be_id_token: bool


class Snapshot(NamedTuple):
    """The keys at a moment, each with its validity; immutable except for the validities.

    Times are in seconds of `monotonic`. A refresh is planned for `due_at`. After `overdue_at`,
    requests wait for newer keys, unless the issuer does not respond; after `dead_at` the keys
    are not used any more.
    """

    keys: KeySet
    validities: Mapping[VerificationKey, KeyValidity]
    fetched_at: float = 0.0
    due_at: float = math.inf
    overdue_at: float = math.inf
    dead_at: float = math.inf


# The keys that encoded JOSE headers select: a shortcut past parsing the header and choosing a key.
# Noted only after a valid signature, and swapped whole with the snapshot of these keys.
Selections: TypeAlias = tuple[Snapshot | None, Mapping[bytes, SelectedKey]]
_NOTHING: Mapping[bytes, SelectedKey] = MappingProxyType({})


class KeyCache:
    """The keys of one issuer.

    Args:
        issuer: the issuer.
        clock: returns Unix seconds.
        monotonic: returns seconds that clock changes do not affect.
        events: reports fetches.
        schedule: called with the cache and the seconds until a refresh is due.
        on_shortened: called when tokens that a key verified must be looked up again.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] | None = None,
        events: Events,
        schedule: Callable[[KeyCache, float], None],
        on_shortened: Callable[[], None],
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._on_shortened = on_shortened
        self._events = events
        self._schedule = schedule
        self._budget = RefetchBudget(issuer.key_policy.cooldown)
        self._backoff = Backoff(issuer.key_policy.cooldown)
        self._outage = Outage(self._monotonic)
        self._jwks_uri = issuer.jwks_uri
        self._discovered_at = -math.inf
        self._fetched_at = -math.inf
        self._is_retired = False
        self._history = FetchHistory()
        self._cause = ""  # of the last failure
        # When the next use of the keys has to check whether they are due, or dead.
        self._look_at = math.inf
        self._snapshot: Snapshot | None = None
        self._selections: Selections = (None, _NOTHING)
        if issuer.static_keys is not None:
            keys = issuer.static_keys
            self._snapshot = Snapshot(
                keys,
                MappingProxyType({key: KeyValidity(math.inf, key_id=key.kid) for key in keys.keys}),
            )
        _of_this_process.add(self)

    def candidates(
        self, algorithm: str, kid: str | None
    ) -> Flow[list[tuple[VerificationKey, KeyValidity]]]:
        """Return the keys that may have signed a token.

        Fetches the keys if there are none, or none that fits; raises `IssuerUnavailable` if
        that fails. An empty list means that the issuer has no such key.
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

    def selected(self, header: bytes) -> SelectedKey | None:
        """Return the valid key that verified an earlier token with this encoded header, or None."""
        if self._monotonic() >= self._look_at and not self._look():
            return None
        snapshot, selected = self._selections
        return selected.get(header) if snapshot is self._snapshot else None

    def remember(self, header: bytes, key: VerificationKey, selected: SelectedKey) -> None:
        """Note which key verified a token, unless the key has been removed since."""
        snapshot, (noted_for, noted) = self._snapshot, self._selections
        if snapshot is None or snapshot.validities.get(key) is not selected.validity:
            return
        if noted_for is not snapshot:
            noted = _NOTHING
        if len(noted) < _MAX_HEADERS:  # a race between threads loses one note
            self._selections = (snapshot, MappingProxyType({**noted, header: selected}))

    def load(self) -> Flow[Snapshot]:
        """Return keys that may be used, fetching them only if there are none."""
        snapshot = self._alive()
        while snapshot is None:
            yield from ask(Once(("keys", self._issuer.url), self._first_fetch))
            snapshot = self._alive()
        return snapshot

    def held(self) -> tuple[VerificationKey, ...]:
        """Return the keys that are held now, to explain a refusal."""
        return () if self._snapshot is None else self._snapshot.keys.keys

    def _catch_up(self) -> Flow[float]:
        """Fetch keys that are overdue; return when the fetch began.

        If the issuer does not respond, the present keys stay in use.
        """
        try:
            return (yield from ask(Once(("keys", self._issuer.url), self._overdue_fetch)))
        except IssuerUnavailable:
            return -math.inf

    def refresh(self) -> Flow[None]:
        """Fetch the keys if that is due; raises `IssuerUnavailable` if it fails."""
        if not self._is_retired:
            self._shorten_validities()
            yield from ask(Once(("keys", self._issuer.url), self._due_fetch))

    def warm(self) -> Flow[None]:
        """Fetch the keys if they are absent or due; a failure is only reported."""
        try:
            yield from self.load()
            if self.next_refresh() == 0.0:
                yield from self.refresh()
        except IssuerUnavailable:
            return  # requests will try again

    def renew(self, validity: KeyValidity) -> bool:
        """Prolong a validity that has passed, if its key may still be used; return whether it may.

        Plans the refresh that is due.
        """
        snapshot = self._alive()
        if snapshot is None or validity.ended or self._is_overdue(snapshot):
            return False
        validity.set_until(self._clock() + self._validity_seconds(snapshot))
        self._plan()
        return True

    def _look(self) -> bool:
        """Plan the refresh that is due; return whether the keys may be used meanwhile."""
        snapshot = self._alive()
        if snapshot is None or self._is_overdue(snapshot):
            return False
        self._look_at = self._monotonic() + self._validity_seconds(snapshot)
        self._plan()
        return True

    def _plan(self) -> None:
        """Schedule the next refresh, which may not be scheduled in this process yet."""
        delay = self.next_refresh()
        if delay is not None:
            self._schedule(self, delay)

    def _validity_seconds(self, snapshot: Snapshot) -> float:
        """Return for how many seconds from now the keys need not be checked."""
        now = self._monotonic()
        ahead = max(_GRACE, snapshot.due_at - now)
        if snapshot.overdue_at > now:  # after that, requests wait for newer keys
            ahead = min(ahead, snapshot.overdue_at - now)
        return min(ahead, snapshot.dead_at - now)

    def _is_overdue(self, snapshot: Snapshot) -> bool:
        """Whether requests must wait for newer keys: these are overdue, and no fetch has failed."""
        return self._monotonic() >= snapshot.overdue_at and not self._backoff.failures

    def unschedule(self) -> None:
        """Forget that a refresh is planned: the next use of the keys plans it again."""
        snapshot = self._snapshot
        if snapshot is not None and snapshot.due_at < math.inf:
            self._look_at = -math.inf
            for validity in snapshot.validities.values():
                validity.set_until(-math.inf)

    def begin_in_child(self) -> None:
        """Continue in a forked process, which has no thread that refreshes.

        Workers forked at the same moment must not all refresh at the same moment.
        """
        snapshot, now = self._snapshot, self._monotonic()
        if snapshot is not None and snapshot.due_at < math.inf:
            left = (snapshot.due_at - now) * _random.uniform(_EARLIEST, 1.0)
            self._snapshot = snapshot._replace(due_at=min(snapshot.due_at, now + left))
            noted_for, noted = self._selections
            if noted_for is snapshot:  # the same keys
                self._selections = (self._snapshot, noted)
        self.unschedule()

    def _shorten_validities(self) -> None:
        """Shorten validities that a clock set back would prolong."""
        snapshot = self._snapshot
        if snapshot is not None:
            latest = self._clock() + self._validity_seconds(snapshot)
            for validity in snapshot.validities.values():
                if validity.until > latest + _GRACE:
                    validity.set_until(latest)

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh, None if there will be none."""
        snapshot = self._alive()
        if snapshot is None or snapshot.due_at == math.inf or self._is_retired:
            return None
        now = self._monotonic()
        return max(snapshot.due_at - now, self._backoff.wait(now), 0.0)

    def retire(self) -> None:
        """Stop refreshing."""
        self._is_retired = True

    @property
    def is_stale(self) -> bool:
        """Whether the keys should have been renewed: a fetch failed, or has not been made."""
        snapshot = self._snapshot
        return (
            snapshot is not None
            and snapshot.due_at < math.inf
            and (self._backoff.failures > 0 or self._monotonic() >= snapshot.overdue_at)
        )

    def health(self) -> KeysHealth:
        """Return the state of the keys; plans a refresh that is due."""
        from bearerguard.guard.health import KeysHealth  # noqa: PLC0415 - it is seldom asked for

        if not self._issuer.needs_keys:
            return KeysHealth("unused", ready=True, fresh=True)
        snapshot, now = self._snapshot, self._monotonic()
        count = 0 if snapshot is None else len(snapshot.keys.keys)
        if snapshot is not None and snapshot.due_at == math.inf:
            return KeysHealth("static", ready=True, fresh=True, keys=count)
        status, age = "absent", None
        if snapshot is not None:
            status = "dead" if self._alive() is None else "stale" if self.is_stale else "fresh"
            age = now - snapshot.fetched_at
            if now >= snapshot.due_at:
                self._plan()
        history = self._history
        return KeysHealth(
            status,
            ready=status in {"fresh", "stale"},
            fresh=status == "fresh",
            keys=count,
            age=age,
            failures=self._backoff.failures,
            last_success=history.last_success,
            last_error=history.last_error,
            latencies=history.latencies,
        )

    def plan_fetch(self) -> None:
        """Have the thread fetch keys if none can be used: perhaps no request arrives to do so."""
        if self._issuer.needs_keys and self._alive() is None:
            self._schedule(self, self._backoff.wait(self._monotonic()))

    def _alive(self) -> Snapshot | None:
        snapshot = self._snapshot
        return None if snapshot is None or self._monotonic() >= snapshot.dead_at else snapshot

    # Run once for all concurrent requests; each returns the time at which it began.

    def _first_fetch(self) -> Flow[float]:
        began = self._monotonic()
        if self._alive() is None:
            self._check_backoff()
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
            return -math.inf  # a concurrent request has fetched them
        yield from self._fetch()
        return began

    def _refetch(self) -> Flow[float]:
        began = self._monotonic()
        self._check_backoff()
        if self._budget.take(began):
            yield from self._fetch()
        elif not 0 <= began - self._fetched_at < self._issuer.key_policy.cooldown:
            raise self._unavailable(
                self._budget.wait(began), "another unknown key was requested shortly before"
            )
        return began

    def _check_backoff(self) -> None:
        pause = self._backoff.wait(self._monotonic())
        if pause > 0:
            raise self._unavailable(pause, f"the last fetch of its keys failed: {self._cause}")

    def _unavailable(self, pause: float, cause: str) -> IssuerUnavailable:
        return IssuerUnavailable(self._issuer.url, max(1, math.ceil(pause)), cause)

    def _fetch(self) -> Flow[None]:
        began = self._monotonic()
        try:
            keys, problems, response = yield from self._download()
        except Exception as error:  # whatever a transport raises, it is not the fault of the token
            now = self._monotonic()
            pause = self._backoff.failed(now)
            self._history.failed(self._clock(), error_kind(error), now - began)
            self._outage.failed()
            known = isinstance(error, FetchFailed | ValueError)
            cause = str(error) if known else f"the transport raised {type(error).__name__}"
            if isinstance(error, ValueError) and self._jwks_uri is not None:
                cause = f"{self._jwks_uri}: {cause}"
            self._cause = cause
            self._jwks_uri = self._issuer.jwks_uri  # the issuer may have moved its keys
            self._events.emit("keys_fetch_failed", self._issuer.url, cause)
            raise self._unavailable(pause, cause) from error
        for problem in problems:
            self._events.emit("keys_passed_over", self._issuer.url, problem)
        self._install(keys, max_age(response), began)

    def _install(self, keys: KeySet, lifetime: float | None, began: float) -> None:
        issuer, now, before = self._issuer, self._monotonic(), self._snapshot
        interval = issuer.key_policy.refresh
        if lifetime is not None:
            interval = min(interval, max(issuer.key_policy.cooldown, lifetime))
        delay = interval * _random.uniform(_EARLIEST, _LATEST)
        until = self._clock() + delay
        known = before.validities if before is not None else {}
        validities = {
            key: known.get(key) or KeyValidity(until, self._on_shortened, key_id=key.kid)
            for key in keys.keys
        }
        # Counted from the start of the fetch, so that a key withdrawn during it is not used for
        # longer.
        overdue_at, dead_at = began + issuer.key_policy.refresh, now + issuer.key_policy.max_age
        self._snapshot = Snapshot(
            keys, MappingProxyType(validities), now, now + delay, overdue_at, dead_at
        )
        self._fetched_at = now
        self._look_at = now + delay
        self._backoff.succeeded()
        self._history.succeeded(self._clock(), now - began)
        for key, validity in known.items():
            if key not in validities:
                validity.end()
        for validity in validities.values():
            validity.set_until(until)
        self._events.emit("keys_fetched", issuer.url, f"{len(keys.keys)} keys")
        if restored := self._outage.succeeded():
            self._events.emit("keys_restored", issuer.url, restored)
        self._schedule(self, delay)

    def _download(self) -> Flow[tuple[KeySet, tuple[str, ...], Response]]:
        uri = self._jwks_uri
        if uri is None or self._is_outdated(uri):
            uri = yield from self._discover()
            self._jwks_uri, self._discovered_at = uri, self._monotonic()
        with self._events.observers.watch("jwks", self._issuer.url)(uri) as fetch:
            fetch.response = response = yield from ask(Fetch("GET", uri, self._headers(uri)))
            refused = document.unserved(uri, response)
            if refused is not None:
                raise refused
            return *parse_jwks(document.loads(response.body)), response

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
        from bearerguard.guard.keys import discovery  # noqa: PLC0415 - only a fetch needs it

        watch = self._events.observers.watch("metadata", self._issuer.url)
        uri = yield from discovery.discover(self._issuer, discovery.jwks_uri, watch)
        discovery.check_endpoint(self._issuer, "jwks_uri", uri, "jwks_uri=")
        return uri


def _fitting(
    snapshot: Snapshot, algorithm: str, kid: str | None
) -> list[tuple[VerificationKey, KeyValidity]]:
    return [(key, snapshot.validities[key]) for key in snapshot.keys.candidates(algorithm, kid)]


_of_this_process: weakref.WeakSet[KeyCache] = weakref.WeakSet()


def _after_fork() -> None:
    for keys in list(_of_this_process):
        keys.begin_in_child()


# A child has no thread that refreshes.
os.register_at_fork(after_in_child=_after_fork)
