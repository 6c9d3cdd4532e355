"""The keys of one issuer: fetched once for all who need them, refreshed ahead, never wiped.

What requests see is an immutable snapshot swapped whole. Requests wait for a fetch only
when there are no keys yet, or when a token names a key that nobody has heard of. Knows no
tokens; where keys stand and how they parse is `protocol`'s.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from bearerguard.errors import IssuerUnavailable, quoted
from bearerguard.flow import Fetch, Flow, Once, ask
from bearerguard.guard.discovery import discover
from bearerguard.guard.events import Events
from bearerguard.guard.issuer import Issuer
from bearerguard.guard.refetch import BackOff, Bucket, max_age
from bearerguard.guard.token_cache import Lease
from bearerguard.messages import FetchFailed, Response
from bearerguard.protocol import metadata, strict_json
from bearerguard.protocol.jwk import KeySet, VerificationKey, parse_jwks
from bearerguard.protocol.verifier import Verifier

_OK = 200
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
    """The keys at a moment, each with the lease of the tokens it proved; times in seconds.

    `proofs` remembers, by a token's encoded header, what proved a token that had it: a
    shortcut past reading the header and choosing a key, made of good signatures alone.
    """

    keys: KeySet
    leases: Mapping[VerificationKey, Lease]
    fetched_at: float = 0.0
    due_at: float = math.inf
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

    `schedule` is told when a refresh is due, in seconds from now; `release`, when a key ends.
    """

    def __init__(
        self,
        issuer: Issuer,
        *,
        clock: Callable[[], float],
        events: Events,
        schedule: Callable[[KeyCache, float], None],
        release: Callable[[], None],
    ) -> None:
        self._issuer = issuer
        self._clock = clock
        self._release = release
        self._events = events
        self._schedule = schedule
        self._bucket = Bucket(issuer.keys_cooldown)
        self._back_off = BackOff(issuer.keys_cooldown)
        self._jwks_uri = issuer.jwks_uri
        self._discovered_at = -math.inf
        self._answered_at = -math.inf
        self._is_retired = False
        self._snapshot: Snapshot | None = None
        if issuer.static_keys is not None:
            keys = issuer.static_keys
            self._snapshot = Snapshot(
                keys, {key: Lease(math.inf, key_id=key.kid) for key in keys.keys}
            )

    def candidates(
        self, algorithm: str, kid: str | None
    ) -> Flow[list[tuple[VerificationKey, Lease]]]:
        """Return the keys that may have signed a token.

        Fetches when there are no keys, or none that fits; raises `IssuerUnavailable` when
        that is not possible. An empty list says that the issuer has no such key.
        """
        snapshot = yield from self.load()
        found = _fitting(snapshot, algorithm, kid)
        if found or snapshot.due_at == math.inf:
            return found
        arrived, began = self._clock(), -math.inf
        # A fetch that was under way when the token arrived may have missed its key.
        while not found and began < arrived:
            began = yield from ask(Once(("keys", self._issuer.url), self._refetch))
            found = _fitting(self._snapshot or snapshot, algorithm, kid)
        return found

    def proof(self, header: bytes) -> Proof | None:
        """Return what proved an earlier token with this encoded header, while its key counts."""
        snapshot = self._snapshot
        if snapshot is None or self._clock() >= snapshot.dead_at:
            return None
        return snapshot.proofs.get(header)

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

    def refresh(self) -> Flow[None]:
        """Fetch anew if that is due; raises `IssuerUnavailable` when it fails."""
        if not self._is_retired:
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
        if snapshot is None or lease.ended:
            return False
        lease.extend(min(snapshot.dead_at, self._clock() + _GRACE))
        self._schedule(self, self.next_refresh() or 0.0)
        return True

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh ahead, None when none is to come."""
        snapshot = self._alive()
        if snapshot is None or snapshot.due_at == math.inf or self._is_retired:
            return None
        now = self._clock()
        return max(snapshot.due_at - now, self._back_off.wait(now), 0.0)

    def retire(self) -> None:
        """Refresh nothing ahead from now on."""
        self._is_retired = True

    def health(self) -> KeysHealth:
        """Return how the keys are."""
        snapshot, now = self._snapshot, self._clock()
        if snapshot is None:
            return KeysHealth("absent", failures=self._back_off.failures)
        count = len(snapshot.keys.keys)
        if snapshot.due_at == math.inf:
            return KeysHealth("static", count)
        dead = self._alive() is None
        status = "dead" if dead else "stale" if self._back_off.failures else "fresh"
        return KeysHealth(status, count, now - snapshot.fetched_at, self._back_off.failures)

    def _alive(self) -> Snapshot | None:
        snapshot = self._snapshot
        return None if snapshot is None or self._clock() >= snapshot.dead_at else snapshot

    # What is done once for all who ask: each returns the time at which it began.

    def _first_fetch(self) -> Flow[float]:
        began = self._clock()
        if self._alive() is None:
            self._check_back_off()
            yield from self._fetch()
        return began

    def _due_fetch(self) -> Flow[float]:
        began = self._clock()
        if (self.next_refresh() or 0.0) <= 0.0:
            yield from self._fetch()
        return began

    def _refetch(self) -> Flow[float]:
        began = self._clock()
        self._check_back_off()
        if self._bucket.take(began):
            yield from self._fetch()
        elif not 0 <= began - self._answered_at < self._issuer.keys_cooldown:
            raise self._unavailable(self._bucket.wait(began), "an unknown key was just asked for")
        return began

    def _check_back_off(self) -> None:
        pause = self._back_off.wait(self._clock())
        if pause > 0:
            raise self._unavailable(pause, "the last fetch of its keys failed")

    def _unavailable(self, pause: float, cause: str) -> IssuerUnavailable:
        return IssuerUnavailable(self._issuer.url, max(1, math.ceil(pause)), cause)

    def _fetch(self) -> Flow[None]:
        try:
            answer = yield from self._download()
            keys, problems = parse_jwks(strict_json.loads(answer.body))
        except Exception as error:  # whatever a transport raises, the token is not to blame
            self._jwks_uri = self._issuer.jwks_uri  # the issuer may have moved its keys
            pause = self._back_off.failed(self._clock())
            known = isinstance(error, FetchFailed | ValueError)
            cause = str(error) if known else f"the transport raised {type(error).__name__}"
            self._events.emit("keys_fetch_failed", self._issuer.url, cause)
            raise self._unavailable(pause, cause) from error
        for problem in problems:
            self._events.emit("keys_passed_over", self._issuer.url, problem)
        self._install(keys, max_age(answer))

    def _install(self, keys: KeySet, lifetime: float | None) -> None:
        issuer, now, before = self._issuer, self._clock(), self._snapshot
        interval = issuer.keys_refresh
        if lifetime is not None:
            interval = min(interval, max(issuer.keys_cooldown, lifetime))
        due_at = now + interval * random.uniform(_EARLIEST, _LATEST)  # noqa: S311 - no secret
        known = before.leases if before is not None else {}
        leases = {
            key: known.get(key) or Lease(due_at, self._release, key_id=key.kid) for key in keys.keys
        }
        self._snapshot = Snapshot(keys, leases, now, due_at, now + issuer.keys_max_age)
        self._answered_at = now
        self._back_off.succeeded()
        for key, lease in known.items():
            if key not in leases:
                lease.end()
        for lease in leases.values():
            lease.extend(due_at)
        self._events.emit("keys_fetched", issuer.url, f"{len(keys.keys)} keys")
        self._schedule(self, due_at - now)

    def _download(self) -> Flow[Response]:
        uri = self._jwks_uri
        if uri is None or self._is_outdated(uri):
            uri = yield from self._discover()
            self._jwks_uri, self._discovered_at = uri, self._clock()
        answer = yield from ask(Fetch("GET", uri, self._headers(uri)))
        if answer.status != _OK:
            raise FetchFailed(f"{uri}: status {answer.status}")
        return answer

    def _headers(self, uri: str) -> tuple[tuple[str, str], ...]:
        token = self._issuer.keys_token
        if token is None or uri != self._issuer.jwks_uri:
            return _ACCEPT
        text = token() if callable(token) else token
        return (*_ACCEPT, ("authorization", f"Bearer {text}"))

    def _is_outdated(self, jwks_uri: str) -> bool:
        age = self._clock() - self._discovered_at
        return jwks_uri != self._issuer.jwks_uri and age >= self._issuer.keys_max_age

    def _discover(self) -> Flow[str]:
        jwks_uri = yield from discover(self._issuer, metadata.parse_jwks_uri)
        if not self._issuer.may_fetch(jwks_uri):
            raise FetchFailed(f"{quoted(jwks_uri)}: the jwks_uri of its metadata is no https URL")
        return jwks_uri


def _fitting(
    snapshot: Snapshot, algorithm: str, kid: str | None
) -> list[tuple[VerificationKey, Lease]]:
    return [(key, snapshot.leases[key]) for key in snapshot.keys.candidates(algorithm, kid)]
