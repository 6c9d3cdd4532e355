"""The token endpoint, `POST /oauth/token` (RFC 6749 §3.2). It picks the grant by `grant_type`."""

from __future__ import annotations

import re
from dataclasses import replace

from bearerguard.errors import ConfigurationError, StoreUnavailable
from bearerguard.protocol import names
from bearerguard.protocol.http.certificates import X5T_S256
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.grants.registry import GrantRegistry
from bearerguard.server.grants.token_response import TokenResponse
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import (
    OAuthError,
    invalid_request,
    noting,
    unauthorized_client,
)
from bearerguard.server.http.parameters import Parameters, from_form
from bearerguard.server.observers import note_grant_type, note_issued
from bearerguard.server.tokens.dpop import TokenRequestProofs, missing_proof

# A client's request for a token of its own, of usual size. An assertion is none of the parameters:
# its use is recorded.
_OTHER = rb"(?:client_id|client_secret|scope|resource)=[^&]*"
_OWN_TOKEN = re.compile(rb"(?:%b&)*grant_type=client_credentials(?:&%b)*" % (_OTHER, _OTHER))
_USUAL_BYTES = 4096


def asks_for_own_token(body: bytes) -> bool:
    """Whether a form asks for a client's own token, by no other credentials than a secret.

    False for unusual spellings of the same.
    """
    return len(body) <= _USUAL_BYTES and _OWN_TOKEN.fullmatch(body) is not None


class TokenEndpoint:
    """Responds to token requests."""

    def __init__(
        self,
        authentication: ClientAuthentication,
        grants: GrantRegistry,
        proofs: TokenRequestProofs,
    ) -> None:
        self._authentication = authentication
        self._grants = grants
        self._proofs = proofs

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        grant_type = parameters.get("grant_type")
        note_grant_type(grant_type, is_registered=grant_type in self._grants)
        proof = self._proofs.check(request, parameters)
        client = self._authentication.authenticate(request, parameters)
        headers: tuple[tuple[str, str], ...] = ()
        with noting(client_id=client.client_id, grant_type=grant_type):
            if proof is not None:
                self._proofs.use(proof)
                parameters = replace(parameters, confirmation={"jkt": proof.thumbprint})
                headers = self._proofs.next_nonce(proof)
            elif self._proofs.needs_proof(client):
                raise missing_proof()
            if client.tls_client_certificate_bound_access_tokens:
                parameters = _bound_to_certificate(request, parameters)
            issued = self._issue(client, parameters)
        if issued.refresh_token is None:
            note_issued("access_token")
        else:
            note_issued("access_token", "refresh_token")
        return responses.private(issued.content(), *headers)

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
        if response.token_type != names.DPOP and self._proofs.needs_proof(client):
            raise ConfigurationError(
                f"the grant {grant_type!r}: a token of this client must be bound to the key of the"
                " request: issue it by AuthorizationServer.tokens"
            )
        return response


def _bound_to_certificate(request: Request, parameters: Parameters) -> Parameters:
    """Return the parameters of a request whose tokens are bound to its certificate (RFC 8705 §3).

    Raises `OAuthError` if it has none.
    """
    if request.certificate is None:
        raise invalid_request(
            "The client must present its certificate in the TLS handshake (RFC 8705)",
            "no_client_certificate",
            detail=request.certificate_problem or None,
        )
    confirmation = {**parameters.confirmation, X5T_S256: request.certificate.thumbprint}
    return replace(parameters, confirmation=confirmation)
