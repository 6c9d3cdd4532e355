"""The token endpoint: `POST /oauth/token` (RFC 6749 §3.2). Picks the grant; each has its file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bearerguard.runtime.messages import Request, Response
from bearerguard.server.audit import Audit
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.grants import allowance
from bearerguard.server.grants.authorization_code import CodeGrant
from bearerguard.server.grants.refresh_token import RefreshGrant
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import OAuthError, noting, unauthorized_client
from bearerguard.server.http.parameters import Parameters, from_form
from bearerguard.server.settings import Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store.database import Database
from bearerguard.server.tokens.access_token import AccessTokens, Bearer
from bearerguard.server.tokens.token_response import TokenAnswer


class TokenEndpoint:
    """Answers token requests."""

    def __init__(
        self,
        *,
        authentication: ClientAuthentication,
        code: CodeGrant,
        refresh: RefreshGrant,
        own: OwnGrant,
    ) -> None:
        self._authentication = authentication
        self._grants: Mapping[str, Callable[[Client, Parameters], TokenAnswer]] = {
            clients.AUTHORIZATION_CODE: code.redeem,
            clients.REFRESH_TOKEN: refresh.refresh,
            clients.CLIENT_CREDENTIALS: own.issue,
        }

    def handle(self, request: Request) -> Response:
        """Answer; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        client = self._authentication.authenticate(request, parameters)
        with noting(client_id=client.client_id, grant_type=parameters.get("grant_type")):
            return responses.private(self._granted(client, parameters).content())

    def _granted(self, client: Client, parameters: Parameters) -> TokenAnswer:
        grant_type = parameters.required("grant_type")
        grant = self._grants.get(grant_type)
        if grant is None:
            raise OAuthError("unsupported_grant_type", "The server has no such grant type")
        if grant_type not in client.grant_types:
            raise unauthorized_client(
                "The client is not registered for this grant type", "grant_type_not_registered"
            )
        return grant(client, parameters)


class OwnGrant:
    """Client credentials: a client acts for itself (RFC 6749 §4.4). No refresh token."""

    def __init__(
        self, database: Database, settings: Settings, access: AccessTokens, audit: Audit
    ) -> None:
        self._database = database
        self._settings = settings
        self._access = access
        self._audit = audit

    def issue(self, client: Client, parameters: Parameters) -> TokenAnswer:
        """Return an access token whose subject is the client; raises `OAuthError`."""
        scopes = allowance.scopes(parameters, client.scopes, self._settings)
        granted = scopes.granted
        resources = allowance.resources(parameters, self._settings)
        minted = self._access.mint(
            Bearer(client=client, subject=client.client_id, scopes=granted, resources=resources)
        )
        if minted.row is not None:
            with self._database.write() as connection:
                rows.add_access_token(connection, **minted.row)
        self._audit.emit(
            "token_issued",
            grant_type=clients.CLIENT_CREDENTIALS,
            client_id=client.client_id,
            scope=" ".join(granted),
            ignored_scope=scopes.left_out,
        )
        return TokenAnswer(minted, granted)
