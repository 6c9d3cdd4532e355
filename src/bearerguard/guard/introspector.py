"""Asking an issuer about its opaque tokens (RFC 7662): at most once for each in a while.

Owns when to ask: an answer is cached by the token's digest and shared by all who ask at the
same time, and an endpoint that is down is left alone. Nothing is cached that the issuer did
not say.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bearerguard.errors import (
    EXPIRED,
    MALFORMED_TOKEN,
    IssuerUnavailable,
    TokenError,
    TokenExpired,
)
from bearerguard.flow import Flow, Once, ask
from bearerguard.guard.breaker import Breaker
from bearerguard.guard.events import Events
from bearerguard.guard.generations import Generations
from bearerguard.guard.introspected import Introspected, Reader, Refused
from bearerguard.guard.introspection import Introspection
from bearerguard.guard.introspection_endpoint import IntrospectionEndpoint
from bearerguard.guard.issuer import Issuer
from bearerguard.guard.key_cache import KeyCache
from bearerguard.guard.token_cache import Entry, TokenCache
from bearerguard.messages import FetchFailed
from bearerguard.protocol import credentials, jwt
from bearerguard.protocol.introspection import IntrospectionFailed

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
    """How asking goes: `status` is ok, failing, or down, which is not asked for a while."""

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
        events: Events,
        shared: SharedAnswers | None = None,
    ) -> None:
        self.issuer = issuer
        self._options = options
        self._tokens = tokens
        self._clock = clock
        self._events = events
        self._shared = shared
        self._resource = " ".join(sorted(issuer.expected.audience))
        self._endpoint = IntrospectionEndpoint(issuer, options, keys, clock=clock)
        self._reader = Reader(issuer, options)
        self._refusals: Generations[bytes, Refused] = Generations(_MAX_REFUSALS)
        self._breaker = Breaker(options.breaker_cooldown, options.breaker_cooldown)

    def introspect(self, token: bytes, key: bytes) -> Flow[Entry]:
        """Return what the issuer says a token proves; `key` is the token's digest.

        Raises `TokenError`, or `IssuerUnavailable` when the issuer cannot be asked.
        """
        try:
            self._check(token, key)
            try:
                return (yield from self._asked(token, key))
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
        return IntrospectionHealth(status, failures)

    def clear(self) -> None:
        """Forget the refusals."""
        self._refusals.clear()

    # What needs no asking

    def _check(self, token: bytes, key: bytes) -> None:
        """Refuse what cannot be a token, or is known to be a bad one."""
        if len(token) > jwt.MAX_TOKEN_BYTES:
            raise TokenError(MALFORMED_TOKEN, f"it is longer than {jwt.MAX_TOKEN_BYTES} bytes")
        if not credentials.is_token68(token):
            raise TokenError(MALFORMED_TOKEN, "it has characters that no bearer token has")
        now = self._clock()
        refused = self._refusals.get(key)
        if refused is not None and now < refused.until:
            raise refused.error()
        known = self._tokens.get(key)
        over = None if known is None else known.principal.expires_at
        if over is not None and now >= over + self.issuer.leeway:
            raise TokenExpired(EXPIRED, f"it expired {now - over:.0f} s ago")

    def _asked(self, token: bytes, key: bytes) -> Flow[Entry]:
        if self._shared is None:  # else another worker's answer would do
            self._check_breaker()
        once = Once(("introspect", self.issuer.url, key), lambda: self._introspected(token, key))
        return (yield from ask(once))

    def _check_breaker(self) -> None:
        wait = self._breaker.wait(self._clock())
        if wait > 0:
            raise self._unavailable(wait, "introspection failed repeatedly")

    def _stale(self, key: bytes, error: IssuerUnavailable) -> Entry:
        """Return the last answer where it may outlive its TTL, else raise `error`.

        It is kept for as long as asking makes no sense.
        """
        known, now = self._tokens.get(key), self._clock()
        if not isinstance(known, Introspected) or now >= known.stale_until:
            raise error
        until = min(now + error.retry_after, known.stale_until)
        return self._remember(key, Introspected(known.principal, until, known.stale_until))

    # What is done once for all who ask

    def _introspected(self, token: bytes, key: bytes) -> Flow[Entry]:
        known = self._tokens.get(key)
        if known is not None and self._clock() < known.deadline:
            return known  # another caller has asked meanwhile
        found = yield from self._another_workers_answer(key)
        if found is not None:
            return found
        self._check_breaker()
        era = self._breaker.enter(self._clock())
        try:
            members = yield from self._endpoint.answer(token)
        except GeneratorExit:
            self._breaker.abandoned()
            raise
        except Exception as error:  # whatever a transport raises, the token is not to blame
            raise self._failed(error, era) from error
        self._breaker.succeeded()
        now = self._clock()
        entry = self._believed(key, members, now)
        yield from self._share(key, members, now, entry.deadline - now)
        return entry

    def _believed(self, key: bytes, members: Mapping[str, Any] | None, at: float) -> Introspected:
        """Return what an answer that came `at` a time proves, and remember it either way."""
        now = self._clock()
        try:
            return self._remember(key, self._reader.read(members, at, now))
        except TokenError as refusal:
            known = self._tokens.get(key)
            if isinstance(known, Introspected):
                known.stale_until = -math.inf  # the issuer itself has taken it back
            refused = self._reader.refused(refusal, now)
            if refused is not None:
                self._refusals.put(key, refused)
            raise

    def _remember(self, key: bytes, entry: Introspected) -> Introspected:
        if self._options.cache_ttl:
            self._tokens.put(key, entry)
        return entry

    def _failed(self, error: Exception, era: int) -> IssuerUnavailable:
        cause = _cause(error)
        self._events.emit("introspection_failed", self.issuer.url, cause)
        if isinstance(error, IntrospectionFailed) and error.of_this_token:
            self._breaker.succeeded()  # it answers, and others may fare better
            return self._unavailable(self._options.breaker_cooldown, cause)
        wait = self._breaker.failed(self._clock(), era)
        if self._breaker.is_open:
            self._endpoint.forget()
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
        answered_at, members = json.loads(value)  # sealed by a worker of ours
        entry = self._reader.read(members, answered_at, self._clock())
        if self._clock() >= entry.deadline:
            return None
        return self._remember(key, entry)

    def _share(
        self, key: bytes, members: Mapping[str, Any] | None, at: float, ttl: float
    ) -> Flow[None]:
        if self._shared is not None and self._options.cache_ttl and ttl > 0:
            value = json.dumps([at, members]).encode()
            yield from self._shared.put(self.issuer.url, self._resource, key, value, ttl)


def _cause(error: Exception) -> str:
    known = isinstance(error, FetchFailed | IntrospectionFailed | IssuerUnavailable)
    # Another error's text may quote what was sent.
    return str(error) if known else f"{type(error).__name__} was raised"
