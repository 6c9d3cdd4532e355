"""`workload_identity`: a client authenticates with a token of the platform on which it runs.

Kubernetes, GitHub Actions or SPIFFE issue the token: the client keeps no secret (RFC 7521 §4.2,
MCP workload identity federation). It comes as a client assertion, or as the assertion of the
jwt-bearer grant, which then needs no other authentication. A platform's token is used until it is
replaced, so it is accepted more than once.
"""

from __future__ import annotations

from typing import Literal

from bearerguard.errors import TokenError
from bearerguard.protocol import names
from bearerguard.protocol.client_authentication import ASSERTION_TYPE
from bearerguard.protocol.jose import jwt
from bearerguard.runtime.messages import Request
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.assertion import parsed
from bearerguard.server.clients.authentication_methods import Presented, Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.trusted_issuers import TrustedIssuers
from bearerguard.server.http.parameters import Parameters

TYPES = ("jwt", names.CLIENT_AUTHENTICATION_JWT)
_ABOUT_USERS = frozenset({names.ID_JAG_JWT, names.AUTHORIZATION_GRANT_JWT})
# What a request contains that authenticates its client in another way.
_OTHERS = ("client_secret", "client_assertion")


class WorkloadIdentity:
    """Checks the tokens of workloads."""

    name = clients.WORKLOAD_IDENTITY

    def __init__(self, trusted: TrustedIssuers) -> None:
        self._trusted = trusted

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:
        """Return the token and its client: the `client_id` of the request, or else its `sub`."""
        assertion = _assertion(request, parameters)
        token = None if assertion is None else parsed(assertion)
        if assertion is None or token is None or token.claims.get("iss") not in self._trusted:
            return None
        client_id = parameters.get("client_id") or token.claims.get("sub")
        return Presented((client_id if isinstance(client_id, str) else "",), (assertion,))

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:
        """Return whether the token is the registered workload's, and valid now."""
        (assertion,) = presented.proofs
        found = self._trusted.signed(assertion, *TYPES)
        if isinstance(found, Rejected):
            return found
        issuer, signed = found
        unfit = self._trusted.unfit(issuer, signed.claims, "sub")
        if unfit is not None:
            return unfit
        return True if client.is_workload(signed.claims) else Rejected("another_workload")


def _assertion(request: Request, parameters: Parameters) -> str | None:
    """Return the token of a workload that a request may contain."""
    if parameters.get("client_assertion_type") == ASSERTION_TYPE:
        return parameters.get("client_assertion")
    is_alone = not request.values(b"authorization") and not any(map(parameters.get, _OTHERS))
    if parameters.get("grant_type") != names.JWT_BEARER or not is_alone:
        return None
    assertion = parameters.get("assertion")
    return None if assertion is None or _is_about_user(assertion) else assertion


def _is_about_user(assertion: str) -> bool:
    """Whether the `typ` of an assertion says that it is no client's credential."""
    token = parsed(assertion)
    try:
        typ = None if token is None else jwt.parse_header(token.header).typ
    except TokenError:
        return False  # `verify` says why it is refused
    return jwt.media_type(typ) in _ABOUT_USERS
