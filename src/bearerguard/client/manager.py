"""The token manager: a token that is always fresh, from a source, kept in a storage.

Decides when a token is renewed, and sees that it is renewed once: in this process by
`flight`, among processes by the storage's lock. A fresh token costs a comparison: no lock,
no flow. While a token still serves, nobody waits for the next.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from bearerguard.client import driving
from bearerguard.client.backoff import Backoff
from bearerguard.client.dpop import Proofs
from bearerguard.client.renewal import Renewal
from bearerguard.client.single_flight import Flights, landed
from bearerguard.client.sources.token_source import (
    Demand,
    Interactive,
    Revoking,
    TokenSource,
    Widening,
)
from bearerguard.client.storages.storage import MemoryStorage, Storage
from bearerguard.client.token import NO_LEASE, Lease, Token
from bearerguard.errors import (
    BearerGuardError,
    ConfigurationError,
    InsufficientScope,
    LoginRequired,
    StepUpRequired,
)
from bearerguard.runtime.fetching import Transport, default_transport
from bearerguard.runtime.flow import Blocking, Flow, arun, ask, run

_log = logging.getLogger("bearerguard")


class TokenManager:
    """Hands out a token that serves, and renews it ahead of its end.

    Share one among all threads and tasks that call as the same client.

    Args:
        source: where tokens come from.
        storage: where they are kept; in memory by default.
        key: under what they are kept, in place of the source's own.
        transport: what token requests are sent by; an `HttpTransport` by default.
        clock: returns Unix seconds.
        monotonic: returns seconds that no change of the clock disturbs.

    Attributes:
        source: where tokens come from.
        key: under what they are kept.
        monotonic: its seconds.

    Raises:
        ConfigurationError: an option does not do what it must.
    """

    def __init__(
        self,
        source: TokenSource,
        *,
        storage: Storage | None = None,
        key: str | None = None,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        if not callable(getattr(source, "token", None)):
            raise ConfigurationError(
                f"source: pass a token source such as ClientCredentials, not {source!r}"
            )
        self.source = source
        self.key = key or source.key
        self._storage = storage or MemoryStorage()
        self.monotonic = monotonic
        self._handlers, self._async_handlers = driving.handlers(transport or default_transport())
        self._lease = NO_LEASE
        self._backoff = Backoff(monotonic)
        self._proofs: Proofs | None = None
        self._clock = clock
        self._renewal = Renewal(self._storage, self.key, clock=clock, monotonic=monotonic)
        self._flights = Flights(self._renew)

    def __repr__(self) -> str:
        return f"TokenManager({self.source!r}, storage={self._storage.name})"

    # Getting a token

    def token(self) -> Token:
        """Return a token that serves now.

        Raises:
            LoginRequired: a person must log in first.
            TokenRefused: the authorization server gives none.
            TokenUnavailable: it could not be asked.
            StorageError: the token could not be kept.
        """
        return self.lease().token

    async def atoken(self) -> Token:
        """Return a token that serves now; raises as `token` does."""
        return (await self.alease()).token

    def fresh(self) -> Lease | None:
        """Return the token in use, None when something has to be done first."""
        lease = self._lease
        return lease if lease.is_fresh(self.monotonic(), self._clock()) else None

    def lease(self) -> Lease:
        """Return the token in use, or wait for one."""
        return self._serving() or self._joined(self._lease).result()

    async def alease(self) -> Lease:
        """Return the token in use, or wait for one."""
        return self._serving() or await landed(self._joined(self._lease))

    def renew(self, refused: Lease) -> Lease:
        """Return another token than one that an API refused: one that is here, or a new one.

        What the source gives again is returned again.
        """
        lease = self._newer(refused)
        return lease or self._joined(refused).result()

    async def arenew(self, refused: Lease) -> Lease:
        """Return another token than one that an API refused."""
        lease = self._newer(refused)
        return lease or await landed(self._joined(refused))

    def note_expiry(self, lease: Lease, seconds: float) -> None:
        """Note what an API says of a token: it lives for `seconds` more, if that is less.

        Ignored for a lease that is no longer in use.
        """
        monotonic = self.monotonic()
        # The header's value is rounded down to whole seconds.
        if monotonic + seconds + 1 < lease.valid_until and lease is self._lease:
            early = min(60.0, seconds * 0.1)
            self._lease = lease.until(seconds, early, monotonic=monotonic, now=self._clock())

    def proofs(self, lease: Lease) -> Proofs | None:
        """Return the proofs of the key that a token is bound to, if it is."""
        key = lease.token.dpop_key
        if key is None:
            return None
        proofs = self._proofs
        if proofs is None or proofs.key != key:
            proofs = self._proofs = Proofs(key, clock=self._clock)
        return proofs

    # Logging in and out

    def login(self) -> Token:
        """Have a person log in, at once, and keep the token; raises as `token` does."""
        return run(self._login(self.source), self._handlers)

    async def alogin(self) -> Token:
        """Have a person log in, at once, and keep the token; raises as `token` does."""
        return await arun(self._login(self.source), self._async_handlers)

    def step_up(self, demanded: InsufficientScope | StepUpRequired) -> Token:
        """Get the token that an API demanded: what was asked for before, and that besides.

        Raises what `token` raises, and `demanded` again when the token has all of it.
        """
        return run(self._step_up(demanded), self._handlers)

    async def astep_up(self, demanded: InsufficientScope | StepUpRequired) -> Token:
        """Get the token that an API demanded; raises as `step_up` does."""
        return await arun(self._step_up(demanded), self._async_handlers)

    def logout(self) -> bool:
        """Forget the token and revoke it at the server; whether the server did."""
        return run(self._logout(), self._handlers)

    async def alogout(self) -> bool:
        """Forget the token and revoke it at the server; whether the server did."""
        return await arun(self._logout(), self._async_handlers)

    # How

    def _serving(self) -> Lease | None:
        """Return the token in use while it serves, and have it renewed behind when it is due."""
        lease, monotonic, now = self._lease, self.monotonic(), self._clock()
        if lease.is_fresh(monotonic, now):
            return lease
        if not lease.is_valid(monotonic, now):
            return None
        if self._backoff.failure() is None:
            self._flights.join(lease.token.access_token)
        return lease

    def _newer(self, refused: Lease) -> Lease | None:
        lease = self._lease
        if lease.token.access_token == refused.token.access_token:
            return None
        return lease if lease.is_valid(self.monotonic(), self._clock()) else None

    def _joined(self, replaced: Lease) -> Future[Lease]:
        failure = self._backoff.failure()
        if failure is not None:
            # The same one to all, without the tracebacks of those before.
            raise failure.with_traceback(None)
        return self._flights.join(replaced.token.access_token)

    def _renew(self, replaced: str) -> Lease:
        """Renew, in the thread of a flight."""
        lease = self._lease
        if self._renewal.is_other(lease, replaced):
            return lease
        failure = self._backoff.failure()
        if failure is not None:
            raise failure  # of a flight that landed while this one was asked for
        try:
            lease = run(self._renewal.renewed(self.source, replaced), self._handlers)
        except BearerGuardError as error:
            self._failed(error, replaced)
            raise
        self._lease = lease
        self._backoff.end()
        return lease

    def _failed(self, error: BearerGuardError, replaced: str) -> None:
        lease = self._lease
        serves = lease.is_valid(self.monotonic(), self._clock())
        is_login = isinstance(error, LoginRequired)
        # Nothing will renew it before a login; until then, it serves to its end.
        if is_login and serves and lease.token.access_token == replaced:
            self._lease = lease.to_its_end()
        # A client that acts for itself would ask again at each request.
        if not is_login or not isinstance(self.source, Interactive):
            self._backoff.begin(error)
        if serves:
            _log.warning("a token could not be renewed ahead: %s", error)

    def _login(self, source: TokenSource) -> Flow[Token]:
        if not isinstance(source, Interactive):
            raise ConfigurationError(f"{source!r} asks nobody: there is nothing to log in to")
        yield from ask(Blocking(self._storage.probe))
        kept = yield from ask(Blocking(self._renewal.kept))
        token = yield from source.login(kept)
        self._lease = yield from ask(Blocking(lambda: self._renewal.put(token)))
        self._backoff.end()
        return token

    def _step_up(self, demanded: InsufficientScope | StepUpRequired) -> Flow[Token]:
        source, held = self.source, self._lease.token
        again = isinstance(demanded, StepUpRequired)
        if not isinstance(source, Widening) or (again and not isinstance(source, Interactive)):
            raise demanded
        kept = yield from ask(Blocking(self._renewal.kept))
        if isinstance(demanded, StepUpRequired):
            demand = Demand(demanded.scopes, demanded.acr_values, demanded.max_age)
        else:
            demand = Demand(demanded.scopes)
            if kept is not None and set(kept.scopes or ()).issuperset(demanded.scopes):
                if kept.access_token == held.access_token:
                    raise demanded  # it has that, and asking again would go on for ever
                self._lease = self._renewal.leased(kept)
                return kept  # another process was first
        wider = source.widened(demand)
        if isinstance(wider, Interactive):
            token = yield from self._login(wider)
        else:
            flow = self._renewal.replaced
            new = yield from ask(Blocking(lambda: run(flow(wider), self._handlers)))
            self._lease, token = new, new.token
        self.source = source.widened(Demand(demand.scopes))
        return token

    def _logout(self) -> Flow[bool]:
        token = yield from ask(Blocking(self._renewal.clear))
        self._lease = NO_LEASE
        source: Any = self.source
        if token is None or not isinstance(source, Revoking):
            return False
        return (yield from source.revoke(token))
