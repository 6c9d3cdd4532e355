"""Client credentials: a client gets tokens for itself (RFC 6749 §4.4). No refresh token."""

from __future__ import annotations

from bearerguard.protocol import names
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.token_issuer import TokenIssuer
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http.parameters import Parameters


class ClientCredentialsGrant:
    """The grant `client_credentials`."""

    grant_type = names.CLIENT_CREDENTIALS

    def __init__(self, tokens: TokenIssuer) -> None:
        self._tokens = tokens

    def handle(self, client: Client, parameters: Parameters) -> TokenResponse:
        """Return an access token whose subject is the client; raises `OAuthError`."""
        return self._tokens.issue(client, parameters, subject=client.client_id)
