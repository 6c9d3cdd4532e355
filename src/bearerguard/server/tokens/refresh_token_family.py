"""Refresh tokens: made, kept as digests, and succeeded (RFC 9700 §4.14).

A token says, under a key of the server's, of which family it is and how many came before it
(§4.14.2): one that was used long ago is recognised by that, and its row need not be kept.

For the grace window the successor is kept sealed under a key that only the old token yields:
a lost answer can be had again by who asked, and a stolen database opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Sealer, SealError
from bearerguard.server.clients.client import Client
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows

_PREFIX = "bgr_"
_PURPOSE = "refresh token successor"
_LINEAGE = "refresh token lineage"
# A family is its grant's id; what follows is random, then comes the keyed digest of all that.
_FAMILY, _GENERATION, _RANDOM, _MAC = 16, 4, 32, 16
_BODY = _FAMILY + _GENERATION + _RANDOM


class RefreshTokens:
    """The refresh tokens of one server."""

    def __init__(
        self, secret: ServerSecret, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._secret = secret
        self._settings = settings
        self._clock = clock

    def make(self, grant_id: str, generation: int) -> str:
        """Return a fresh token of a family, which is nowhere yet."""
        family = bytes.fromhex(grant_id) + generation.to_bytes(_GENERATION, "big")
        body = family + secrets.token_bytes(_RANDOM)
        mac = bytes.fromhex(self._secret.digest(_LINEAGE, body.hex()))[:_MAC]
        return _PREFIX + base64url.encode(body + mac).decode("ascii")

    def digest(self, token: str) -> str:
        """Return what the store has of a token."""
        return self._secret.digest("refresh token", token)

    def find(self, connection: Connection, token: str) -> Row[Any] | None:
        """Return the row of a token that was presented, as `rows.find_refresh_token` does."""
        digests = self._secret.digests("refresh token", token)
        return rows.find_refresh_token(connection, *digests)

    def find_spent(self, connection: Connection, token: str) -> Row[Any] | None:
        """Return the grant of a token that was used and has no row any more, None for others.

        One that is its family's last was never used: it is over.
        """
        lineage = self._lineage(token)
        grant = None if lineage is None else rows.find_grant(connection, lineage[0])
        if grant is None or lineage is None or lineage[1] >= grant.generation:
            return None
        return grant

    def _lineage(self, token: str) -> tuple[str, int] | None:
        """Return the grant and the generation that a token of this server says it has."""
        try:
            octets = base64url.decode(token.removeprefix(_PREFIX).encode("ascii"))
        except ValueError:
            return None
        if not token.startswith(_PREFIX) or len(octets) != _BODY + _MAC:
            return None
        body, mac = octets[:_BODY], octets[_BODY:]
        known = self._secret.digests(_LINEAGE, body.hex())
        if not any(secrets.compare_digest(bytes.fromhex(each)[:_MAC], mac) for each in known):
            return None
        generation = int.from_bytes(body[_FAMILY : _FAMILY + _GENERATION], "big")
        return body[:_FAMILY].hex(), generation

    def add(
        self,
        connection: Connection,
        token: str,
        grant_id: str,
        *,
        generation: int,
        client: Client,
        until: float,
    ) -> None:
        """Write a token down; it idles no longer than its time, and never beyond `until`."""
        now = self._clock()
        idle = client.refresh_token_lifetime or self._settings.lifetimes.refresh_token
        rows.add_refresh_token(
            connection,
            digest=self.digest(token),
            grant_id=grant_id,
            created_at=now,
            expires_at=min(now + idle, until),
            generation=generation,
        )

    def seal(self, token: str, successor: str) -> bytes:
        """Return the successor so that only the token opens it."""
        return Sealer(token, purpose=_PURPOSE).seal(successor.encode())

    def open(self, token: str, sealed: bytes) -> str | None:
        """Return the successor, None when the token does not open it."""
        try:
            return Sealer(token, purpose=_PURPOSE).open(sealed).decode()
        except SealError:
            return None
