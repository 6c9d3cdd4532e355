"""The pushed authorization request endpoint, `POST /oauth/par` (RFC 9126).

A client sends the parameters of its authorization request here and gets a `request_uri` for them.
They are checked as at the authorization endpoint, and are checked there again, since the client
may be changed in between. What strangers push is counted where login attempts are, so that all
processes together store a bounded number of their requests. What the operator's confidential
clients push is counted in this process alone. A request that is refused writes nothing, and is not
counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import urlencode

from bearerguard.protocol import names
from bearerguard.runtime.messages import Request, Response
from bearerguard.runtime.rate_limits import ProcessLimit, RateLimit
from bearerguard.server.clients.authentication import ClientAuthentication
from bearerguard.server.clients.client import Client
from bearerguard.server.endpoints.authorization import PUSHED, AuthorizationEndpoint
from bearerguard.server.grants.pushed_requests import PushedRequests
from bearerguard.server.http import responses
from bearerguard.server.http.oauth_error import (
    OAuthError,
    invalid_request,
    noting,
    too_many_requests,
)
from bearerguard.server.http.parameters import Parameters, from_form
from bearerguard.server.login.throttle import Throttle
from bearerguard.server.settings import Settings
from bearerguard.server.tokens.dpop import TokenRequestProofs

# 120 at once, then one a second: anybody may push as a public client, and few users share an
# address.
PER_ADDRESS = RateLimit(attempts=120, interval=1.0)
# Of all addresses together, for one client of the operator's, or for all other clients. A request
# is stored for an hour if somebody arrives with it: 80,000.
IN_ALL = RateLimit(attempts=6000, interval=0.05)
# More logins than an application has in a second, and fewer rows than a store would notice.
_PER_CLIENT = RateLimit(attempts=6000, interval=0.01)
# A request of usual size has some hundred octets, and one that is not pushed 5000 at most.
_MAX_STORED = 16_384


class PushedAuthorizationEndpoint:
    """Responds to pushed authorization requests."""

    def __init__(
        self,
        *,
        authentication: ClientAuthentication,
        authorization: AuthorizationEndpoint,
        pushed: PushedRequests,
        proofs: TokenRequestProofs,
        settings: Settings,
        throttle: Throttle,
        elapsed: Callable[[], float],
    ) -> None:
        self._authentication = authentication
        self._authorization = authorization
        self._pushed = pushed
        self._proofs = proofs
        self._lifetime = max(1, int(settings.lifetimes.pushed_request))
        self._throttle = throttle
        self._by_client = ProcessLimit(_PER_CLIENT, elapsed)

    def handle(self, request: Request) -> Response:
        """Return the response; raises `OAuthError`."""
        responses.check_method(request, "POST")
        parameters = from_form(request)
        proof = self._proofs.check(request, parameters)
        client = self._authentication.authenticate(request, parameters)
        headers: tuple[tuple[str, str], ...] = ()
        with noting(client_id=client.client_id):
            if "request_uri" in parameters.values:
                raise invalid_request(
                    "A pushed request has no request_uri (RFC 9126 section 2.1)",
                    "request_uri_pushed",
                )
            if proof is not None:
                parameters = _bound(parameters, proof.thumbprint)
            self._authorization.check(request, client, parameters)
            stored = _stored(parameters)
            self._charge(request, client)
            if proof is not None:
                self._proofs.use(proof)
                headers = self._proofs.next_nonce(proof)
            request_uri = self._pushed.add(client.client_id, stored)
        content = {"request_uri": request_uri, "expires_in": self._lifetime}
        return responses.private(content, *headers, status=201)

    def _charge(self, request: Request, client: Client) -> None:
        """Raise `OAuthError` if the client, or strangers, push too often.

        A confidential client that an operator has registered pushes for all its users from one
        address.
        """
        if client.is_operators_alone:
            wait = math.ceil(self._by_client.charge(client.client_id))
        else:
            wait = self._throttle.charge_site(
                "pushed request",
                request.peer,
                by_address=PER_ADDRESS,
                in_all=IN_ALL,
                whose=client.counted_as,
            )
        if wait:
            raise too_many_requests(
                "pushed requests", "too_many_pushed_requests", wait, address=request.peer
            )


def _bound(parameters: Parameters, thumbprint: str) -> Parameters:
    """Return a request whose code is bound to the key of its DPoP proof (RFC 9449 §10.1).

    Raises `OAuthError` if it names another one.
    """
    if parameters.get("dpop_jkt") not in {None, thumbprint}:
        raise invalid_request(
            "dpop_jkt is not the key of the DPoP proof (RFC 9449 section 10.1)", "two_keys"
        )
    return replace(parameters, values={**parameters.values, "dpop_jkt": thumbprint})


def _stored(parameters: Parameters) -> str:
    """Return what is stored of a request, as a query; raises `OAuthError` if it is too long.

    Only what the authorization endpoint reads: what authenticates the client is none of it.
    """
    values = [(name, parameters.values[name]) for name in PUSHED if name in parameters.values]
    query = urlencode([*values, *(("resource", each) for each in parameters.resources)])
    if len(query) > _MAX_STORED:
        raise OAuthError(
            names.INVALID_REQUEST, "The request is too large", reason="too_large", status=413
        )
    return query
