"""`private_key_jwt`: a client authenticates with a JWT that it signed (RFC 7523 §3).

`iss` and `sub` are the client, `aud` is this issuer alone (an assertion for another server is
refused here), and each assertion is accepted once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any, Literal

from bearerguard.errors import TokenError
from bearerguard.protocol.client_authentication import ASSERTION_TYPE
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.jose.jwt import SignedToken
from bearerguard.runtime.messages import Request
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.assertion import AssertionRules, parsed, rejected, shown
from bearerguard.server.clients.authentication_methods import REPLAYED, Presented, Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import invalid_request
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings

_REQUIRED = ("sub", "jti")


class PrivateKeyJwt:
    """Checks the client assertions that are sent to one server.

    Args:
        registry: the registered clients; it records which assertions were used.
        settings: the server's.
        clock: returns Unix seconds.
        endpoints: the endpoints' URLs, which are accepted as `aud` where the settings allow it.
        trusted: the trusted issuers, whose assertions are another method's.
    """

    name = clients.PRIVATE_KEY_JWT

    def __init__(
        self,
        registry: ClientRegistry,
        settings: Settings,
        clock: Callable[[], float],
        endpoints: tuple[str, ...],
        trusted: Container[object] = (),
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._trusted = trusted
        accepted = (settings.issuer, *endpoints) if settings.accept_endpoint_audiences else ()
        self._rules = AssertionRules((settings.issuer,), accepted, required=_REQUIRED)

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002 - as the interface has it
        """Return the assertion, and which client it claims to come from ("" for none)."""
        assertion = parameters.get("client_assertion")
        if assertion is None:
            return None
        kind = parameters.get("client_assertion_type")
        if kind != ASSERTION_TYPE:
            raise invalid_request(
                "client_assertion_type is missing or not supported",
                "unknown_assertion_type",
                client_id=parameters.get("client_id"),
                client_assertion_type=kind,
            )
        token = parsed(assertion)
        if token is not None and token.claims.get("iss") in self._trusted:
            return None
        subject = None if token is None else token.claims.get("sub")
        return Presented((subject if isinstance(subject, str) else "",), (assertion,))

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:
        """Return whether the assertion is the client's, valid now, and not used before."""
        (assertion,) = presented.proofs
        token = parsed(assertion)
        if token is None:
            return Rejected("malformed_assertion")
        unfit = _unsigned(token, client) or self._unfit(token.claims, client)
        if unfit is not None:
            return unfit
        # The last step: only an assertion that is valid otherwise is used up.
        token_id, until = token.claims["jti"], self._rules.used_until(token.claims)
        if self._registry.use_assertion(client.client_id, token_id, until):
            return True
        return Rejected(REPLAYED, {"jti": token_id})

    def _unfit(self, content: Mapping[str, Any], client: Client) -> Rejected | None:
        """Return why the claims are refused, None if they are valid."""
        for name in ("iss", "sub"):
            if content.get(name) != client.client_id:
                return Rejected("assertion_of_another_client", {name: shown(content.get(name))})
        return self._rules.unfit(content, self._clock())


def _unsigned(token: SignedToken, client: Client) -> Rejected | None:
    """Return why the signature is refused, None if it is the client's."""
    try:
        header = jwt.parse_header(token.header)
    except TokenError as error:
        return rejected(error)
    found: dict[str, Any] = {"alg": header.algorithm, "kid": header.kid}
    if header.algorithm not in jwk.ASYMMETRIC:
        return Rejected("assertion_wrong_algorithm", found)
    keys, _ = jwk.parse_jwks(client.jwks)
    candidates = keys.candidates(header.algorithm, header.kid)
    if not candidates:
        return Rejected("assertion_unknown_key", found)
    if any(
        key.verifies(header.algorithm, token.signing_input, token.signature) for key in candidates
    ):
        return None
    return Rejected("assertion_bad_signature", found)
