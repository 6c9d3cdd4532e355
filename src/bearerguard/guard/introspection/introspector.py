"""Asking an issuer about its opaque tokens (RFC 7662): at most once for each in a while.

Owns when to ask: an answer is cached by the token's digest and shared by all who ask at the
same time, and an endpoint that is down is left alone. Nothing is cached that the issuer did
not say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

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
from bearerguard.guard.introspection.answers import (
    Answer,
    Introspected,
    Reader,
    Refused,
    is_withdrawn,
)
from bearerguard.guard.introspection.breaker import Breaker
from bearerguard.guard.introspection.endpoint import IntrospectionEndpoint
from bearerguard.guard.keys.key_cache import KeyCache
from bearerguard.guard.tokens.token_cache import Entry, TokenCache
from bearerguard.protocol.introspection import IntrospectionFailed
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.flow import Flow, Once, ask
from bearerguard.runtime.generations import Generations
from bearerguard.runtime.messages import FetchFailed

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations

# Strangers can make up any number of tokens; each refusal costs about 300 bytes.
_MAX_REFUSALS = 10_000


class SharedAnswers(Protocol):
    """Where workers share what an issuer answered; a store that fails has nothing."""

    def get(self, issuer: str, resource: str, digest: bytes) -> Flow[bytes | None]:
        """Return the value, or None."""
        ...

    def put(
        self, issuer: str, resource: str, digest: bytes, value: bytes, ttl: float
    ) -> Flow[None]:
        """Keep a value for `ttl` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class IntrospectionHealth:
    """How asking goes: `status` is ok, failing, or down, which is not asked for a while.

    `failures` are those in a row, answers that say nothing of one token alone among them.
    """

    status: str
    failures: int = 0


class Introspector:
    """Introspects the tokens of one issuer. `tokens` is the cache that requests look into."""

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
        shared: SharedAnswers | None = None,
        revocations: Revocations | None = None,
    ) -> None:
        self.issuer = issuer
        self._options = options
        self._tokens = tokens
        self._clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self._events = events
        self._shared = shared
        self._revocations = revocations
        self._resource = " ".join(sorted(issuer.expected.audience))
        if options.signed_responses:
            # These say which key signed them, which workers of an earlier version do not read.
            self._resource += " signed"
        self._endpoint = IntrospectionEndpoint(
            issuer,
            options,
            keys,
            clock=clock,
            monotonic=self._monotonic,
            revocations=revocations,
        )
        self._reader = Reader(issuer, options)
        self._refusals: Generations[bytes, Refused] = Generations(_MAX_REFUSALS)
        # Each token that the endpoint objects to has a breaker of its own.
        self._objections: Generations[bytes, Breaker] = Generations(_MAX_REFUSALS)
        self._objected_to = 0
        self._may_move_at = -math.inf
        self._breaker = Breaker(options.breaker_cooldown, options.breaker_cooldown)

    def introspect(self, token: bytes, key: bytes) -> Flow[Entry]:
        """Return what the issuer says a token proves; `key` is the token's digest.

        It is sent as it is: `Routing` lets no characters through that no token has.

        Raises `TokenError`, or `IssuerUnavailable` when the issuer cannot be asked.
        """
        try:
            self._check(key)
            try:
                return (yield from self._asked(token, key))
            except ClaimCheckFailed:  # the issuer did respond
                raise
            except IssuerUnavailable as error:
                return self._stale(key, error)
        except TokenError as refusal:
            refusal.concern(self.issuer.url, self.issuer.hints.get(refusal.reason.code))
            raise

    def warm(self) -> Flow[None]:
        """Find the endpoint; a failure is an event and no more."""
        try:
            yield from self._endpoint.located()
        except Exception as error:  # whatever a transport raises
            self._events.emit("introspection_failed", self.issuer.url, _cause(error))

    def health(self) -> IntrospectionHealth:
        """Return how asking goes."""
        failures = self._breaker.failures
        status = "down" if self._breaker.is_open else "failing" if failures else "ok"
        # What strangers can bring about is counted, and makes no guard unfit.
        return IntrospectionHealth(status, failures + self._objected_to)

    def clear(self) -> None:
        """Forget the refusals."""
        self._refusals.clear()
        self._objections.clear()

    # What needs no asking

    def _check(self, key: bytes) -> None:
        """Refuse what is known to be no good token."""
        now = self._clock()
        refused = self._refusals.get(key)
        if refused is not None and self._monotonic() < refused.until:
            raise refused.error()
        known = self._tokens.get(key)
        over = None if known is None else known.principal.expires_at
        if over is not None and now >= over + self.issuer.leeway:
            raise TokenExpired(EXPIRED, f"it expired {now - over:.0f} s ago")

    def _asked(self, token: bytes, key: bytes) -> Flow[Entry]:
        if self._shared is None:  # else another worker's answer would do
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

    def _stale(self, key: bytes, error: IssuerUnavailable) -> Entry:
        """Return the last answer where it may outlive its TTL, else raise `error`.

        It is kept for as long as asking makes no sense.
        """
        known, now, elapsed = self._tokens.get(key), self._clock(), self._monotonic()
        if (
            not isinstance(known, Introspected)
            or now >= known.stale_until
            or elapsed >= known.stale_elapses_at
            or self._is_withdrawn(known)
        ):
            raise error
        stale = Introspected(
            known.principal,
            min(now + error.retry_after, known.stale_until),
            known.stale_until,
            lease=known.lease,
            elapses_at=min(elapsed + error.retry_after, known.stale_elapses_at),
            stale_elapses_at=known.stale_elapses_at,
        )
        return self._remember(key, stale)

    # What is done once for all who ask

    def _introspected(self, token: bytes, key: bytes) -> Flow[Entry]:
        known = self._tokens.get(key)
        if known is not None and self._is_fresh(known):
            return known  # another caller has asked meanwhile
        found = yield from self._another_workers_answer(key)
        if found is not None:
            return found
        self._check_pause(key)
        era = self._breaker.enter(self._monotonic())
        try:
            answer = yield from self._endpoint.answer(token)
        except (GeneratorExit, RevocationsUnavailable):
            self._breaker.abandoned()
            raise
        except IntrospectionFailed as error:
            if not error.of_this_token:
                raise self._failed(error, era) from error
            self._breaker.objected(era)
            raise self._objected(key, error) from error
        except Exception as error:  # whatever a transport raises, the token is not to blame
            raise self._failed(error, era) from error
        self._breaker.succeeded()
        self._objected_to = 0
        self._objections.drop(key)
        now = self._clock()
        entry = self._believed(key, answer, now)
        yield from self._share(key, answer, now, entry.deadline - now)
        return entry

    def _believed(self, key: bytes, answer: Answer, at: float) -> Introspected:
        """Return what an answer that came `at` a time proves, and remember it either way."""
        now = self._clock()
        try:
            return self._remember(key, self._reader.read(answer, at, now, self._monotonic()))
        except TokenError as refusal:
            self._refuse(key, refusal)
            raise

    def _refuse(self, key: bytes, refusal: TokenError) -> None:
        """Remember for a while that the issuer does not stand by a token, or no longer."""
        known = self._tokens.get(key)
        if isinstance(known, Introspected):
            known.stale_until = -math.inf
        refused = self._reader.refused(refusal, self._monotonic())
        if refused is not None:
            self._refusals.put(key, refused)

    def _is_fresh(self, entry: Entry) -> bool:
        return (
            self._clock() < entry.deadline
            and self._monotonic() < entry.elapses_at
            and not self._is_withdrawn(entry)
        )

    def _is_withdrawn(self, entry: Entry) -> bool:
        return is_withdrawn(self._revocations, self.issuer.url, entry.lease.key_id)

    def _remember(self, key: bytes, entry: Introspected) -> Introspected:
        if self._options.cache_ttl:
            self._tokens.put(key, entry)
        return entry

    def _failed(self, error: Exception, era: int) -> IssuerUnavailable:
        cause = _cause(error)
        self._events.emit("introspection_failed", self.issuer.url, cause)
        wait = self._breaker.failed(self._monotonic(), era)
        if self._breaker.is_open:
            self._endpoint.forget()
        return self._unavailable(wait, cause)

    def _objected(self, key: bytes, error: IntrospectionFailed) -> TokenError | IssuerUnavailable:
        """Return what an objection to one token means for it.

        It is no outage: others are asked about. About this one the endpoint is asked less and
        less often after three times, so that who sends it again and again is no storm.
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
        if now >= self._may_move_at:  # it may have moved: looked for no more often than this
            self._may_move_at = now + self._options.breaker_cooldown
            self._endpoint.forget()
        self._objected_to += 1
        longest = self._options.breaker_cooldown
        objection = self._objections.get(key) or Breaker(longest, longest)
        wait = objection.failed(now, objection.era)
        self._objections.put(key, objection)
        return self._unavailable(wait, cause)

    def _unavailable(self, wait: float, cause: str) -> IssuerUnavailable:
        return IssuerUnavailable(self.issuer.url, max(1, math.ceil(wait)), cause)

    # What workers share: the answers that let a token pass

    def _another_workers_answer(self, key: bytes) -> Flow[Introspected | None]:
        if self._shared is None or not self._options.cache_ttl:
            return None
        value = yield from self._shared.get(self.issuer.url, self._resource, key)
        if value is None:
            return None
        answered_at, *answer = json.loads(value)  # sealed by a worker of ours
        entry = self._reader.read(Answer(*answer), answered_at, self._clock(), self._monotonic())
        if not self._is_fresh(entry):
            return None
        return self._remember(key, entry)

    def _share(self, key: bytes, answer: Answer, at: float, ttl: float) -> Flow[None]:
        if self._shared is not None and self._options.cache_ttl and ttl > 0:
            signed = self._options.signed_responses
            if answer.key_id is not None and not signed:
                return  # it was not asked to be: others would not know by which key
            value = json.dumps([at, *answer] if signed else [at, answer.members]).encode()
            yield from self._shared.put(self.issuer.url, self._resource, key, value, ttl)


def _cause(error: Exception) -> str:
    known = isinstance(error, FetchFailed | IntrospectionFailed | IssuerUnavailable)
    # Another error's text may quote what was sent.
    return str(error) if known else f"{type(error).__name__} was raised"
