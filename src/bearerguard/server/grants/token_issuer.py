"""Issues the first tokens of a grant, and stores the grant and the tokens' rows.

The grant decides who may have which token. A client's own tokens have no row in the table
of grants.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from bearerguard.errors import ConfigurationError
from bearerguard.protocol import dpop, names, scope
from bearerguard.server.audit import Audit
from bearerguard.server.clients.client import Client
from bearerguard.server.grants import possession, scopes_and_resources
from bearerguard.server.grants.scopes_and_resources import Scopes
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.oauth_error import invalid_grant
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings
from bearerguard.server.store import clients as client_rows
from bearerguard.server.store import grants as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import USER_ID, is_disabled, is_user_id
from bearerguard.server.tokens.access_token import (
    AccessTokens,
    Authorization,
    NewAccessToken,
    amr_text,
)
from bearerguard.server.tokens.refresh_token_format import RefreshTokens


@dataclass(frozen=True, slots=True, kw_only=True)
class NewGrant:
    """A grant to be stored, and its first tokens."""

    grant_id: str
    client: Client
    user_id: str
    scopes: tuple[str, ...]
    # JSON, as the store has it.
    resources: str
    auth_time: float | None
    acr: str | None
    access: NewAccessToken
    refresh_token: str | None = field(repr=False)
    # The key that its refresh tokens are bound to, as the store has it.
    cnf: str | None = None
    # How the user logged in, as the store has it.
    amr: str | None = None
    upstream: str | None = None
    upstream_sid: str | None = field(default=None, repr=False)


class TokenIssuer:
    """Issues the tokens of one server; see `AuthorizationServer.tokens`."""

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        access: AccessTokens,
        refresh: RefreshTokens,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._settings = settings
        self._access = access
        self._refresh = refresh
        self._audit = audit
        self._clock = clock

    def issue(
        self,
        client: Client,
        parameters: Parameters,
        *,
        subject: str,
        scopes: Iterable[str] | None = None,
        refreshable: bool = False,
    ) -> TokenResponse:
        """Issue the tokens that a token request asks for, and report the event `token_issued`.

        The request's `scope` and `resource` are checked (RFC 6749 §3.3, RFC 8707 §2).

        Args:
            client: who asks.
            parameters: the request's.
            subject: the `sub` of the token: the client's id for its own tokens, a user's id
                for a user's. Revoking or disabling that user ends them.
            scopes: limits the scopes to some of the client's; by default it may get all of them.
            refreshable: whether a refresh token is issued too, for a user's tokens of a client
                that is registered for `refresh_token`.

        Raises:
            OAuthError: the scope or the resource cannot be granted, or the user is disabled, or
                the subject is the id of another client.
            ConfigurationError: the subject is no text of 1 to 255 characters, or `scopes` is
                no list.
        """
        _check(subject, scopes)
        allowed = client.scopes
        if scopes is not None:
            possible = frozenset(scopes)
            allowed = tuple(name for name in allowed if name in possible)
        found = scopes_and_resources.requested_scopes(parameters, allowed, self._settings)
        resources = scopes_and_resources.requested_resources(parameters, self._settings)
        authorization = Authorization(
            client=client, subject=subject, scopes=found.granted, resources=resources
        )
        return self.issue_granted(authorization, parameters, found, refreshable=refreshable)

    def issue_granted(
        self,
        authorization: Authorization,
        parameters: Parameters,
        found: Scopes,
        *,
        refreshable: bool = False,
        also: Callable[[Connection], object] | None = None,
        resources: tuple[str, ...] | None = None,
        upstream: str | None = None,
        upstream_sid: str | None = None,
    ) -> TokenResponse:
        """Issue the tokens of an authorization whose scopes and resources are checked.

        A user's tokens begin a grant, unless the authorization has one. `also` is done first in
        the transaction that stores the grant, and may refuse by raising `OAuthError`. `resources`
        are the grant's, if they are more than those of the first token. `upstream` is the issuer
        where the user logged in, None for here, and `upstream_sid` the session there.
        """
        client = authorization.client
        own = authorization.subject == client.client_id
        begins = authorization.grant_id is None and not own
        proved = parameters.confirmation
        if proved:
            authorization = replace(authorization, confirmation=proved)
        if begins:
            authorization = replace(authorization, grant_id=secrets.token_hex(16))
        grant_id = authorization.grant_id
        access = self._access.create(authorization)
        refresh_token = None
        cnf = possession.of_refresh_tokens(client, proved)
        if begins and grant_id is not None:
            if refreshable and names.REFRESH_TOKEN in client.grant_types:
                refresh_token = self._refresh.make(grant_id, 0, bound=cnf is not None)
            grant = NewGrant(
                grant_id=grant_id,
                client=client,
                user_id=authorization.subject,
                scopes=found.granted,
                resources=json.dumps(resources or authorization.resources),
                auth_time=authorization.auth_time,
                acr=authorization.acr,
                access=access,
                refresh_token=refresh_token,
                cnf=cnf,
                amr=amr_text(authorization.amr),
                upstream=upstream,
                upstream_sid=upstream_sid,
            )
            self._begin(grant, also)
        elif access.row is not None:
            with self._database.write(concurrent=True) as connection:
                rows.add_access_token(connection, **access.row)
        self._audit.emit(
            "token_issued",
            grant_type=parameters.get("grant_type"),
            client_id=client.client_id,
            user_id=None if own else authorization.subject,
            grant_id=grant_id,
            scope=scope.build(found.granted),
            ignored_scope=found.left_out,
        )
        return TokenResponse(
            access_token=access.value,
            expires_in=access.expires_in,
            scopes=found.granted,
            refresh_token=refresh_token,
            token_type=dpop.token_type(proved),
        )

    def add(self, connection: Connection, grant: NewGrant, now: float) -> None:
        """Store a grant and its first tokens."""
        if grant.refresh_token is None:
            until = grant.access.expires_at
        else:
            until = now + (
                grant.client.refresh_token_max_lifetime
                or self._settings.lifetimes.refresh_token_max
            )
        rows.add_grant(
            connection,
            grant_id=grant.grant_id,
            client_id=grant.client.client_id,
            user_id=grant.user_id,
            scope=scope.build(grant.scopes),
            resources=grant.resources,
            auth_time=grant.auth_time,
            acr=grant.acr,
            created_at=now,
            expires_at=until,
            access_expires_at=grant.access.expires_at,
            cnf=grant.cnf,
            amr=grant.amr,
            upstream=grant.upstream,
            upstream_sid=grant.upstream_sid,
        )
        if grant.access.row is not None:
            rows.add_access_token(connection, **grant.access.row)
        if grant.refresh_token is not None:
            first = self._refresh.row(
                self._refresh.digest(grant.refresh_token),
                grant.grant_id,
                generation=0,
                client=grant.client,
                until=until,
            )
            rows.add_refresh_token(connection, **first)

    def _begin(self, grant: NewGrant, also: Callable[[Connection], object] | None) -> None:
        with self._database.write() as connection:
            if also is not None:
                also(connection)
            # Not earlier: while this waited for the lock, the user may have been disabled.
            if is_disabled(connection, grant.user_id):
                raise invalid_grant(
                    "The user may not sign in", "user_disabled", user_id=grant.user_id
                )
            if client_rows.find(connection, grant.user_id) is not None:
                raise invalid_grant(
                    "The user cannot be named", "user_has_a_clients_id", user_id=grant.user_id
                )
            self.add(connection, grant, self._clock())


def _check(subject: object, scopes: object) -> None:
    """Raise `ConfigurationError` for what a grant of an application's own may get wrong."""
    if not isinstance(subject, str) or not is_user_id(subject):
        raise ConfigurationError(
            f"tokens.issue(subject=): pass a user's id or the client's, with {USER_ID}"
        )
    if isinstance(scopes, str):  # else its letters would be the scopes
        raise ConfigurationError("tokens.issue(scopes=): pass a list of scopes")
