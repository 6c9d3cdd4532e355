"""The claims of an assertion (RFC 7523 §3): for this server alone, valid now, and used once.

The rules are the same for an assertion that a client has signed itself and for one of a trusted
issuer. Knows neither keys nor signatures.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from bearerguard.errors import TokenError, quoted
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose import jwt
from bearerguard.protocol.jose.jwt import SignedToken
from bearerguard.server.audit import Detail
from bearerguard.server.clients.authentication_methods import Rejected

LEEWAY = 30.0
# Seconds. Used assertions are stored until they expire, so their lifetime is bounded.
MAX_LIFETIME = 3600.0
# Seconds for which a used assertion is stored after its end: a machine whose clock is ahead must
# not prune what one whose clock is behind still accepts.
_SKEW = 600.0
_MAX_ID = 255


class AssertionRules:
    """What the claims of an assertion must be.

    Args:
        audience: the names of this server: `aud` must be one of them.
        endpoints: further ones, which are URLs and may be spelled in other ways.
        required: the claims that it must have besides `iss`, `aud` and `exp`.
        leeway: seconds by which clocks may differ.
        max_lifetime: seconds after which it must expire, from now and from its `iat`.
    """

    def __init__(
        self,
        audience: Iterable[str],
        endpoints: Iterable[str] = (),
        *,
        required: tuple[str, ...],
        leeway: float = LEEWAY,
        max_lifetime: float = MAX_LIFETIME,
    ) -> None:
        self._audience = tuple(audience)
        self._endpoints = frozenset(map(uri.normalized, endpoints))
        self._expected = jwt_claims.Expected(
            frozenset(self._audience), (*jwt_claims.REQUIRED, *required), leeway
        )
        self._max_lifetime = max_lifetime

    def unfit(self, claims: Mapping[str, Any], now: float) -> Rejected | None:
        """Return why the claims are refused, None if they are valid; `now` is in Unix seconds."""
        if not self._is_for_us(claims.get("aud")):
            return Rejected("wrong_assertion_audience", {"aud": shown(claims.get("aud"))})
        leeway = self._expected.leeway
        try:
            # The audience is checked above, where endpoints may be accepted too.
            jwt_claims.check({**claims, "aud": self._audience[0]}, self._expected, now)
            expires_at = jwt_claims.numeric_date(claims, "exp")
        except TokenError as error:
            return rejected(error)
        issued_at = claims.get("iat", now)
        longest = self._max_lifetime + leeway
        if expires_at > now + longest or expires_at > issued_at + longest:
            seconds = int(expires_at - min(now, issued_at))
            return Rejected("assertion_lives_too_long", {"seconds": seconds})
        if "jti" in self._expected.required:
            token_id = claims["jti"]
            if not 0 < len(token_id) <= _MAX_ID:
                return Rejected("malformed_assertion_id")
        return None

    def used_until(self, claims: Mapping[str, Any]) -> float:
        """Return until when the use of a valid assertion must be remembered, in Unix seconds."""
        return jwt_claims.numeric_date(claims, "exp") + self._expected.leeway + _SKEW

    def _is_for_us(self, audience: object) -> bool:
        """Whether `aud` is this server alone: what is for others too, they could send here."""
        named = audience if isinstance(audience, list) else [audience]
        if len(named) == 1 and named[0] in self._audience:
            return True
        texts = [each for each in named if isinstance(each, str)]
        return (
            bool(texts)
            and len(texts) == len(named)
            and all(uri.normalized(each) in self._endpoints for each in texts)
        )


def parsed(assertion: str) -> SignedToken | None:
    """Return an assertion whose signature is not verified, None if it is no JWT."""
    try:
        return jwt.parse(assertion.encode("ascii", "replace"))
    except TokenError:
        return None


def rejected(error: TokenError, **found: Detail) -> Rejected:
    """Return why an assertion is refused, from what its validation raised."""
    return Rejected(f"assertion_{error.reason.code}", {"detail": error.remedy, **found})


def shown(claim: object) -> str:
    """Return a claim's value, fit for a log."""
    return claim if isinstance(claim, str) else quoted(claim)
