"""One status list of an issuer: fetched once for all requests, refreshed ahead while it is used.

Its `ttl` and `exp` bound how long it is used (draft-ietf-oauth-status-list §8.3, §13.7). Requests
see an immutable list that is swapped whole, and open streams are told of it. Knows no tokens but
the one that holds the list.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from random import SystemRandom
from typing import TYPE_CHECKING, NamedTuple

from bearerguard.errors import IssuerUnavailable, StatusUnavailable, TokenError, quoted
from bearerguard.guard import revocation
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.fetch_history import FetchHistory
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.keys.key_validity import KeyValidity
from bearerguard.guard.keys.refetch_budget import Backoff
from bearerguard.guard.keys.refresher import Refreshable
from bearerguard.guard.observers import error_kind
from bearerguard.guard.tokens.jwt_validator import ParsedToken, signing_key
from bearerguard.principal import Principal
from bearerguard.protocol import names, status_list
from bearerguard.protocol.http import document
from bearerguard.protocol.http.caching import max_age
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.status_list import PublishedList, StatusList
from bearerguard.runtime.flow import Fetch, Flow, Once, ask
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.runtime.reporting.outage import Outage

if TYPE_CHECKING:
    from bearerguard.guard.health import StatusListHealth

# A refresh is due after a random part of the time, so that workers do not all refresh at once.
_EARLIEST, _LATEST = 0.8, 0.95
# It has no state that a forked child would share, or that a program seeds.
_random = SystemRandom()
# Seconds. An issuer with a shorter ttl would have each worker fetch without a pause.
_SHORTEST = 1.0
# Octets of a status list token: in base64url twice, after compression.
_MAX_TOKEN = 2 * status_list.MAX_OCTETS
_ACCEPT = (("accept", status_list.MEDIA_TYPE),)


class HeldList(NamedTuple):
    """A list at a moment; immutable except for the validities.

    `fetched_at`, `due_at` and `dead_at` are in seconds of `monotonic`, `expires_at` in Unix
    seconds.
    """

    statuses: StatusList
    validity: KeyValidity
    signer: KeyValidity
    fetched_at: float
    due_at: float
    dead_at: float
    expires_at: float


class StatusListCache:
    """The status list at one URI.

    Args:
        uri: where it is; allowed by the issuer's configuration.
        issuer: the issuer.
        keys: the issuer's keys, one of which must have signed the list.
        revocations: the guard's: a list that a withdrawn key signed is not used.
        clock: returns Unix seconds.
        monotonic: returns seconds that clock changes do not affect.
        events: reports failures.
        schedule: called with the cache and the seconds until a refresh is due.
        on_shortened: called when tokens whose status is in the list must be looked up again.
        on_installed: called with the cache when there is a newer list.
    """

    def __init__(
        self,
        uri: str,
        issuer: Issuer,
        keys: KeyCache,
        *,
        revocations: revocation.GuardRevocations | None,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        events: Events,
        schedule: Callable[[Refreshable, float], None],
        on_shortened: Callable[[], None],
        on_installed: Callable[[StatusListCache], None],
    ) -> None:
        self.uri = uri
        self.issuer = issuer
        self._keys = keys
        self._revocations = revocations
        self._clock = clock
        self._monotonic = monotonic
        self._events = events
        self._schedule = schedule
        self._on_shortened = on_shortened
        self._on_installed = on_installed
        self._backoff = Backoff(issuer.key_policy.cooldown)
        self._outage = Outage(monotonic)
        self._history = FetchHistory()
        self._cause = ""  # of the last failure, if nothing was fetched since
        self._failed_at = -math.inf
        self._held: HeldList | None = None
        self._is_planned = False
        self._is_used = False
        self._is_watched = False  # by an open stream, since the last fetch
        self._is_retired = False
        _of_this_process.add(self)

    def current(self) -> HeldList | None:
        """Return the list if it may be used now, else None; plans its refresh."""
        held = self._held
        if held is None or not self._is_alive(held):
            return None
        self._is_used = True
        held.validity.set_until(self._clock() + self._seconds_left(held))
        self._plan()
        return held

    def load(self) -> Flow[HeldList]:
        """Return the list, fetched if need be; raises `StatusUnavailable` if that fails."""
        held = self.current()
        while held is None:
            yield from ask(Once(self._name, self._first_fetch))
            held = self.current()
        return held

    def watch(self) -> HeldList | None:
        """Return the list for an open stream, None if there is none yet; plans its refresh.

        It may be past its age, while the fetch of another has neither succeeded nor failed.
        """
        self._is_used = self._is_watched = True
        self._plan()
        return self._held

    @property
    def is_lost(self) -> bool:
        """Whether nobody can tell a status: the list may not be used, and no other was fetched."""
        held = self._held
        return self._cause != "" and (held is None or not self._is_alive(held))

    def refresh(self) -> Flow[None]:
        """Fetch the list if that is due; raises `StatusUnavailable` if it fails."""
        yield from ask(Once(self._name, self._due_fetch))

    def next_refresh(self) -> float | None:
        """Return the seconds until the next refresh, None if there will be none.

        A list that no token has used since it was fetched is not refreshed, nor one past its age,
        which the next request fetches: but an open stream makes none.
        """
        held, now = self._held, self._monotonic()
        if self._is_watched and (held is None or not self._is_alive(held)):
            due_at = now
        elif held is None or now >= held.dead_at:
            self._is_planned = False
            return None
        else:
            due_at = held.due_at
        if self._is_retired or not self._is_used:
            self._is_planned = False
            return None
        return max(due_at - now, self._backoff.wait(now), 0.0)

    def retire(self) -> None:
        """Stop refreshing."""
        self._is_retired = True

    def unschedule(self) -> None:
        """Forget that a refresh is planned: the next use of the list plans it again."""
        self._is_planned = False
        if self._held is not None:
            self._held.validity.set_until(-math.inf)

    def health(self) -> StatusListHealth:
        """Return the state of the list."""
        from bearerguard.guard.health import StatusListHealth  # noqa: PLC0415 - as for keys

        held, failures, history = self._held, self._backoff.failures, self._history
        now = self._monotonic()
        if held is not None and self._is_alive(held):
            status, age = "stale" if failures else "fresh", now - held.fetched_at
        else:
            # A token that names it has it fetched again, after a pause that is shorter.
            is_wanted = failures and now - self._failed_at < self.issuer.key_policy.refresh
            status, age, held = "dead" if is_wanted else "unused", None, None
        return StatusListHealth(
            self.issuer.url,
            status,
            ready=status != "dead",
            fresh=status in {"fresh", "unused"},
            statuses=0 if held is None else len(held.statuses),
            age=age,
            failures=failures,
            last_success=history.last_success,
            last_error=history.last_error,
            latencies=history.latencies,
        )

    @property
    def _name(self) -> tuple[str, str, str]:
        return "status_list", self.issuer.url, self.uri

    def _is_alive(self, held: HeldList) -> bool:
        now = self._clock()
        return (
            self._monotonic() < held.dead_at
            and now < held.expires_at
            and not held.signer.ended
            and (now < held.signer.until or self._keys.renew(held.signer))
        )

    def _seconds_left(self, held: HeldList) -> float:
        return min(held.dead_at - self._monotonic(), held.expires_at - self._clock())

    def _plan(self) -> None:
        if not self._is_planned:
            delay = self.next_refresh()
            if delay is not None:
                self._is_planned = True
                self._schedule(self, delay)

    # Run once for all concurrent requests

    def _first_fetch(self) -> Flow[None]:
        held = self._held
        if held is not None and self._is_alive(held):
            return  # a concurrent request has fetched it
        pause = self._backoff.wait(self._monotonic())
        if pause > 0:
            raise self._unavailable(pause, f"the last fetch failed: {self._cause}")
        yield from self._fetch()

    def _due_fetch(self) -> Flow[None]:
        wait = self.next_refresh()
        if wait is not None and wait <= 0:
            yield from self._fetch()

    def _fetch(self) -> Flow[None]:
        began = self._monotonic()
        try:
            published, signer, response = yield from self._download()
        except Exception as error:  # whatever a transport raises, it is not the fault of the token
            self._failed_at = now = self._monotonic()
            pause = self._backoff.failed(now)
            self._history.failed(self._clock(), error_kind(error), now - began)
            self._outage.failed()
            self._is_watched = False  # a stream that is still open watches it again
            self._cause = cause = self._described(error)
            self._events.emit("status_list_failed", self.issuer.url, cause, about=self.uri)
            raise self._unavailable(pause, cause) from error
        self._backoff.succeeded()
        self._cause = ""
        self._history.succeeded(self._clock(), self._monotonic() - began)
        self._install(published, signer, response, began)
        if restored := self._outage.succeeded():
            detail = f"{self.uri}: {restored}"
            self._events.emit("status_list_restored", self.issuer.url, detail, about=self.uri)

    def _download(self) -> Flow[tuple[PublishedList, KeyValidity, Response]]:
        with self._events.observers.watch("status_list", self.issuer.url)(self.uri) as fetch:
            fetch.response = response = yield from ask(Fetch("GET", self.uri, _ACCEPT))
            refused = document.unserved(self.uri, response)
            if refused is not None:
                raise refused
            token = jwt.parse(response.body.strip(), _MAX_TOKEN)
            header = jwt.parse_header(token.header)
            if jwt.media_type(header.typ) != names.STATUS_LIST_JWT:
                raise ValueError(f"its typ is {quoted(header.typ)}")
            if header.algorithm in jwk.SYMMETRIC:
                raise ValueError(f"its alg is {header.algorithm}")
            parsed = ParsedToken(token, self.issuer, self._keys)
            _, selected = yield from signing_key(parsed, header)
            signer = selected.validity
            yield from self._check_withdrawn(signer.key_id)
            published = status_list.read(
                token.claims,
                uri=self.uri,
                issuers=(self.issuer.url, *self.issuer.aliases),
                now=self._clock(),
                leeway=self.issuer.leeway,
            )
        return published, signer, response

    def _check_withdrawn(self, key_id: str | None) -> Flow[None]:
        revocations = self._revocations
        if revocations is not None and key_id is not None:
            yield from revocations.ensure(self.issuer.url)
            issuer = Principal(issuer=self.issuer.url)
            if revocations.current.covers(issuer, key_id):
                raise ValueError(f"the key {quoted(key_id)} that signed it was withdrawn")

    def _install(
        self, published: PublishedList, signer: KeyValidity, response: Response, began: float
    ) -> None:
        now, clock, before = self._monotonic(), self._clock(), self._held
        expires_at = math.inf
        if published.expires_at is not None:
            expires_at = published.expires_at + self.issuer.leeway
        life = min(self._lifetime(published, response), expires_at - clock)
        # Counted from the start of the fetch: what was revoked during it may not be in the list.
        dead_at, due_at = began + life, now + life * _random.uniform(_EARLIEST, _LATEST)
        validity = KeyValidity(clock + dead_at - now, self._on_shortened)
        self._is_used = self._is_watched = self._is_planned = False
        self._held = HeldList(
            published.statuses, validity, signer, began, min(due_at, dead_at), dead_at, expires_at
        )
        if before is not None:
            before.validity.end()
        self._on_installed(self)

    def _lifetime(self, published: PublishedList, response: Response) -> float:
        """Return for how many seconds the list is used; its own claims override HTTP's caching."""
        policy = self.issuer.key_policy
        if published.ttl is not None:
            return min(max(published.ttl, _SHORTEST), policy.max_age)
        cached = None if published.expires_at is not None else max_age(response)
        return policy.refresh if cached is None else min(policy.refresh, max(cached, _SHORTEST))

    def _unavailable(self, pause: float, cause: str) -> StatusUnavailable:
        return StatusUnavailable(self.issuer.url, max(1, math.ceil(pause)), cause)

    def _described(self, error: Exception) -> str:
        """Return why a fetch failed, with the URI, whose characters are checked."""
        if isinstance(error, FetchFailed):
            return str(error)
        known = isinstance(error, IssuerUnavailable | ValueError)
        cause = str(error) if known else f"{type(error).__name__} was raised"
        return f"{self.uri}: {error.remedy if isinstance(error, TokenError) else cause}"


_of_this_process: weakref.WeakSet[StatusListCache] = weakref.WeakSet()


def _after_fork() -> None:
    for cache in list(_of_this_process):
        cache.unschedule()


# A child has no thread that refreshes.
os.register_at_fork(after_in_child=_after_fork)
