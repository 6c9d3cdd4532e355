"""Validating logout tokens (OpenID Connect Back-Channel Logout 1.0 §2.4 and §2.6).

Pure checks of a parsed JWT; its signature is verified by `jose.jwk`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from bearerguard.errors import BAD_LOGOUT_TOKEN, TokenError, quoted
from bearerguard.protocol import names
from bearerguard.protocol.jose import jwt

EVENT = "http://schemas.openid.net/event/backchannel-logout"


@dataclass(frozen=True, slots=True)
class Logout:
    """Who is logged out: a session, or all sessions of a subject where it names none.

    Times are in Unix seconds.
    """

    subject: str | None = field(repr=False)
    session: str | None = field(repr=False)
    token_id: str = field(repr=False)
    issued_at: float
    expires_at: float


def check_type(typ: str | None) -> None:
    """Raise `TokenError` unless `typ` fits; §2.4 recommends `logout+jwt`."""
    if jwt.media_type(typ) not in {names.LOGOUT_TOKEN_JWT, "jwt"}:
        raise _refusal(f"its typ is {quoted(typ)}")


def parse(
    claims: Mapping[str, Any], client_ids: Collection[str], leeway: float, now: float
) -> Logout:
    """Return who is logged out; raises `TokenError` unless the claims are valid.

    Args:
        claims: those of a token whose signature is valid.
        client_ids: the identifiers of the application at the issuer (`aud`).
        leeway: seconds for which an expired token is still accepted.
        now: Unix seconds.
    """
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(client_id in named for client_id in client_ids):
        raise _refusal(f"its aud is {quoted(audience)}, not client_id=")
    events = claims.get("events")
    if not isinstance(events, dict) or not isinstance(events.get(EVENT), dict):
        raise _refusal("its events have no back-channel logout")
    if "nonce" in claims:
        raise _refusal("it has a nonce, so it is an ID token")
    subject, session = _text(claims, "sub"), _text(claims, "sid")
    token_id = _text(claims, "jti")
    if subject is None and session is None:
        raise _refusal("it has neither sub nor sid")
    if token_id is None:
        raise _refusal("it has no jti")
    issued_at, expires_at = _date(claims, "iat"), _date(claims, "exp")
    if issued_at > now + jwt.MAX_FUTURE:
        raise _refusal(f"its iat is {issued_at - now:.0f} s ahead of this clock")
    if now >= expires_at + leeway:
        raise _refusal(f"it expired {now - expires_at:.0f} s ago")
    return Logout(subject, session, token_id, issued_at, expires_at)


def _text(claims: Mapping[str, Any], name: str) -> str | None:
    value = claims.get(name)
    if value is not None and (not isinstance(value, str) or not value):
        raise _refusal(f"its {name} is no text")
    return value


def _date(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if not jwt.is_date(value):
        raise _refusal(f"its {name} is missing or no date in seconds")
    return value


def _refusal(remedy: str) -> TokenError:
    return TokenError(BAD_LOGOUT_TOKEN, remedy)
