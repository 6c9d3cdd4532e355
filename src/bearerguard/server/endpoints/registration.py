"""The registration endpoint, `POST /oauth/register` (RFC 7591 §3).

It has no management of registered clients (RFC 7592): nobody needs it who may register again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bearerguard.errors import ConfigurationError, CredentialsError
from bearerguard.protocol import names, scope
from bearerguard.protocol.http import credentials
from bearerguard.protocol.jose import strict_json
from bearerguard.runtime.messages import Request, Response
from bearerguard.server.clients import client as clients
from bearerguard.server.clients import client_metadata
from bearerguard.server.clients.client import Rules
from bearerguard.server.clients.client_metadata import (
    INVALID_CLIENT_METADATA,
    ClientMetadata,
    UnfitMetadata,
)
from bearerguard.server.clients.registration import FIRST_USE, Registration
from bearerguard.server.clients.registry import ClientRegistry, Registered
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import (
    OAuthError,
    described,
    invalid_request,
    too_many_requests,
)
from bearerguard.server.login.throttle import Throttle

_METHODS = frozenset({clients.NONE, clients.BASIC, clients.POST, clients.PRIVATE_KEY_JWT})
_CHALLENGE = 'Bearer realm="oauth"'
_CHALLENGE_AGAIN = f'{_CHALLENGE}, error="invalid_token"'


class RegistrationEndpoint:
    """Responds to registration requests.

    Args:
        options: the operator's.
        rules: what clients are checked against.
        scopes: the scopes that the clients get.
        registry: stores the clients.
        throttle: counts the requests.
        clock: returns Unix seconds.
    """

    def __init__(
        self,
        options: Registration,
        *,
        rules: Rules,
        scopes: tuple[str, ...],
        registry: ClientRegistry,
        throttle: Throttle,
        clock: Callable[[], float],
    ) -> None:
        self._options = options
        self._rules = rules
        self._scopes = scopes
        self._registry = registry
        self._throttle = throttle
        self._clock = clock

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        self._check_token(request)
        content = _content(request)
        try:
            # RFC 7591 §2: without a method, the client has a secret that it sends by Basic.
            metadata = client_metadata.read(
                content,
                auth_methods=client_metadata.with_certificates(_METHODS, self._rules.methods),
                default_method=clients.BASIC,
                name="",
                takes_certificates=self._rules.settings.mutual_tls is not None,
            )
            if metadata.jwks_uri is not None:
                raise UnfitMetadata(  # noqa: TRY301 - as what `read` raises
                    "jwks_uri: send the keys as jwks", "unsupported_jwks_uri"
                )
            self._charge(request)
            registered = self._registered(metadata)
        except UnfitMetadata as error:
            raise OAuthError(
                error.error, described(str(error)), reason=error.reason, detail=str(error)
            ) from error
        return responses.private(_information(registered, metadata), status=201)

    def _check_token(self, request: Request) -> None:
        """Raise `OAuthError` unless the request has the initial access token that it needs."""
        if not self._options.needs_token:
            return
        try:
            token = credentials.bearer_token(request.values(b"authorization"))
        except CredentialsError:
            token = b""
        if token is not None and self._options.admits(token):
            return
        absent = token is None
        raise OAuthError(
            "invalid_token",
            "Registration needs an initial access token (RFC 7591 section 3)",
            reason="missing_initial_access_token" if absent else "wrong_initial_access_token",
            status=401,
            headers=(("WWW-Authenticate", _CHALLENGE if absent else _CHALLENGE_AGAIN),),
            address=request.peer,
        )

    def _charge(self, request: Request) -> None:
        """Raise `OAuthError` if there were too many registrations."""
        limits = self._options
        wait = self._throttle.charge_site(
            "registration", request.peer, by_address=limits.per_address, in_all=limits.in_all
        )
        if wait:
            raise too_many_requests(
                "registrations", "too_many_registrations", wait, address=request.peer
            )

    def _registered(self, metadata: ClientMetadata) -> Registered:
        method = metadata.auth_method
        first_use = min(FIRST_USE, self._options.unused_lifetime)
        try:
            return self._registry.register(
                metadata.name,
                expires_at=self._clock() + first_use,
                # Either form of a secret: many clients announce the one and use the other.
                auth_method=clients.SECRET if method in clients.WITH_SECRET else method,
                grant_types=metadata.grant_types,
                redirect_uris=metadata.redirect_uris,
                scopes=self._scopes,
                origins=metadata.origins,
                jwks=metadata.jwks,
                dpop_bound_access_tokens=metadata.dpop_bound_access_tokens,
                require_pushed_authorization_requests=(
                    metadata.require_pushed_authorization_requests
                ),
                certificate_name=metadata.certificate_name,
                tls_client_certificate_bound_access_tokens=(
                    metadata.tls_client_certificate_bound_access_tokens
                ),
            )
        except ConfigurationError as error:
            raise UnfitMetadata(str(error), "unfit_client") from error


def _content(request: Request) -> dict[str, Any]:
    media_type = b",".join(request.values(b"content-type")).partition(b";")[0].strip().lower()
    if media_type != names.JSON.encode():
        raise invalid_request("Send the client's metadata as application/json", "not_json")
    try:
        content = strict_json.loads(request.body)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise OAuthError(
            INVALID_CLIENT_METADATA, "The body is no JSON object", reason="malformed_json"
        )
    return content


def _information(registered: Registered, metadata: ClientMetadata) -> dict[str, Any]:
    """Return the client information response (RFC 7591 §3.2.1): what is registered, and no more."""
    client = registered.client
    content: dict[str, Any] = {
        "client_id": client.client_id,
        "client_id_issued_at": int(client.created_at),
        "client_name": client.name,
        "redirect_uris": list(client.redirect_uris),
        "grant_types": list(client.grant_types),
        "response_types": ["code"] if clients.AUTHORIZATION_CODE in client.grant_types else [],
        "token_endpoint_auth_method": metadata.auth_method,
        "scope": scope.build(client.scopes),
    }
    if registered.client_secret is not None:
        content |= {"client_secret": registered.client_secret, "client_secret_expires_at": 0}
    if metadata.application_type is not None:
        content["application_type"] = metadata.application_type
    if client.jwks is not None:
        content["jwks"] = client.jwks
    if client.dpop_bound_access_tokens:
        content["dpop_bound_access_tokens"] = True
    if client.require_pushed_authorization_requests:
        content[client_metadata.MUST_PUSH] = True
    if client.certificate_name is not None:
        content |= client_metadata.described_certificate(client.certificate_name)
    if client.tls_client_certificate_bound_access_tokens:
        content[client_metadata.CERTIFICATE_BOUND] = True
    return content
