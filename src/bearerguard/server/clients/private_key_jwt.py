"""`private_key_jwt`: a client authenticates with a JWT that it signed (RFC 7523 §3).

`iss` and `sub` are the client, `aud` is this issuer alone (an assertion for another server is
refused here), and each assertion is accepted once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from bearerguard.errors import TokenError, quoted
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.client_authentication import ASSERTION_TYPE
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose import jwk, jwt
from bearerguard.protocol.jose.jwt import SignedToken
from bearerguard.runtime.messages import Request
from bearerguard.server.clients import client as clients
from bearerguard.server.clients.authentication_methods import REPLAYED, Presented, Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.registry import ClientRegistry
from bearerguard.server.http.oauth_error import invalid_request
from bearerguard.server.http.parameters import Parameters
from bearerguard.server.settings import Settings

_LEEWAY = 30.0
# Seconds for which a used assertion is stored after its end: a machine whose clock is ahead must
# not prune what one whose clock is behind still accepts.
_SKEW = 600.0
# Seconds. Used assertions are stored until they expire, so their lifetime is bounded.
_MAX_LIFETIME = 3600.0
_MAX_ID = 255
_REQUIRED = ("iss", "sub", "aud", "exp", "jti")


class PrivateKeyJwt:
    """Checks the client assertions that are sent to one server.

    Args:
        registry: the registered clients; it records which assertions were used.
        settings: the server's.
        clock: returns Unix seconds.
        endpoints: the endpoints' URLs, which are accepted as `aud` where the settings allow it.
    """

    name = clients.PRIVATE_KEY_JWT

    def __init__(
        self,
        registry: ClientRegistry,
        settings: Settings,
        clock: Callable[[], float],
        endpoints: tuple[str, ...],
    ) -> None:
        self._registry = registry
        self._clock = clock
        self._issuer = settings.issuer
        self._expected = jwt_claims.Expected(frozenset({settings.issuer}), _REQUIRED, _LEEWAY)
        accepted = (settings.issuer, *endpoints) if settings.accept_endpoint_audiences else ()
        self._endpoints = frozenset(map(uri.normalized, accepted))

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002
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
        token = _parsed(assertion)
        subject = None if token is None else token.claims.get("sub")
        return Presented((subject if isinstance(subject, str) else "",), (assertion,))

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:
        """Return whether the assertion is the client's, valid now, and not used before."""
        (assertion,) = presented.proofs
        token = _parsed(assertion)
        if token is None:
            return Rejected("malformed_assertion")
        rejected = _unsigned(token, client) or self._unfit(token.claims, client)
        if rejected is not None:
            return rejected
        # The last step: only an assertion that is valid otherwise is used up.
        token_id, expires_at = (
            token.claims["jti"],
            jwt_claims.numeric_date(token.claims, "exp"),
        )
        until = expires_at + _LEEWAY + _SKEW
        if self._registry.use_assertion(client.client_id, token_id, until):
            return True
        return Rejected(REPLAYED, {"jti": token_id})

    def _unfit(self, content: Mapping[str, Any], client: Client) -> Rejected | None:
        """Return why the claims are refused, None if they are valid."""
        for name in ("iss", "sub"):
            if content.get(name) != client.client_id:
                return Rejected("assertion_of_another_client", {name: _shown(content.get(name))})
        if not self._is_for_us(content.get("aud")):
            return Rejected("wrong_assertion_audience", {"aud": _shown(content.get("aud"))})
        now = self._clock()
        try:
            # The audience is checked above, where endpoints may be accepted too.
            jwt_claims.check({**content, "aud": self._issuer}, self._expected, now)
            expires_at = jwt_claims.numeric_date(content, "exp")
        except TokenError as error:
            return Rejected(f"assertion_{error.reason.code}", {"detail": error.remedy})
        if expires_at > now + _MAX_LIFETIME + _LEEWAY:
            return Rejected("assertion_lives_too_long", {"seconds": int(expires_at - now)})
        token_id = content["jti"]
        if not isinstance(token_id, str) or not 0 < len(token_id) <= _MAX_ID:
            return Rejected("malformed_assertion_id")
        return None

    def _is_for_us(self, audience: object) -> bool:
        """Whether `aud` is this issuer alone, or, where the settings allow it, its endpoints."""
        named = audience if isinstance(audience, list) else [audience]
        if named == [self._issuer]:
            return True
        texts = [each for each in named if isinstance(each, str)]
        return (
            bool(texts)
            and len(texts) == len(named)
            and all(uri.normalized(each) in self._endpoints for each in texts)
        )


def _parsed(assertion: str) -> SignedToken | None:
    try:
        return jwt.parse(assertion.encode("ascii", "replace"))
    except TokenError:
        return None


def _unsigned(token: SignedToken, client: Client) -> Rejected | None:
    """Return why the signature is refused, None if it is the client's."""
    try:
        header = jwt.parse_header(token.header)
    except TokenError as error:
        return Rejected(f"assertion_{error.reason.code}", {"detail": error.remedy})
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


def _shown(claim: object) -> str:
    """Return a claim's value, fit for a log."""
    return claim if isinstance(claim, str) else quoted(claim)
