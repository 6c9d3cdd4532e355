"""Who calls an endpoint: basic, post, none and private_key_jwt, each checked as registered.

RFC 6749 §2.3, RFC 7523 §3, OAuth 2.1 §2.4. A client that uses another method than it
registered is refused, and one that uses two.
"""

from __future__ import annotations

from typing import Any

from bearerguard.protocol import client_authentication, names
from bearerguard.protocol.client_authentication import MalformedAuthentication, Presented
from bearerguard.runtime.messages import Request
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.assertion import Assertions, Fault
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.failures import Failures
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters

_CHALLENGE = (("WWW-Authenticate", 'Basic realm="oauth"'),)
_ACCEPTED = {
    clients.SECRET: (clients.BASIC, clients.POST),
    clients.BASIC: (clients.BASIC,),
    clients.POST: (clients.POST,),
    clients.NONE: (clients.NONE,),
    clients.PRIVATE_KEY_JWT: (clients.PRIVATE_KEY_JWT,),
}


class ClientAuthentication:
    """Finds the client that a request comes from."""

    def __init__(
        self,
        registry: ClientRegistry,
        assertions: Assertions,
        failures: Failures,
    ) -> None:
        self._registry = registry
        self._assertions = assertions
        self._failures = failures

    def authenticate(
        self, request: Request, parameters: Parameters, *, confidential: bool = False
    ) -> Client:
        """Return the client; raises `OAuthError` invalid_client when it is not proved.

        With `confidential`, a client that cannot prove who it is does not suffice.
        """
        presented = _presented(request, parameters)
        client = self._find(presented)
        fault = self._fault(client, presented)
        if client is not None and fault is None:
            if confidential and not client.is_confidential:
                raise _invalid_client(
                    request, "public_client", client_id=client.client_id, method=presented.method
                )
            return client
        client_id = presented.client_ids[0] if client is None else client.client_id
        reason, found = fault or ("unknown_client", {})
        error = _invalid_client(
            request,
            reason,
            client_id=client_id,
            method=presented.method,
            known=client is not None,
            **found,
        )
        # A right secret still passes: nobody can lock a client out. What is bounded is the
        # number of guesses that get an answer worth having.
        pause = self._failures.count(client_id)
        if pause:
            headers = (*error.headers, ("Retry-After", str(pause)))
            raise OAuthError(
                "invalid_client",
                "Too many attempts",
                reason=reason,
                status=429,
                headers=headers,
                event=error.event,
                throttled=True,
                **error.found,
            )
        raise error

    def _find(self, presented: Presented) -> Client | None:
        found = (self._registry.find(client_id) for client_id in presented.client_ids)
        return next((client for client in found if client is not None), None)

    def _fault(self, client: Client | None, presented: Presented) -> Fault | None:
        """Return why it is not proved that the request comes from the client."""
        if client is None:
            # Takes as long as with one.
            self._registry.has_secret(presented.client_ids[0], *presented.proofs)
            return "unknown_client", {}
        method = presented.method
        if method == clients.BASIC and client.auth_method == clients.NONE:
            # Some libraries write every client into the header: a public one without a secret.
            method = clients.NONE if presented.proofs == ("",) else method
        if method not in _ACCEPTED[client.auth_method]:
            return "wrong_authentication_method", {"registered": client.auth_method}
        if method == clients.NONE:
            return None
        if method == clients.PRIVATE_KEY_JWT:
            return self._assertions.fault(client, presented.proofs[0])
        proved = self._registry.has_secret(client.client_id, *presented.proofs)
        return None if proved else ("wrong_client_secret", {})


def _presented(request: Request, parameters: Parameters) -> Presented:
    try:
        return client_authentication.parse(
            request.values(b"authorization"),
            client_id=parameters.get("client_id"),
            client_secret=parameters.get("client_secret"),
            client_assertion=parameters.get("client_assertion"),
            client_assertion_type=parameters.get("client_assertion_type"),
        )
    except MalformedAuthentication as error:
        if error.error == names.INVALID_REQUEST:
            raise invalid_request(str(error), error.reason, **error.evidence) from None
        raise _invalid_client(request, error.reason, **error.evidence) from None


def _challenge(request: Request) -> tuple[tuple[str, str], ...]:
    return _CHALLENGE if request.values(b"authorization") else ()


def _invalid_client(request: Request, reason: str, **found: Any) -> OAuthError:
    return OAuthError(
        "invalid_client",
        "The client could not be authenticated",
        reason=reason,
        status=401,
        headers=_challenge(request),
        event="client_authentication_failed",
        **found,
    )
