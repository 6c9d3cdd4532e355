"""From a token to its principal: the cache first, then a plain call, then a flow.

Owns the order of the steps. Decides nothing about a request, reports nothing, and knows no HTTP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from bearerguard.errors import IssuerUnavailable, Refusal
from bearerguard.guard import introspection, revocation
from bearerguard.guard.keys.status_validity import StatusValidity, of_key
from bearerguard.guard.token_cache import TokenCache, VerifiedToken, digest, octets
from bearerguard.guard.tokens.jwt_validator import JwtValidator, ParsedToken
from bearerguard.guard.tokens.routing import Routing
from bearerguard.guard.tokens.status_lists import StatusLists
from bearerguard.principal import Principal
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.flow import Flow

if TYPE_CHECKING:
    from bearerguard.guard.tokens.trace import Trace


class OpaqueToken:
    """A token that only its issuer can validate; not a tuple, whose repr would show the token."""

    __slots__ = ("introspector", "token")

    def __init__(self, introspector: introspection.Introspector, token: bytes) -> None:
        self.introspector: introspection.Introspector = introspector
        self.token: bytes = token


class PendingValidation(NamedTuple):
    """A token that needs a flow: to fetch keys, or to introspect it.

    `key` is the digest under which it will be cached.
    """

    key: bytes
    token: ParsedToken | OpaqueToken


class PendingRevocationCheck(NamedTuple):
    """A verified token that needs a flow: to read the list of revocations first."""

    token: VerifiedToken


class PendingStatusCheck(NamedTuple):
    """A verified token that needs a flow: to fetch the list that has its status.

    `key` is the digest under which it will be cached.
    """

    key: bytes
    token: VerifiedToken


Pending: TypeAlias = PendingValidation | PendingStatusCheck | PendingRevocationCheck


class Authenticator:
    """Validates tokens, and caches them.

    `validate_now` is a plain call that suffices for most tokens; `validate` is the flow for the
    others.

    Args:
        validator: validates JWTs.
        routing: says which issuer introspects a token; None if none does.
        tokens: the cache.
        clock: returns Unix seconds.
        monotonic: returns seconds that clock changes do not affect.
        revocations: the guard's.
        statuses: the status lists of the issuers; None if none has any.
        max_token_bytes: the longest token that is parsed, in bytes.
        accepts_bound: whether tokens that are bound to a sender's key are accepted, and cached.
    """

    def __init__(
        self,
        validator: JwtValidator,
        routing: Routing | None,
        tokens: TokenCache,
        *,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        revocations: revocation.GuardRevocations | None = None,
        statuses: StatusLists | None = None,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
        accepts_bound: bool = False,
    ) -> None:
        self._accepts_bound = accepts_bound
        self._statuses = statuses
        self._revocations = revocations
        self._validator = validator
        self._routing = routing
        self._tokens = tokens
        self._clock = clock
        self._monotonic = monotonic
        self._max_token_bytes = max_token_bytes

    def validate_now(self, token: bytes, trace: Trace | None = None) -> VerifiedToken | Pending:
        """Validate a token without I/O if that is possible; else `validate` decides.

        Raises `TokenError`, or `IssuerUnavailable` when it is unknown whose token it is. `trace`
        notes how it was done.
        """
        found = self._find(token) if trace is None else self._traced(token, trace)
        revocations = self._revocations
        if revocations is not None and isinstance(found, VerifiedToken):
            if self._clock() >= revocations.trusted_until:
                return PendingRevocationCheck(found)
            self._check(found, revocations)
        return found

    def validate(self, pending: Pending, trace: Trace | None = None) -> Flow[VerifiedToken]:
        """Validate what `validate_now` could not; raises `TokenError` or `IssuerUnavailable`."""
        if trace is not None:
            try:
                trace.token = yield from self.validate(pending)
            except (Refusal, IssuerUnavailable) as error:
                trace.issuer = error.issuer
                raise
            return trace.token
        if isinstance(pending, PendingRevocationCheck):
            token = pending.token
        else:
            token = yield from self._verify(pending)
        if self._revocations is not None:
            yield from self._revocations.ensure(token.principal.issuer or "")
            self._check(token, self._revocations)
        return token

    def _traced(
        self, token: bytes, trace: Trace
    ) -> VerifiedToken | PendingValidation | PendingStatusCheck:
        trace.is_cached = False
        try:
            found = self._find(token, trace)
        except (Refusal, IssuerUnavailable) as error:
            trace.issuer = error.issuer
            raise
        if isinstance(found, VerifiedToken):
            trace.token = found
        return found

    def is_stale(self, token: VerifiedToken) -> bool:
        """Whether a verified token relies on something that should have been renewed by now.

        That is an introspection response, or the keys of the issuer.
        """
        if self._routing is not None and isinstance(token, introspection.IntrospectedToken):
            return token.is_stale
        return self._validator.is_stale(token)

    def identify(self, token: str | bytes) -> Flow[Principal]:
        """Return the principal of a token, revoked or not; raises as `validate` does."""
        found = self._find(octets(token))
        if isinstance(found, PendingStatusCheck):
            found = found.token
        elif isinstance(found, PendingValidation):
            found = yield from self._verified(found.key, found.token)
        return found.principal

    def _find(
        self, token: bytes, trace: Trace | None = None
    ) -> VerifiedToken | PendingValidation | PendingStatusCheck:
        if len(token) > self._max_token_bytes:  # before it is hashed
            raise jwt.too_long(self._max_token_bytes)
        key, tokens, now = digest(token), self._tokens, self._clock()
        if now < tokens.last_lookup_at:
            tokens.check_clock(now)
        tokens.last_lookup_at = now
        # Adapters find most bearer tokens by themselves: a bound one is likelier here.
        cached = tokens.get_bound(key) if self._accepts_bound else None
        if cached is None:
            cached = tokens.get(key)
        if cached is not None and self._is_usable(cached, now):
            if trace is not None:
                trace.is_cached = True
            return cached
        if self._routing is not None:
            introspector = self._routing.introspector(token)
            if introspector is not None:
                return PendingValidation(key, OpaqueToken(introspector, token))
        found = self._validator.validate_now(token)
        if not isinstance(found, VerifiedToken):
            return PendingValidation(key, found)
        if self._statuses is not None and not self._statuses.admits(found):
            return PendingStatusCheck(key, found)
        self._tokens.put(key, found)
        return found

    def _verify(self, pending: PendingValidation | PendingStatusCheck) -> Flow[VerifiedToken]:
        """Verify a token; raises `TokenError` or `IssuerUnavailable`."""
        key, token = pending
        is_opaque = isinstance(token, OpaqueToken)
        verified = yield from self._verified(key, token)
        statuses = self._statuses
        if statuses is not None and (is_opaque or not statuses.admits(verified)):
            yield from statuses.check(verified)
        if not is_opaque:  # an introspector caches its own
            self._tokens.put(key, verified)
        return verified

    def _verified(
        self, key: bytes, token: ParsedToken | OpaqueToken | VerifiedToken
    ) -> Flow[VerifiedToken]:
        """Return a token that is verified but for its status."""
        if isinstance(token, OpaqueToken):
            return (yield from token.introspector.introspect(token.token, key))
        if isinstance(token, VerifiedToken):
            return token
        return (yield from self._validator.validate(token))

    def _is_usable(self, token: VerifiedToken, now: float) -> bool:
        """Whether a cached token still counts, perhaps after renewing the validity of its key."""
        return (
            now < token.deadline
            and (token.elapses_at == math.inf or self._monotonic() < token.elapses_at)
            and (now < token.validity.until or self._renew(token, now))
            and (self._routing is None or not self._is_withdrawn(token))
        )

    def _renew(self, token: VerifiedToken, now: float) -> bool:
        """Prolong the validity of a token's key, and check its status again if it has one."""
        validity, statuses = token.validity, self._statuses
        if not isinstance(validity, StatusValidity):
            return self._validator.renew(token, of_key(validity))
        is_valid = now < validity.key.until or self._validator.renew(token, validity.key)
        return is_valid and statuses is not None and statuses.renew(token)

    def _is_withdrawn(self, token: VerifiedToken) -> bool:
        """Whether a token is from a response that was signed by a key revoked since."""
        if not isinstance(token, introspection.IntrospectedToken):
            return False
        issuer, key_id = token.principal.issuer or "", token.validity.key_id
        return introspection.is_withdrawn(self._revocations, issuer, key_id)

    def _check(self, token: VerifiedToken, revocations: revocation.GuardRevocations) -> None:
        """Raise `TokenError` if it was revoked, else note the list that does not cover it."""
        # Read before the check: what is added during it is checked by the next request.
        current = revocations.current
        if token.checked is not current:
            revocations.check(token.principal, token.validity.key_id)
            token.checked = current
