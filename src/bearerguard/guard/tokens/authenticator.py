"""From a token to its bearer: the cache first, then a plain call, then a flow.

Owns the order in which a token is looked at, and reports what fails. Decides nothing about
a request, and knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from bearerguard.errors import IssuerUnavailable, Refusal
from bearerguard.guard.events import Events
from bearerguard.guard.introspection.answers import Introspected, is_withdrawn
from bearerguard.guard.introspection.introspector import Introspector
from bearerguard.guard.tokens.jwt_validator import JwtValidator, Reading
from bearerguard.guard.tokens.routing import Routing
from bearerguard.guard.tokens.token_cache import Entry, TokenCache, digest
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.flow import Flow

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations


class Opaque:
    """A token that only its issuer can explain."""

    __slots__ = ("introspector", "token")

    def __init__(self, introspector: Introspector, token: bytes) -> None:
        self.introspector = introspector
        self.token = token


class Unproved(NamedTuple):
    """A token that needs a flow, under the digest by which it will be remembered."""

    key: bytes
    reading: Reading | Opaque


class Unchecked(NamedTuple):
    """A token that is proved; whether it was revoked is not known without a flow."""

    entry: Entry


class Authenticator:
    """Says who bears a token, and remembers it.

    `clock` returns Unix seconds, `monotonic` seconds that no change of the clock disturbs.
    """

    def __init__(
        self,
        validator: JwtValidator,
        routing: Routing | None,
        tokens: TokenCache,
        *,
        events: Events,
        clock: Callable[[], float],
        monotonic: Callable[[], float],
        revocations: Revocations | None = None,
        max_token_bytes: int = jwt.MAX_TOKEN_BYTES,
    ) -> None:
        self._revocations = revocations
        self._validator = validator
        self._routing = routing
        self._tokens = tokens
        self._events = events
        self._clock = clock
        self._monotonic = monotonic
        self._max_token_bytes = max_token_bytes

    def look(self, token: bytes) -> Entry | Unproved | Unchecked:
        """Return what can be said of a token without I/O.

        Raises `TokenError`, or `IssuerUnavailable` when it cannot be said whose token it is.
        """
        found = self._find(token)
        revocations = self._revocations
        if revocations is not None and isinstance(found, Entry):
            if self._clock() >= revocations.trusted_until:
                return Unchecked(found)
            self._check(found, revocations)
        return found

    def prove(self, found: Unproved | Unchecked) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        entry = found.entry if isinstance(found, Unchecked) else (yield from self._establish(found))
        if self._revocations is not None:
            yield from self._revocations.ensure(entry.principal.issuer or "")
            self._check(entry, self._revocations)
        return entry

    def identify(self, token: bytes) -> Flow[Entry]:
        """Return what the token proves, be it revoked or not; raises as `prove` does."""
        found = self._find(token)
        return found if isinstance(found, Entry) else (yield from self._establish(found))

    def _find(self, token: bytes) -> Entry | Unproved:
        key, tokens, now = digest(token), self._tokens, self._clock()
        if now < tokens.seen_at:
            tokens.look_back(now)
        tokens.seen_at = now
        entry = tokens.get(key)
        if entry is not None and self._is_believed(entry, now):
            return entry
        try:
            if self._routing is not None:
                if len(token) > self._max_token_bytes:  # as the validator says of JWTs
                    raise jwt.too_long(self._max_token_bytes)
                introspector = self._routing.introspector(token)
                if introspector is not None:
                    return Unproved(key, Opaque(introspector, token))
            found = self._validator.look(token)
        except (Refusal, IssuerUnavailable) as error:
            self._report(error)
            raise
        if not isinstance(found, Entry):
            return Unproved(key, found)
        self._tokens.put(key, found)
        return found

    def _establish(self, unproved: Unproved) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        key, reading = unproved
        try:
            if isinstance(reading, Opaque):
                return (yield from reading.introspector.introspect(reading.token, key))
            entry = yield from self._validator.prove(reading)
        except (Refusal, IssuerUnavailable) as error:
            self._report(error)
            raise
        self._tokens.put(key, entry)
        return entry

    def _is_believed(self, entry: Entry, now: float) -> bool:
        """Whether a remembered token still holds, its key's lease perhaps run out."""
        return (
            now < entry.deadline
            and self._monotonic() < entry.elapses_at
            and (now < entry.lease.until or self._validator.renew(entry))
            and not (isinstance(entry, Introspected) and self._is_withdrawn(entry))
        )

    def _is_withdrawn(self, answer: Introspected) -> bool:
        issuer, key_id = answer.principal.issuer or "", answer.lease.key_id
        return is_withdrawn(self._revocations, issuer, key_id)

    def _check(self, entry: Entry, revocations: Revocations) -> None:
        """Raise `TokenError` if it was revoked, else note which list did not cover it."""
        # Taken first: what is added during the check, the next request sees.
        current = revocations.current
        if entry.checked is not current:
            try:
                revocations.check(entry.principal, entry.lease.key_id)
            except Refusal as refusal:
                self._report(refusal)
                raise
            entry.checked = current

    def _report(self, error: Refusal | IssuerUnavailable) -> None:
        if isinstance(error, Refusal):
            self._events.emit(error.reason.code, error.issuer, error.remedy)
        else:
            self._events.emit(error.reason.code, error.issuer, str(error))
