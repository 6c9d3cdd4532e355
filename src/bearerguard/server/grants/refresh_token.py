"""Refreshing: each refresh token serves once and is succeeded (RFC 6749 §6, OAuth 2.1 §4.3).

A client may lose the answer, or ask from several places at once: within the grace window the
last token's bearer gets the same successor again, as long as nobody has used that. Any other
use of a used token is a theft, and ends the family.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Row

from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.scopes_and_resources import narrowed_resources, narrowed_scopes
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import invalid_grant
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import AccessTokens, Bearer
from bearerguard.server.tokens.refresh_token_family import RefreshTokens
from bearerguard.server.tokens.revocations import Revocations

_UNUSABLE = "The refresh token is unknown, over, revoked, or another client's"


@dataclass(frozen=True, slots=True)
class _Succession:
    """The token that follows, and whether it was handed out before."""

    token: str = field(repr=False)
    again: bool


class RefreshTokenGrant:
    """The grant `refresh_token`."""

    grant_type = clients.REFRESH_TOKEN

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        access: AccessTokens,
        refresh: RefreshTokens,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._settings = settings
        self._access = access
        self._refresh = refresh
        self._revocations = revocations
        self._audit = audit
        self._clock = clock

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return new tokens for a refresh token; raises `OAuthError`."""
        token = parameters.required("refresh_token")
        with self._database.read() as connection:
            row = self._refresh.find(connection, token)
            spent = None if row is not None else self._refresh.find_spent(connection, token)
        if spent is not None and spent.client_id == client.client_id:
            raise self._reused(spent)
        row = self._good(row, client)
        if row.used_at is not None and not self._may_come_again(row):
            raise self._reused(row)
        scopes = narrowed_scopes(parameters, row.scope.split(), client.scopes, self._settings)
        resources = narrowed_resources(parameters.resources, json.loads(row.resources))
        access = self._access.mint(
            Bearer(
                client=client,
                subject=row.user_id,
                scopes=scopes.granted,
                resources=resources,
                grant_id=row.grant_id,
                auth_time=row.auth_time,
            )
        )
        with self._database.write() as connection:
            succession = self._succeed(connection, client, token, row.digest)
            if succession is not None and access.row is not None:
                rows.add_access_token(connection, **access.row)
        if succession is None:
            raise self._reused(row)
        self._audit.emit(
            "token_issued",
            grant_type=clients.REFRESH_TOKEN,
            client_id=client.client_id,
            user_id=row.user_id,
            grant_id=row.grant_id,
            again=succession.again or None,
            ignored_scope=scopes.left_out,
        )
        return TokenResponse(
            access_token=access.value,
            expires_in=access.expires_in,
            scopes=scopes.granted,
            refresh_token=succession.token,
        )

    def _good(self, row: Row[Any] | None, client: Client) -> Row[Any]:
        """Return the row of a token that is this client's, and not over; raises `OAuthError`."""
        if row is None:
            raise invalid_grant(_UNUSABLE, "unknown_refresh_token")
        found = {"grant_id": row.grant_id, "user_id": row.user_id}
        if row.client_id != client.client_id:
            raise invalid_grant(
                _UNUSABLE, "refresh_token_of_another_client", issued_to=row.client_id, **found
            )
        if row.revoked_at is not None:
            raise invalid_grant(_UNUSABLE, "revoked_grant", **found)
        over = self._clock() - min(row.expires_at, row.granted_until)
        if over >= 0:
            raise invalid_grant(_UNUSABLE, "expired_refresh_token", seconds=int(over), **found)
        return row

    def _may_come_again(self, row: Row[Any]) -> bool:
        # A clock that was set back by less than that makes no theft of it.
        age = abs(self._clock() - row.used_at)
        return row.sealed_successor is not None and age < self._settings.lifetimes.refresh_grace

    def _succeed(
        self, connection: Connection, client: Client, token: str, digest: str
    ) -> _Succession | None:
        """Return the successor, under the write lock; None when the token was reused."""
        found = rows.find_refresh_token(connection, digest)
        if found is None and self._refresh.find_spent(connection, token) is not None:
            return None
        row = self._good(found, client)  # it may have ended since we looked
        generation = row.last_generation + 1
        successor = self._refresh.make(row.grant_id, generation)
        grace = self._settings.lifetimes.refresh_grace
        used = rows.use_refresh_token(
            connection,
            digest,
            successor=self._refresh.digest(successor),
            sealed=self._refresh.seal(token, successor) if grace > 0 else None,
            now=self._clock(),
        )
        if used:
            self._refresh.add(
                connection,
                successor,
                row.grant_id,
                generation=generation,
                client=client,
                until=row.granted_until,
            )
            rows.count_refresh(connection, row.grant_id, generation)
            return _Succession(successor, again=False)
        return self._again(connection, token, row)

    def _again(self, connection: Connection, token: str, row: Row[Any]) -> _Succession | None:
        """Return the successor that was handed out, if it may be handed out again."""
        if not self._may_come_again(row):
            return None
        successor = rows.find_refresh_token(connection, row.successor)
        if successor is None or successor.used_at is not None:
            return None
        opened = self._refresh.open(token, row.sealed_successor)
        return None if opened is None else _Succession(opened, again=True)

    def _reused(self, row: Row[Any]) -> Exception:
        if self._revocations.grant(row.grant_id, reason="refresh_token_reused"):
            self._audit.emit(
                "refresh_token_reused",
                client_id=row.client_id,
                user_id=row.user_id,
                grant_id=row.grant_id,
            )
        return invalid_grant(
            _UNUSABLE, "refresh_token_reused", grant_id=row.grant_id, user_id=row.user_id
        )
