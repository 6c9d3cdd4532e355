"""The token manager: gets tokens from a source, stores them, and renews them before they expire.

The manager decides when a token is renewed. Each token is renewed once: `single_flight` ensures it
in this process, the lock of the storage among processes. A fresh token costs a comparison of times:
no lock, no flow. While a token is still valid, no caller waits for its renewal.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import Any, TypeAlias

from bearerguard.client import driving
from bearerguard.client.backoff import Backoff
from bearerguard.client.dpop import Proofs
from bearerguard.client.renewal import Renewal
from bearerguard.client.single_flight import SingleFlight, finished
from bearerguard.client.sources.token_source import (
    Challenged,
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
from bearerguard.runtime.effects import Blocking
from bearerguard.runtime.fetching import Transport
from bearerguard.runtime.flow import Flow, arun, ask, run
from bearerguard.transports.default import default_transport

_log = logging.getLogger("bearerguard")

# What an API demands of a person: a login, by the challenges of a 401, or more scopes, or a newer
# or stronger login.
Refused: TypeAlias = tuple[str, ...] | InsufficientScope | StepUpRequired


class TokenManager:
    """Returns a valid token, and renews it before it expires.

    Share one manager among all threads and tasks that call as the same client.

    Args:
        source: gets tokens, such as `ClientCredentials`.
        storage: stores them; memory by default.
        key: the key in the storage, in place of the source's own.
        transport: sends the token requests; an `HttpTransport` by default.
        clock: returns Unix seconds.
        monotonic: returns seconds of a clock that is never set back.

    Attributes:
        source: gets tokens.
        key: the key in the storage.
        monotonic: returns monotonic seconds.

    Raises:
        ConfigurationError: `source` is not a token source.
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
        self.source: TokenSource = source
        self.key: str = key or source.key
        self._storage = storage or MemoryStorage()
        self.monotonic = monotonic
        self._handlers, self._async_handlers = driving.handlers(transport or default_transport())
        self._lease = NO_LEASE
        self._backoff = Backoff(monotonic)
        self._proofs: Proofs | None = None
        self._clock = clock
        self._renewal = Renewal(self._storage, self.key, clock=clock, monotonic=monotonic)
        self._renewals = SingleFlight(self._renew)
        self._demands = SingleFlight(self._meet)

    def __repr__(self) -> str:
        return f"TokenManager({self.source!r}, storage={self._storage.name})"

    # Getting a token

    def token(self) -> Token:
        """Return a valid token.

        Raises:
            LoginRequired: a person must log in first.
            TokenRefused: the authorization server refused the token request (RFC 6749 §5.2).
            TokenUnavailable: the authorization server could not be reached.
            StorageError: the token could not be stored.
        """
        return self.lease().token

    async def atoken(self) -> Token:
        """Return a valid token; raises as `token` does."""
        return (await self.alease()).token

    def fresh(self) -> Lease | None:
        """Return the lease in use, None when its token is due for renewal."""
        lease = self._lease
        return lease if lease.is_fresh(self.monotonic(), self._clock()) else None

    def lease(self) -> Lease:
        """Return the lease in use, or wait for one; raises as `token` does."""
        return self._serving() or self._joined(self._lease).result()

    async def alease(self) -> Lease:
        """Return the lease in use, or wait for one; raises as `token` does."""
        return self._serving() or await finished(self._joined(self._lease))

    def renew(self, refused: Lease) -> Lease:
        """Return a lease on another token than one that an API refused; raises as `token` does.

        That is a newer token already in use, or a new one. It is the same token again if the source
        returns the same.
        """
        lease = self._newer(refused)
        return lease or self._joined(refused).result()

    async def arenew(self, refused: Lease) -> Lease:
        """Return a lease on another token than one that an API refused, as `renew` does."""
        lease = self._newer(refused)
        return lease or await finished(self._joined(refused))

    def note_expiry(self, lease: Lease, seconds: float) -> None:
        """Note that a token expires in `seconds`, as an API reported, if that is sooner than known.

        Ignored for a lease that is no longer in use.
        """
        monotonic = self.monotonic()
        # The header's value is rounded down to whole seconds.
        if monotonic + seconds + 1 < lease.valid_until and lease is self._lease:
            early = min(60.0, seconds * 0.1)
            self._lease = lease.until(seconds, early, monotonic=monotonic, now=self._clock())

    def proofs(self, lease: Lease) -> Proofs | None:
        """Return the DPoP proofs for the key that a token is bound to, None if it is not bound."""
        key = lease.token.dpop_key
        if key is None:
            return None
        proofs = self._proofs
        if proofs is None or proofs.key != key:
            proofs = self._proofs = Proofs(key, clock=self._clock)
        return proofs

    # Logging in and out

    def login(self, challenges: Iterable[str] = ()) -> Token:
        """Have a person log in now, and store the token; raises as `token` does.

        `challenges` are the `WWW-Authenticate` lines of an API's refusal, from which a source such
        as `ApiLogin` finds the authorization server and the scopes.
        """
        return run(self._login(self._challenged(challenges)), self._handlers)

    async def alogin(self, challenges: Iterable[str] = ()) -> Token:
        """Have a person log in now, and store the token; does as `login`."""
        return await arun(self._login(self._challenged(challenges)), self._async_handlers)

    def meet(self, refused: Lease, demand: Refused) -> Future[Lease]:
        """Have a person do what an API demands, once for all that wait for it."""
        return self._demands.join(refused.token.access_token, demand)

    def step_up(self, demanded: InsufficientScope | StepUpRequired) -> Token:
        """Get a token that meets what an API demanded, besides the earlier scopes (RFC 9470).

        Raises as `token` does, and `demanded` itself when the token has all the scopes already.
        """
        return run(self._step_up(demanded), self._handlers)

    async def astep_up(self, demanded: InsufficientScope | StepUpRequired) -> Token:
        """Get a token that meets what an API demanded; raises as `step_up` does."""
        return await arun(self._step_up(demanded), self._async_handlers)

    def logout(self) -> bool:
        """Delete the stored token and revoke it (RFC 7009); return whether it was revoked."""
        return run(self._logout(), self._handlers)

    async def alogout(self) -> bool:
        """Delete the stored token and revoke it (RFC 7009); return whether it was revoked."""
        return await arun(self._logout(), self._async_handlers)

    # Implementation

    def _serving(self) -> Lease | None:
        """Return the lease while its token is valid; start its renewal when it is due."""
        lease, monotonic, now = self._lease, self.monotonic(), self._clock()
        if lease.is_fresh(monotonic, now):
            return lease
        if not lease.is_valid(monotonic, now):
            return None
        if self._backoff.failure() is None:
            self._renewals.join(lease.token.access_token)
        return lease

    def _newer(self, refused: Lease) -> Lease | None:
        lease = self._lease
        if lease.token.access_token == refused.token.access_token:
            return None
        return lease if lease.is_valid(self.monotonic(), self._clock()) else None

    def _joined(self, replaced: Lease) -> Future[Lease]:
        failure = self._backoff.failure()
        if failure is not None:
            # All callers get the same exception object: drop the traceback of the last one.
            raise failure.with_traceback(None)
        return self._renewals.join(replaced.token.access_token)

    def _renew(self, replaced: str) -> Lease:
        """Renew, in a thread of `single_flight`."""
        lease = self._lease
        if self._renewal.is_other(lease, replaced):
            return lease
        failure = self._backoff.failure()
        if failure is not None:
            raise failure  # from a renewal that failed just before this one began
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
        # Only a login can renew it: the token is used until it expires.
        if is_login and serves and lease.token.access_token == replaced:
            self._lease = lease.to_its_end()
        # Without a backoff, a non-interactive client would request a token for each API call.
        if not is_login or not isinstance(self.source, Interactive):
            self._backoff.begin(error)
        if serves:
            _log.warning("a token could not be renewed ahead: %s", error)

    def _challenged(self, challenges: Iterable[str]) -> TokenSource:
        lines, source = tuple(challenges), self.source
        return source.challenged(lines) if lines and isinstance(source, Challenged) else source

    def _meet(self, replaced: str, demand: Refused) -> Lease:
        """Log in or step up, in a thread of `single_flight`."""
        lease = self._lease
        if self._renewal.is_other(lease, replaced):
            return lease
        if isinstance(demand, InsufficientScope | StepUpRequired):
            self.step_up(demand)
        else:
            self.login(demand)
        return self._lease

    def _login(self, source: TokenSource) -> Flow[Token]:
        if not isinstance(source, Interactive):
            raise ConfigurationError(
                f"{source!r} has no login: use AuthorizationCode, DeviceCode or ApiLogin"
            )
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
                    raise demanded  # the token has the scopes: another one would not help
                self._lease = self._renewal.leased(kept)
                return kept  # another process has stepped up already
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
