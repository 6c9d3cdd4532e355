"""Who calls an endpoint: basic, post, none and private_key_jwt, each checked as registered.

RFC 6749 §2.3, RFC 7523 §3, OAuth 2.1 §2.4. A client that uses another method than it
registered is refused, and one that uses two.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

from bearerguard.messages import Request
from bearerguard.server import client as clients
from bearerguard.server.assertion import Assertions
from bearerguard.server.audit import Audit
from bearerguard.server.client import Client
from bearerguard.server.client_registry import ClientRegistry
from bearerguard.server.failures import Failures
from bearerguard.server.oauth_error import OAuthError, invalid_request
from bearerguard.server.parameters import Parameters, decode

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="oauth"'),)
_ACCEPTED = {
    clients.SECRET: (clients.BASIC, clients.POST),
    clients.BASIC: (clients.BASIC,),
    clients.POST: (clients.POST,),
    clients.NONE: (clients.NONE,),
    clients.PRIVATE_KEY_JWT: (clients.PRIVATE_KEY_JWT,),
}


@dataclass(frozen=True, slots=True)
class _Presented:
    """What a request says of its sender; `proof` is a secret or an assertion."""

    client_id: str
    method: str
    proof: str = field(default="", repr=False)


class ClientAuthentication:
    """Finds the client that a request comes from."""

    def __init__(
        self,
        registry: ClientRegistry,
        assertions: Assertions,
        failures: Failures,
        audit: Audit,
    ) -> None:
        self._registry = registry
        self._assertions = assertions
        self._failures = failures
        self._audit = audit

    def authenticate(self, request: Request, parameters: Parameters) -> Client:
        """Return the client; raises `OAuthError` invalid_client when it is not proved."""
        presented = self._presented(request, parameters)
        client = self._registry.find(presented.client_id)
        if client is not None and self._is_proved(client, presented):
            return client
        if client is None:
            self._registry.has_secret(presented.client_id, presented.proof)  # takes as long
        self._audit.emit(
            "client_authentication_failed",
            client_id=presented.client_id[: clients.MAX_ID],  # what is longer is nobody's
            method=presented.method,
            known=client is not None,
        )
        # A right secret still passes: nobody can lock a client out. What is bounded is the
        # number of guesses that get an answer worth having.
        pause = self._failures.count(presented.client_id)
        if pause:
            headers = (*_challenge(request), ("Retry-After", str(pause)))
            raise OAuthError("invalid_client", "Too many attempts", status=429, headers=headers)
        raise _invalid_client(request)

    def _is_proved(self, client: Client, presented: _Presented) -> bool:
        if presented.method not in _ACCEPTED[client.auth_method]:
            return False
        if presented.method == clients.NONE:
            return True
        if presented.method == clients.PRIVATE_KEY_JWT:
            return self._assertions.prove(client, presented.proof)
        return self._registry.has_secret(client.client_id, presented.proof)

    def _presented(self, request: Request, parameters: Parameters) -> _Presented:
        basic = _basic(request)
        client_id = parameters.get("client_id")
        secret, assertion = parameters.get("client_secret"), parameters.get("client_assertion")
        if sum(each is not None for each in (basic, secret, assertion)) > 1:
            raise invalid_request("The client authenticates in two ways at once")
        if basic is not None:
            presented = _Presented(basic[0], clients.BASIC, basic[1])
        elif assertion is not None:
            if parameters.get("client_assertion_type") != _ASSERTION_TYPE:
                raise invalid_request("client_assertion_type is missing or not supported")
            subject = self._assertions.subject(assertion)
            presented = _Presented(subject, clients.PRIVATE_KEY_JWT, assertion)
        elif client_id is None:
            raise _invalid_client(request)
        elif secret is not None:
            presented = _Presented(client_id, clients.POST, secret)
        else:
            presented = _Presented(client_id, clients.NONE)
        if client_id is not None and client_id != presented.client_id:
            raise invalid_request("client_id is another client than the one that authenticates")
        return presented


def _basic(request: Request) -> tuple[str, str] | None:
    """Return what an Authorization line says (RFC 6749 §2.3.1), None without one."""
    lines = request.values(b"authorization")
    if not lines:
        return None
    if len(lines) > 1:
        raise invalid_request("The Authorization header field is repeated")
    scheme, _, credentials = lines[0].strip().partition(b" ")
    if scheme.lower() != b"basic":
        raise _invalid_client(request)
    try:
        plain = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        raise _invalid_client(request) from None
    name, colon, password = plain.partition(b":")
    if not colon or not name:
        raise _invalid_client(request)
    return decode(name), decode(password)


def _challenge(request: Request) -> tuple[tuple[str, str], ...]:
    return _CHALLENGE if request.values(b"authorization") else ()


def _invalid_client(request: Request) -> OAuthError:
    return OAuthError(
        "invalid_client",
        "The client could not be authenticated",
        status=401,
        headers=_challenge(request),
    )
