"""From a token to its bearer: the cache first, then a plain call, then a flow.

Owns the order in which a token is looked at, and reports what fails. Decides nothing about
a request, and knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from bearerguard.errors import ISSUER_UNAVAILABLE, IssuerUnavailable, Refusal
from bearerguard.flow import Flow
from bearerguard.guard.events import Events
from bearerguard.guard.jwt_validator import JwtValidator, Reading
from bearerguard.guard.token_cache import Entry, TokenCache, digest


class Unproved(NamedTuple):
    """A token that needs a flow, under the digest by which it will be remembered."""

    key: bytes
    reading: Reading


class Authenticator:
    """Says who bears a token, and remembers it. `clock` returns Unix seconds."""

    def __init__(
        self,
        validator: JwtValidator,
        tokens: TokenCache,
        *,
        events: Events,
        clock: Callable[[], float],
    ) -> None:
        self._validator = validator
        self._tokens = tokens
        self._events = events
        self._clock = clock

    def look(self, token: bytes) -> Entry | Unproved:
        """Return what can be said of a token without I/O; raises `TokenError`."""
        key = digest(token)
        entry = self._tokens.get(key)
        if entry is not None and self._is_believed(entry):
            return entry
        try:
            reading = self._validator.read(token)
            entry = self._validator.recognise(reading)
        except Refusal as refusal:
            self._report(refusal)
            raise
        if entry is None:
            return Unproved(key, reading)
        self._tokens.put(key, entry)
        return entry

    def prove(self, unproved: Unproved) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        try:
            entry = yield from self._validator.prove(unproved.reading)
        except Refusal as refusal:
            self._report(refusal)
            raise
        except IssuerUnavailable as error:
            self._events.emit(ISSUER_UNAVAILABLE.code, error.issuer, str(error))
            raise
        self._tokens.put(unproved.key, entry)
        return entry

    def authenticate(self, token: bytes) -> Flow[Entry]:
        """Do both: look, and prove what is unproved."""
        found = self.look(token)
        return found if isinstance(found, Entry) else (yield from self.prove(found))

    def _is_believed(self, entry: Entry) -> bool:
        """Whether a remembered token still holds, its key's lease perhaps run out."""
        now = self._clock()
        return now < entry.deadline and (now < entry.lease.until or self._validator.renew(entry))

    def _report(self, refusal: Refusal) -> None:
        self._events.emit(refusal.reason.code, refusal.issuer, refusal.remedy)
