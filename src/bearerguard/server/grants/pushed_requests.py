"""Pushed authorization requests: stored, found by their `request_uri`, and used once (RFC 9126).

A request has a row, and its URI is a short random reference. A sealed request in the URI would need
no row, but make links as long as those without PAR, and could not outlive its minute while the user
is signing in. A user must arrive within the lifetime. Then the request stays for an hour, in which
pages may be reloaded, and is used up when its client gets a code or an error (§4, §7.3).
Knows no HTTP.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from bearerguard.errors import BearerGuardError
from bearerguard.protocol import names
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import pushed_requests as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database

_KIND = "pushed request"
# Seconds for which a request stays when a user has arrived: as long as the forms of the pages.
_ARRIVED = 3600.0


class UnusableRequest(BearerGuardError):
    """A `request_uri` cannot be used: it is unknown, expired, used, or another client's.

    Internal: the authorization endpoint handles it.

    Attributes:
        reason: which of these, as a stable name for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class PushedRequest:
    """A request that a client has pushed.

    Attributes:
        digest: the key of its row.
        query: its parameters, as a query.
        is_kept: whether a user has arrived with it before.
        until: until when it is kept then, in Unix seconds.
    """

    digest: str
    query: str = field(repr=False)
    is_kept: bool
    until: float


class PushedRequests:
    """The pushed requests of one server."""

    def __init__(
        self,
        *,
        database: Database,
        secret: ServerSecret,
        settings: Settings,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._secret = secret
        self._lifetime = settings.lifetimes.pushed_request
        self._clock = clock

    def add(self, client_id: str, query: str) -> str:
        """Store a client's request, and return its `request_uri` (§2.2)."""
        request_uri = names.REQUEST_URI + secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.write(concurrent=True) as connection:
            rows.add(
                connection,
                digest=self._secret.digest(_KIND, request_uri),
                client_id=client_id,
                parameters=query,
                created_at=now,
                expires_at=now + self._lifetime,
            )
        return request_uri

    def find(self, client_id: str, request_uri: str) -> PushedRequest:
        """Return a client's unused request; raises `UnusableRequest` if there is none."""
        row = rows.find(self._database, self._secret.digests(_KIND, request_uri))
        if row is None:
            raise UnusableRequest("unknown_request_uri")
        if row.client_id != client_id:
            raise UnusableRequest("request_uri_of_another_client")
        if row.used_at is not None:
            raise UnusableRequest("used_request_uri")
        if row.expires_at <= self._clock():
            raise UnusableRequest("expired_request_uri")
        until = row.created_at + self._lifetime + _ARRIVED
        return PushedRequest(row.digest, row.parameters, row.expires_at >= until, until)

    def keep(self, pushed: PushedRequest) -> None:
        """Keep a request for the user who has arrived, and is shown a page."""
        if pushed.is_kept:
            return
        with self._database.write(concurrent=True) as connection:
            rows.keep(connection, pushed.digest, pushed.until)

    def use(self, connection: Connection, pushed: PushedRequest) -> None:
        """Use a request up.

        Raises:
            UnusableRequest: another response has; the transaction must be undone.
        """
        if not rows.use(connection, pushed.digest, self._clock()):
            raise UnusableRequest("used_request_uri")

    def end(self, pushed: PushedRequest) -> None:
        """Use a request up whose client gets an error; raises `UnusableRequest`."""
        with self._database.write(concurrent=True) as connection:
            self.use(connection, pushed)
