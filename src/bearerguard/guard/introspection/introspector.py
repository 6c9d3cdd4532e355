"""Introspection of one issuer's tokens (RFC 7662): at most one call for a token while it is cached.

Owns when to call the endpoint: a response is cached by the token's digest and shared by all
requests that ask at the same time, and an endpoint that is down is not called for a while.
Only what the issuer has said is cached.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass

from bearerguard.errors import (
    EXPIRED,
    WRONG_TYPE,
    ClaimCheckFailed,
    IssuerUnavailable,
    RevocationsUnavailable,
    TokenError,
    TokenExpired,
)
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.events import Events
from bearerguard.guard.fetch_history import FetchHistory
from bearerguard.guard.health import LastError
from bearerguard.guard.introspection.breaker import Breaker
from bearerguard.guard.introspection.endpoint import IntrospectionEndpoint
from bearerguard.guard.introspection.responses import (
    CachedRefusal,
    IntrospectedToken,
    IntrospectionResponse,
    ResponseReader,
    is_withdrawn,
)
from bearerguard.guard.introspection.shared_cache import SharedCache
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.observers import error_kind
from bearerguard.guard.revocation.revocations import GuardRevocations
from bearerguard.guard.token_cache import TokenCache, VerifiedToken
from bearerguard.protocol.introspection import IntrospectionFailed
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.flow import Flow, Once, ask
from bearerguard.runtime.generations import Generations
from bearerguard.runtime.messages import FetchFailed
from bearerguard.runtime.reporting.outage import Outage

# Strangers can make up any number of tokens; each refusal costs about 300 bytes.
_MAX_REFUSALS = 10_000


@dataclass(frozen=True, slots=True)
class IntrospectionHealth:
    """The state of an introspection endpoint.

    Attributes:
        status: `ok`, `failing`, or `down` (not called for a while).
        ready: whether it would be asked about a new token now: not `down`.
        fresh: whether its last call succeeded: `ok`.
        failures: how many calls in a row have failed, including those in which the endpoint
            objected to one token only.
        last_success: when it last responded, in Unix seconds; None if it never did.
        last_error: why and when it last failed, also if a call succeeded later.
        latencies: how many seconds the last five calls took, the newest first.
    """

    status: str
    ready: bool
    fresh: bool
    failures: int
    last_success: float | None
    last_error: LastError | None
    latencies: tuple[float, ...]


class Introspector:
    """Introspects the tokens of one issuer, and caches the results in `tokens`."""

    def __init__(
        self,
        issuer: Issuer,
        options: Introspection,
        keys: KeyCache,
        tokens: TokenCache,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float] | None = None,
        events: Events,
        shared: SharedCache | None = None,
        revocations: GuardRevocations | None = None,
        reader: ResponseReader | None = None,
    ) -> None:
        self.issuer = issuer
        self.options = options
        self.keys = keys
        self._tokens = tokens
        self._clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._events = events
        self._shared = shared
        self._revocations = revocations
        self._resource = " ".join(sorted(issuer.expected.audience))
        if options.signed_responses:
            # Their cached form has the id of the key that signed them.
            self._resource += " signed"
        self._endpoint = IntrospectionEndpoint(
            issuer,
            options,
            keys,
            clock=clock,
            monotonic=self._monotonic,
            observers=events.observers,
            revocations=revocations,
        )
        self._reader = ResponseReader(issuer, options) if reader is None else reader
        self._refusals: Generations[bytes, CachedRefusal] = Generations(_MAX_REFUSALS)
        # Each token that the endpoint objects to has its own breaker.
        self._objections: Generations[bytes, Breaker] = Generations(_MAX_REFUSALS)
        self._objected_to = 0
        self._may_move_at = -math.inf
        self._history = FetchHistory()
        self._breaker = Breaker(options.breaker_cooldown, options.breaker_cooldown)
        self._outage = Outage(self._monotonic)

    def introspect(self, token: bytes, key: bytes) -> Flow[VerifiedToken]:
        """Return the token as its issuer describes it; `key` is the token's digest.

        `Routing` has checked its characters. Raises `TokenError`, or `IssuerUnavailable` when the
        issuer gives no usable response.
        """
        try:
            self._check(key)
            try:
                return (yield from self._ask(token, key))
            except ClaimCheckFailed:  # the issuer did respond
                raise
            except IssuerUnavailable as error:
                return self._stale(key, error)
        except TokenError as refusal:
            refusal.concern(self.issuer.url, self.issuer.hints.get(refusal.reason.code))
            raise

    def warm(self) -> Flow[None]:
        """Discover the endpoint; a failure is only reported."""
        began = self._monotonic()
        try:
            yield from self._endpoint.located()
        except Exception as error:  # whatever a transport raises
            self._history.failed(self._clock(), error_kind(error), self._monotonic() - began)
            self._outage.failed()
            self._events.emit("introspection_failed", self.issuer.url, _cause(error))

    def health(self) -> IntrospectionHealth:
        """Return the state of the endpoint."""
        failures = self._breaker.failures
        status = "down" if self._breaker.is_open else "failing" if failures else "ok"
        # Strangers can cause objections: they are counted, and do not change the status.
        return IntrospectionHealth(
            status,
            ready=status != "down",
            fresh=status == "ok",
            failures=failures + self._objected_to,
            last_success=self._history.last_success,
            last_error=self._history.last_error,
            latencies=self._history.latencies,
        )

    def clear(self) -> None:
        """Forget the refusals."""
        self._refusals.clear()
        self._objections.clear()

    # Without a call

    def _check(self, key: bytes) -> None:
        """Refuse a token that is known to be invalid."""
        now = self._clock()
        refused = self._refusals.get(key)
        if refused is not None and self._monotonic() < refused.until:
            raise refused.error()
        known = self._tokens.get_any(key)
        end = None if known is None else known.principal.expires_at
        if end is not None and now >= end + self.issuer.leeway:
            raise TokenExpired(EXPIRED, f"it expired {now - end:.0f} s ago")

    def _ask(self, token: bytes, key: bytes) -> Flow[VerifiedToken]:
        if self._shared is None:  # with a shared cache, another worker's response may do
            self._check_pause(key)
        once = Once(("introspect", self.issuer.url, key), lambda: self._introspected(token, key))
        return (yield from ask(once))

    def _check_pause(self, key: bytes) -> None:
        now = self._monotonic()
        wait = self._breaker.wait(now)
        if wait > 0:
            raise self._unavailable(wait, "introspection failed repeatedly")
        objection = self._objections.get(key)
        if objection is not None and (wait := objection.wait(now)) > 0:
            raise self._unavailable(wait, "the endpoint objected to this token")

    def _stale(self, key: bytes, error: IssuerUnavailable) -> VerifiedToken:
        """Return the last response if it may outlive its TTL (`stale_ttl`), else raise `error`.

        It is cached until the endpoint may be called again.
        """
        known, now, elapsed = self._tokens.get_any(key), self._clock(), self._monotonic()
        if (
            not isinstance(known, IntrospectedToken)
            or now >= known.stale_until
            or elapsed >= known.stale_elapses_at
            or self._is_withdrawn(known)
        ):
            raise error
        stale = IntrospectedToken(
            known.principal,
            min(now + error.retry_after, known.stale_until),
            known.stale_until,
            validity=known.validity,
            elapses_at=min(elapsed + error.retry_after, known.stale_elapses_at),
            stale_elapses_at=known.stale_elapses_at,
            is_stale=True,
            bound=known.bound,
        )
        return self._remember(key, stale)

    # Run once for all concurrent requests

    def _introspected(self, token: bytes, key: bytes) -> Flow[VerifiedToken]:
        known = self._tokens.get_any(key)
        if known is not None and self._is_fresh(known):
            return known  # a concurrent request has introspected it
        found = yield from self._shared_response(key)
        if found is not None:
            return found
        self._check_pause(key)
        began = self._monotonic()
        era = self._breaker.enter(began)
        try:
            response = yield from self._endpoint.introspect(token)
        except (GeneratorExit, RevocationsUnavailable):
            self._breaker.abandoned()
            raise
        except IntrospectionFailed as error:
            if not error.of_this_token:
                raise self._failed(error, era, began) from error
            self._breaker.objected(era)
            raise self._objected(key, error) from error
        except Exception as error:  # whatever a transport raises, it is not the fault of the token
            raise self._failed(error, era, began) from error
        self._breaker.succeeded()
        self._history.succeeded(self._clock(), self._monotonic() - began)
        if restored := self._outage.succeeded():
            self._events.emit("introspection_restored", self.issuer.url, restored)
        self._objected_to = 0
        self._objections.drop(key)
        now = self._clock()
        verified = self._read(key, response, now)
        yield from self._share(key, response, now, verified.deadline - now)
        return verified

    def _read(self, key: bytes, response: IntrospectionResponse, at: float) -> IntrospectedToken:
        """Read a response received `at` a time, and cache the token or the refusal."""
        now = self._clock()
        try:
            return self._remember(key, self._reader.read(response, at, now, self._monotonic()))
        except TokenError as refusal:
            self._refuse(key, refusal)
            raise

    def _refuse(self, key: bytes, refusal: TokenError) -> None:
        """Cache for a while that the issuer does not accept a token, or no longer does."""
        known = self._tokens.get_any(key)
        if isinstance(known, IntrospectedToken):
            known.stale_until = -math.inf
        refused = self._reader.refused(refusal, self._monotonic())
        if refused is not None:
            self._refusals.put(key, refused)

    def _is_fresh(self, token: VerifiedToken) -> bool:
        return (
            self._clock() < token.deadline
            and self._monotonic() < token.elapses_at
            and not self._is_withdrawn(token)
        )

    def _is_withdrawn(self, token: VerifiedToken) -> bool:
        return is_withdrawn(self._revocations, self.issuer.url, token.validity.key_id)

    def _remember(self, key: bytes, token: IntrospectedToken) -> IntrospectedToken:
        if self.options.cache_ttl:
            self._tokens.put(key, token)
        return token

    def _failed(self, error: Exception, era: int, began: float) -> IssuerUnavailable:
        cause = _cause(error)
        self._history.failed(self._clock(), error_kind(error), self._monotonic() - began)
        self._outage.failed()
        self._events.emit("introspection_failed", self.issuer.url, cause)
        wait = self._breaker.failed(self._monotonic(), era)
        if self._breaker.is_open:
            self._endpoint.forget()
        return self._unavailable(wait, cause)

    def _objected(self, key: bytes, error: IntrospectionFailed) -> TokenError | IssuerUnavailable:
        """Return the failure of a token that the endpoint objects to.

        This is no outage: other tokens are introspected. After three objections the endpoint is
        asked about this token less and less often, so that a client that repeats it causes no
        storm of calls.
        """
        cause = str(error)
        if error.is_unsupported:
            refusal = TokenError(
                WRONG_TYPE, f"the issuer does not introspect tokens of this kind: {cause}"
            )
            self._refuse(key, refusal)
            return refusal
        self._events.emit("introspection_failed", self.issuer.url, cause)
        now = self._monotonic()
        # The endpoint may have moved: it is discovered again, but not more often than this.
        if now >= self._may_move_at:
            self._may_move_at = now + self.options.breaker_cooldown
            self._endpoint.forget()
        self._objected_to += 1
        longest = self.options.breaker_cooldown
        objection = self._objections.get(key) or Breaker(longest, longest)
        wait = objection.failed(now, objection.era)
        self._objections.put(key, objection)
        return self._unavailable(wait, cause)

    def _unavailable(self, wait: float, cause: str) -> IssuerUnavailable:
        return IssuerUnavailable(self.issuer.url, max(1, math.ceil(wait)), cause)

    # Shared by workers: the responses for active tokens

    def _shared_response(self, key: bytes) -> Flow[IntrospectedToken | None]:
        if self._shared is None or not self.options.cache_ttl:
            return None
        value = yield from self._shared.get(self.issuer.url, self._resource, key)
        if value is None:
            return None
        received_at, *members = json.loads(value)  # it was sealed by a worker, so it is trusted
        response = IntrospectionResponse(*members)
        token = self._reader.read(response, received_at, self._clock(), self._monotonic())
        return self._remember(key, token) if self._is_fresh(token) else None

    def _share(
        self, key: bytes, response: IntrospectionResponse, at: float, ttl: float
    ) -> Flow[None]:
        if self._shared is not None and self.options.cache_ttl and ttl > 0:
            signed = self.options.signed_responses
            if response.key_id is not None and not signed:
                return  # signed although not required: the cached form would lack the key id
            value = json.dumps([at, *response] if signed else [at, response.members]).encode()
            yield from self._shared.put(self.issuer.url, self._resource, key, value, ttl)


def _cause(error: Exception) -> str:
    known = isinstance(error, FetchFailed | IntrospectionFailed | IssuerUnavailable)
    # The text of another error may quote the token.
    return str(error) if known else f"{type(error).__name__} was raised"
