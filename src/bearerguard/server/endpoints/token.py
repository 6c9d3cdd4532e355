"""The token endpoint, `POST /oauth/token` (RFC 6749 §3.2). It picks the grant by `grant_type`."""

from __future__ import annotations

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.registry import GrantRegistry
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import OAuthError, noting, unauthorized_client
from bearerguard.server.http.parameters import Parameters, from_form
from bearerguard.server.observers import note_grant_type, note_issued


class TokenEndpoint:
    """Responds to token requests."""

    def __init__(self, authentication: ClientAuthentication, grants: GrantRegistry) -> None:
        self._authentication = authentication
        self._grants = grants

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        grant_type = parameters.get("grant_type")
        note_grant_type(grant_type, is_registered=grant_type in self._grants)
        client = self._authentication.authenticate(request, parameters)
        with noting(client_id=client.client_id, grant_type=grant_type):
            issued = self._issue(client, parameters)
        if issued.refresh_token is None:
            note_issued("access_token")
        else:
            note_issued("access_token", "refresh_token")
        return responses.private(issued.content())

    def _issue(self, client: Client, parameters: Parameters) -> TokenResponse:
        grant_type = parameters.required("grant_type")
        grant = self._grants.get(grant_type)
        if grant is None:
            raise OAuthError(names.UNSUPPORTED_GRANT_TYPE, "The server has no such grant type")
        if grant_type not in client.grant_types:
            raise unauthorized_client(
                "The client is not registered for this grant type", "grant_type_not_registered"
            )
        try:
            response: object = grant.handle(client, parameters)
        except (OAuthError, StoreUnavailable, ConfigurationError):
            raise
        except Exception as error:
            # The server's fault, so the response is 503: an application's own may raise anything.
            raise ConfigurationError(f"the grant {grant_type!r} failed") from error
        if not isinstance(response, TokenResponse):
            raise ConfigurationError(
                f"the grant {grant_type!r}: handle() must return a TokenResponse"
            )
        return response
