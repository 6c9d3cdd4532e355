"""Who calls an endpoint: basic, post, none and private_key_jwt, each checked as registered.

RFC 6749 §2.3, RFC 7523 §3, OAuth 2.1 §2.4. A client that uses another method than it
registered is refused, and one that uses two.
"""

from __future__ import annotations

import base64
import binascii
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

from bearerguard.runtime.messages import Request
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.assertion import Assertions, Fault
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.failures import Failures
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import OAuthError, invalid_request
from bearerguard.server.http.parameters import Parameters, decode

_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_CHALLENGE = (("WWW-Authenticate", 'Basic realm="oauth"'),)
_ACCEPTED = {
    clients.SECRET: (clients.BASIC, clients.POST),
    clients.BASIC: (clients.BASIC,),
    clients.POST: (clients.POST,),
    clients.NONE: (clients.NONE,),
    clients.PRIVATE_KEY_JWT: (clients.PRIVATE_KEY_JWT,),
}


# What an Authorization line may be instead; any other word may be a token without its scheme.
_SCHEMES = frozenset({b"bearer", b"dpop", b"digest", b"negotiate", b"ntlm"})


@dataclass(frozen=True, slots=True)
class _Presented:
    """What a request says of its sender.

    `client_ids` and `proofs` are the spellings that may be meant, the likelier first; a proof is
    a secret or an assertion.
    """

    client_ids: tuple[str, ...]
    method: str
    proofs: tuple[str, ...] = field(default=("",), repr=False)


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
        presented = self._presented(request, parameters)
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

    def _find(self, presented: _Presented) -> Client | None:
        found = (self._registry.find(client_id) for client_id in presented.client_ids)
        return next((client for client in found if client is not None), None)

    def _fault(self, client: Client | None, presented: _Presented) -> Fault | None:
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

    def _presented(self, request: Request, parameters: Parameters) -> _Presented:
        basic = _basic(request)
        client_id = parameters.get("client_id")
        secret, assertion = parameters.get("client_secret"), parameters.get("client_assertion")
        if sum(each is not None for each in (basic, secret, assertion)) > 1:
            raise invalid_request(
                "The client authenticates in two ways at once",
                "two_authentication_methods",
                client_id=client_id,
            )
        if basic is not None:
            presented = basic
        elif assertion is not None:
            kind = parameters.get("client_assertion_type")
            if kind != _ASSERTION_TYPE:
                raise invalid_request(
                    "client_assertion_type is missing or not supported",
                    "unknown_assertion_type",
                    client_id=client_id,
                    client_assertion_type=kind,
                )
            subject = self._assertions.subject(assertion)
            presented = _Presented((subject,), clients.PRIVATE_KEY_JWT, (assertion,))
        elif client_id is None:
            raise _invalid_client(request, "no_client_named")
        elif secret is not None:
            presented = _Presented((client_id,), clients.POST, (secret,))
        else:
            presented = _Presented((client_id,), clients.NONE)
        if client_id is None or presented.client_ids == (client_id,):
            return presented
        if client_id not in presented.client_ids:
            raise invalid_request(
                "client_id is another client than the one that authenticates",
                "two_clients",
                client_id=client_id,
                authenticated_as=presented.client_ids[0],
            )
        return replace(presented, client_ids=(client_id,))


def _basic(request: Request) -> _Presented | None:
    """Return what an Authorization line says (RFC 6749 §2.3.1), None without one."""
    lines = request.values(b"authorization")
    if not lines or lines == [b""]:
        return None
    if len(lines) > 1:
        raise invalid_request(
            "The Authorization header field is repeated", "repeated_authorization"
        )
    scheme, _, credentials = lines[0].strip().partition(b" ")
    scheme = scheme.lower()
    if scheme != b"basic":
        shown = scheme.decode() if scheme in _SCHEMES else None
        raise _invalid_client(request, "unsupported_authentication_scheme", scheme=shown)
    try:
        plain = base64.b64decode(credentials.strip(), validate=True)
    except binascii.Error:
        raise _invalid_client(request, "malformed_basic_credentials") from None
    name, colon, password = plain.partition(b":")
    client_ids, proofs = _spellings(name), _spellings(password)
    if not (colon and name and client_ids and proofs):
        raise _invalid_client(request, "malformed_basic_credentials")
    return _Presented(client_ids, clients.BASIC, proofs)


def _spellings(octets: bytes) -> tuple[str, ...]:
    """Return what a part of Basic credentials may mean: form-encoded, as it should be, or raw.

    Many clients leave the encoding out, curl among them, which shows where a secret has `+`
    or `%` (RFC 6749 §2.3.1). Secrets and ids are ASCII; what is not is nobody's.
    """
    found = []
    with suppress(OAuthError):
        found.append(decode(octets))
    with suppress(UnicodeDecodeError):
        found.append(octets.decode("ascii"))
    return tuple(dict.fromkeys(found))


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
