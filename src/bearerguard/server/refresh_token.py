"""Refresh tokens: made, kept as digests, and succeeded (RFC 9700 §4.14).

For the grace window the successor is kept sealed under a key that only the old token yields:
a lost answer can be had again by who asked, and a stolen database opens nothing.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Row

from bearerguard.sealing import Sealer, SealError
from bearerguard.server.client import Client
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows

_PREFIX = "bgr_"
_PURPOSE = "refresh token successor"


class RefreshTokens:
    """The refresh tokens of one server."""

    def __init__(
        self, secret: ServerSecret, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._secret = secret
        self._settings = settings
        self._clock = clock

    def make(self) -> str:
        """Return a fresh token, which is nowhere yet."""
        return _PREFIX + secrets.token_urlsafe(32)

    def digest(self, token: str) -> str:
        """Return what the store has of a token."""
        return self._secret.digest("refresh token", token)

    def find(self, connection: Connection, token: str) -> Row[Any] | None:
        """Return the row of a token that was presented, as `rows.find_refresh_token` does."""
        digests = self._secret.digests("refresh token", token)
        return rows.find_refresh_token(connection, *digests)

    def add(
        self, connection: Connection, token: str, grant_id: str, *, client: Client, until: float
    ) -> None:
        """Write a token down; it idles no longer than its time, and never beyond `until`."""
        now = self._clock()
        idle = client.refresh_token_lifetime or self._settings.refresh_token_lifetime
        rows.add_refresh_token(
            connection,
            digest=self.digest(token),
            grant_id=grant_id,
            created_at=now,
            expires_at=min(now + idle, until),
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
