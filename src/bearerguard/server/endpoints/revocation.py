"""The revocation endpoint, `POST /oauth/revoke` (RFC 7009).

An unknown token gets 200 (§2.2): it is invalid already. `token_type_hint` is ignored, because
the formats of access and refresh tokens differ.
"""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import noting, unauthorized_client
from bearerguard.server.http.parameters import from_form
from bearerguard.server.revocations import Kind, Revocations, Revoked
from bearerguard.server.store import grants as rows
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import AccessTokens, FoundAccessToken, row_for
from bearerguard.server.tokens.personal_token_format import is_token as is_personal
from bearerguard.server.tokens.personal_tokens import PersonalTokenRegistry
from bearerguard.server.tokens.refresh_token_format import RefreshTokens


class TokenRevocation:
    """Revokes the token of a given value."""

    def __init__(
        self,
        *,
        database: Database,
        access: AccessTokens,
        refresh: RefreshTokens,
        revocations: Revocations,
        audit: Audit,
        clock: Callable[[], float],
        personal: PersonalTokenRegistry,
    ) -> None:
        self._personal = personal
        self._database = database
        self._access = access
        self._refresh = refresh
        self._revocations = revocations
        self._audit = audit
        self._clock = clock

    def revoke(self, token: str, client: Client | None = None) -> bool:
        """Revoke a token; return False if it is unknown, or no longer valid.

        Revoking a refresh token revokes its grant with all access tokens (RFC 7009 §2.1). With
        `client`, raises `OAuthError` for a token that was not issued to this client. A personal
        access token is its user's: no client ends it here.
        """
        if is_personal(token):
            if client is not None:
                raise unauthorized_client(
                    "Personal access tokens are ended by their user, and by no client",
                    "personal_token",
                )
            return self._personal.revoke(token)
        row = self._refresh.find(self._database, token)
        if row is None:
            row = self._refresh.find_spent(self._database, token)
        if row is not None:
            _check_owner(client, row.client_id)
            return self._revocations.grant(row.grant_id, reason="revoked")
        found = self._access.find(token)
        if found is None:
            return False
        _check_owner(client, found.client_id)
        return found.active and self._revoke_access_token(found)

    def _revoke_access_token(self, found: FoundAccessToken) -> bool:
        now = self._clock()
        batch: list[Revoked] = []
        with self._database.write(concurrent=True) as connection:
            rows.keep_access_token(connection, **row_for(found))
            changed = rows.revoke_access_token(connection, found.token_key, now)
            if changed:
                until = found.claims["exp"]
                revoked: tuple[Kind, str] = ("jti", found.token_key)
                batch = self._revocations.note(connection, [revoked], now, until=until)
        if changed:
            self._audit.emit("token_revoked", client_id=found.client_id, grant_id=found.grant_id)
            self._revocations.announce(batch)
        return changed


class RevocationEndpoint:
    """Responds to revocation requests."""

    def __init__(self, authentication: ClientAuthentication, revocation: TokenRevocation) -> None:
        self._authentication = authentication
        self._revocation = revocation

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        client = self._authentication.authenticate(request, parameters)
        with noting(client_id=client.client_id):
            self._revocation.revoke(parameters.required("token"), client)
        return responses.empty(200)


def _check_owner(client: Client | None, owner: str) -> None:
    if client is not None and client.client_id != owner:
        raise unauthorized_client(
            "The token was issued to another client", "token_of_another_client", issued_to=owner
        )
