"""Refresh tokens are used once and rotated, with a grace period (RFC 6749 §6, OAuth 2.1 §4.3).

A client may lose the response, or refresh from several places at once. During the grace period,
whoever repeats the last refresh gets the same successor, unless that was used already. Any other
reuse means that a token was stolen: it revokes the grant with all its tokens.

A token that is bound to a key is nothing without the key: then it is refused, and revokes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field

from bearerguard.protocol import dpop, names
from bearerguard.server.audit import Audit
from bearerguard.server.clients.client import Client
from bearerguard.server.grants import possession
from bearerguard.server.grants.scopes_and_resources import narrowed_resources, narrowed_scopes
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import invalid_grant
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.revocations import Revocations
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Connection, Row
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import (
    AccessTokens,
    Authorization,
    NewAccessToken,
    amr_of,
)
from bearerguard.server.tokens.refresh_token_format import RefreshTokens

_UNUSABLE = "The refresh token is unknown, expired, revoked, or another client's"


@dataclass(frozen=True, slots=True)
class _Succession:
    """The next refresh token, and whether this is a repetition within the grace period."""

    token: str = field(repr=False)
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Following:
    """The next refresh token, what is stored of it, and the access token beside it.

    `cnf` is the key that it is bound to, as the store has it.
    """

    token: str = field(repr=False)
    digest: str
    sealed: bytes | None = field(repr=False)
    generation: int
    access: NewAccessToken
    cnf: str | None


class RefreshTokenGrant:
    """The grant `refresh_token`."""

    grant_type = names.REFRESH_TOKEN

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
        row = self._refresh.find(self._database, token)
        spent = None if row is not None else self._refresh.find_spent(self._database, token)
        if spent is not None and spent.client_id == client.client_id:
            if self._refresh.is_bound(token):
                _check_key(spent, parameters)
            raise self._reused(spent)
        row = self._valid(row, client)
        if row.used_at is None or self._refresh.is_bound(token):
            _check_key(row, parameters)
        if row.used_at is not None and not self._is_repeatable(row, parameters):
            raise self._reused(row)
        # Without those that the client has lost since.
        granted = [name for name in row.scope.split() if name in client.scopes]
        scopes = narrowed_scopes(parameters, granted, client.scopes, self._settings)
        resources = narrowed_resources(parameters.resources, json.loads(row.resources))
        access = self._access.create(
            Authorization(
                client=client,
                subject=row.user_id,
                scopes=scopes.granted,
                resources=resources,
                grant_id=row.grant_id,
                auth_time=row.auth_time,
                confirmation=parameters.confirmation,
                acr=row.acr,
                amr=amr_of(row.amr),
            )
        )
        # Before the transaction, which may keep others waiting.
        cnf = row.cnf or possession.of_refresh_tokens(client, parameters.confirmation)
        following = self._following(token, row, access, cnf)
        with self._database.write(concurrent=True) as connection:
            succession = self._succeed(connection, client, parameters, row, following)
            if succession is not None and access.row is not None:
                rows.add_access_token(connection, **access.row)
        if succession is None:
            raise self._reused(row)
        self._audit.emit(
            "token_issued",
            grant_type=names.REFRESH_TOKEN,
            client_id=client.client_id,
            user_id=row.user_id,
            grant_id=row.grant_id,
            repeated=succession.repeated or None,
            ignored_scope=scopes.left_out,
        )
        return TokenResponse(
            access_token=access.value,
            expires_in=access.expires_in,
            scopes=scopes.granted,
            refresh_token=succession.token,
            token_type=dpop.token_type(parameters.confirmation),
        )

    def _valid(self, row: Row | None, client: Client) -> Row:
        """Return the row of a token that is this client's and is valid; raises `OAuthError`."""
        if row is None:
            raise invalid_grant(_UNUSABLE, "unknown_refresh_token")
        found = {"grant_id": row.grant_id, "user_id": row.user_id}
        if row.client_id != client.client_id:
            raise invalid_grant(
                _UNUSABLE, "refresh_token_of_another_client", issued_to=row.client_id, **found
            )
        if row.revoked_at is not None:
            raise invalid_grant(_UNUSABLE, "revoked_grant", **found)
        if row.user_is_disabled:
            raise invalid_grant(_UNUSABLE, "user_disabled", **found)
        age = self._clock() - min(row.expires_at, row.granted_until)
        if age >= 0:
            raise invalid_grant(_UNUSABLE, "expired_refresh_token", seconds=int(age), **found)
        return row

    def _is_repeatable(self, row: Row, parameters: Parameters) -> bool:
        """Whether a token that was used may be repeated: in time, and by the key of its successor.

        A bearer token whose successor is bound to another key was used by two parties.
        """
        return self._is_within_grace(row) and _is_proved(row, parameters)

    def _is_within_grace(self, row: Row) -> bool:
        # abs(): a clock that was set back by less than the grace period causes no false alarm.
        age = abs(self._clock() - row.used_at)
        return row.sealed_successor is not None and age < self._settings.lifetimes.refresh_grace

    def _succeed(
        self,
        connection: Connection,
        client: Client,
        parameters: Parameters,
        row: Row,
        following: _Following,
    ) -> _Succession | None:
        """Return the successor, or None when the token was reused; raises `OAuthError`."""
        successor = self._refresh.row(
            following.digest,
            row.grant_id,
            generation=following.generation,
            client=client,
            until=row.granted_until,
        )
        used = rows.rotate_refresh_token(
            connection,
            row.digest,
            successor,
            sealed=following.sealed,
            access_expires_at=following.access.expires_at,
            cnf=following.cnf,
        )
        if not used:
            return self._repeat(connection, client, parameters, row.digest)
        return _Succession(following.token, repeated=False)

    def _following(
        self, token: str, row: Row, access: NewAccessToken, cnf: str | None
    ) -> _Following:
        """Return the tokens that follow a refresh token, if it is used now for the first time."""
        generation = row.last_generation + 1
        successor = self._refresh.make(row.grant_id, generation, bound=cnf is not None)
        keeps = self._settings.lifetimes.refresh_grace > 0
        return _Following(
            token=successor,
            digest=self._refresh.digest(successor),
            sealed=self._refresh.seal(token, successor) if keeps else None,
            generation=generation,
            access=access,
            cnf=cnf,
        )

    def _repeat(
        self, connection: Connection, client: Client, parameters: Parameters, digest: str
    ) -> _Succession | None:
        """Return the same successor again, if the grace period allows it.

        Raises `OAuthError` if the grant has ended since it was read, or the client.
        """
        token = parameters.required("refresh_token")
        found = rows.find_refresh_token(connection, digest)
        if found is None and self._refresh.find_spent(connection, token) is not None:
            return None
        row = self._valid(found, client)
        if not self._is_repeatable(row, parameters):
            return None
        successor = rows.find_refresh_token(connection, row.successor)
        if successor is None or successor.used_at is not None:
            return None
        opened = self._refresh.open(token, row.sealed_successor)
        return None if opened is None else _Succession(opened, repeated=True)

    def _reused(self, row: Row) -> Exception:
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


def _check_key(row: Row, parameters: Parameters) -> None:
    """Raise `OAuthError` unless the request proves the key that a refresh token is bound to.

    It revokes nothing: whoever lacks the key cannot use the token, nor end it.
    """
    if not _is_proved(row, parameters):
        raise invalid_grant(
            "The refresh token is bound to another key: send a DPoP proof of that key",
            "wrong_key" if parameters.confirmation else "missing_dpop_proof",
            grant_id=row.grant_id,
            user_id=row.user_id,
        )


def _is_proved(row: Row, parameters: Parameters) -> bool:
    return possession.is_proved(possession.stored(row.cnf), parameters.confirmation)
