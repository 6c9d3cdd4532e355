"""Client assertions: a client proves itself by a JWT that it signed (RFC 7523 §3).

`iss` and `sub` are the client, `aud` is this issuer alone (what was meant for another server
proves nothing here), and each assertion serves once.
"""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.errors import TokenError
from bearerguard.protocol import claims, jwk, jwt
from bearerguard.protocol.jwt import SignedToken
from bearerguard.server.client import Client
from bearerguard.server.client_registry import ClientRegistry
from bearerguard.server.settings import Settings

_LEEWAY = 30.0
# Used assertions are remembered until they expire: not for ever.
_MAX_LIFETIME = 3600.0
_MAX_ID = 255
_REQUIRED = ("iss", "sub", "aud", "exp", "jti")


class Assertions:
    """Checks the assertions that clients send to one server."""

    def __init__(
        self,
        registry: ClientRegistry,
        settings: Settings,
        clock: Callable[[], float],
        endpoints: tuple[str, ...],
    ) -> None:
        self._registry = registry
        self._clock = clock
        accepted = (settings.issuer, *endpoints) if settings.accept_endpoint_audiences else ()
        self._audiences = frozenset((settings.issuer, *accepted))

    def subject(self, assertion: str) -> str:
        """Return which client an assertion claims to come from, "" for none."""
        token = _parsed(assertion)
        subject = None if token is None else token.claims.get("sub")
        return subject if isinstance(subject, str) else ""

    def prove(self, client: Client, assertion: str) -> bool:
        """Whether it is the client's, good at this moment, and was not used before."""
        token = _parsed(assertion)
        if token is None or client.jwks is None or not _is_signed(token, client):
            return False
        content = token.claims
        token_id = content.get("jti")
        if (
            content.get("iss") != client.client_id
            or content.get("sub") != client.client_id
            or not isinstance(token_id, str)
            or not 0 < len(token_id) <= _MAX_ID
        ):
            return False
        audience = content.get("aud")
        if isinstance(audience, list) and len(audience) == 1:
            audience = audience[0]
        if not isinstance(audience, str) or audience not in self._audiences:
            return False
        now = self._clock()
        try:
            expected = claims.Expected(self._audiences, _REQUIRED, _LEEWAY)
            claims.check({**content, "aud": audience}, expected, now)
            expires_at = claims.numeric_date(content, "exp")
        except TokenError:
            return False
        if expires_at > now + _MAX_LIFETIME + _LEEWAY:
            return False
        return self._registry.use_assertion(client.client_id, token_id, expires_at + _LEEWAY)


def _parsed(assertion: str) -> SignedToken | None:
    try:
        return jwt.parse(assertion.encode("ascii", "replace"))
    except TokenError:
        return None


def _is_signed(token: SignedToken, client: Client) -> bool:
    try:
        header = jwt.parse_header(token.header)
    except TokenError:
        return False
    if header.algorithm not in jwk.ASYMMETRIC:
        return False
    keys, _ = jwk.parse_jwks(client.jwks)
    return any(
        key.verifies(header.algorithm, token.signing_input, token.signature)
        for key in keys.candidates(header.algorithm, header.kid)
    )
