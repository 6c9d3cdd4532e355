"""The format of refresh tokens, and what is stored of them (RFC 9700 §4.14).

A token contains its family (the grant) and its generation, authenticated with a key of the server
(§4.14.2). A token that was used long ago is recognised by that, without a row.

For the grace period, the successor is stored sealed with a key that is derived from the old token.
Who repeats the refresh gets it again; a stolen database does not reveal it. How long that is
allowed is decided in `grants.refresh_token`.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.sealing import Sealer, SealError
from bearerguard.server.clients.client import Client
from bearerguard.server.secret import ServerSecret
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Executes, Row
from bearerguard.server.store.grants import RefreshTokenRow

_PREFIX = "bgr_"
_PURPOSE = "refresh token successor"
_LINEAGE = "refresh token lineage"
# The id of the grant, the generation, random octets, and a keyed digest of all that.
_FAMILY, _GENERATION, _RANDOM, _MAC = 16, 4, 32, 16
_BODY = _FAMILY + _GENERATION + _RANDOM
# The first bit of the generation: whether the token is bound to the key of its grant.
_BOUND = 1 << (8 * _GENERATION - 1)


class RefreshTokens:
    """The refresh tokens of one server."""

    def __init__(
        self, secret: ServerSecret, settings: Settings, clock: Callable[[], float]
    ) -> None:
        self._secret = secret
        self._settings = settings
        self._clock = clock

    def make(self, grant_id: str, generation: int, *, bound: bool) -> str:
        """Return a new token of a family, which may be bound to a key. It is not stored yet."""
        number = generation | (_BOUND if bound else 0)
        family = bytes.fromhex(grant_id) + number.to_bytes(_GENERATION, "big")
        body = family + secrets.token_bytes(_RANDOM)
        mac = bytes.fromhex(self._secret.digest(_LINEAGE, body.hex()))[:_MAC]
        return _PREFIX + base64url.encode(body + mac).decode("ascii")

    def digest(self, token: str) -> str:
        """Return the digest that is stored instead of a token."""
        return self._secret.digest("refresh token", token)

    def find(self, connection: Executes, token: str) -> Row | None:
        """Return the row of a presented token; see `rows.find_refresh_token`."""
        digests = self._secret.digests("refresh token", token)
        return rows.find_refresh_token(connection, *digests)

    def find_spent(self, connection: Executes, token: str) -> Row | None:
        """Return the grant of a token that was used and no longer has a row, else None.

        The last token of a family was never used: without a row, it has expired.
        """
        lineage = self._lineage(token)
        grant = None if lineage is None else rows.find_grant(connection, lineage[0])
        if grant is None or lineage is None or lineage[1] >= grant.generation:
            return None
        return grant

    def is_bound(self, token: str) -> bool:
        """Whether a token of this server was bound to a key when it was issued."""
        lineage = self._lineage(token)
        return lineage is not None and lineage[2]

    def _lineage(self, token: str) -> tuple[str, int, bool] | None:
        """Return the grant, the generation and the binding that a token of this server contains."""
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
        number = int.from_bytes(body[_FAMILY : _FAMILY + _GENERATION], "big")
        return body[:_FAMILY].hex(), number & ~_BOUND, bool(number & _BOUND)

    def row(
        self, digest: str, grant_id: str, *, generation: int, client: Client, until: float
    ) -> RefreshTokenRow:
        """Return the row of a token that is stored now, by its digest.

        It expires when it is idle for its lifetime, and at `until` at the latest.
        """
        now = self._clock()
        idle = client.refresh_token_lifetime or self._settings.lifetimes.refresh_token
        return {
            "digest": digest,
            "grant_id": grant_id,
            "created_at": now,
            "expires_at": min(now + idle, until),
            "generation": generation,
        }

    def seal(self, token: str, successor: str) -> bytes:
        """Return the successor, sealed so that only the token opens it."""
        return Sealer(token, purpose=_PURPOSE).seal(successor.encode())

    def open(self, token: str, sealed: bytes) -> str | None:
        """Return the successor, or None if the token does not open it."""
        try:
            return Sealer(token, purpose=_PURPOSE).open(sealed).decode()
        except SealError:
            return None
