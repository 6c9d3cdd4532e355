"""What the claims of an access token must be (RFC 7519 §4.1, RFC 9068 §2.2 and §4).

Pure checks of an unpacked payload against what a resource server expects, at a moment
that is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bearerguard.errors import (
    BAD_CLAIM,
    EXPIRED,
    ID_TOKEN,
    MISSING_CLAIM,
    NOT_YET_VALID,
    SENDER_CONSTRAINED,
    WRONG_AUDIENCE,
    TokenError,
    TokenExpired,
    quoted,
)

# RFC 9068 §2.2; the first three are demanded of every token.
REQUIRED = ("iss", "exp", "aud")
REQUIRED_STRICT = (*REQUIRED, "sub", "client_id", "iat", "jti")

# A token issued further ahead than clocks drift was not issued by this issuer's clock.
_MAX_FUTURE = 300
# Beyond it a double no longer counts seconds.
_MAX_DATE = 2**53
_TEXTS = ("iss", "sub", "client_id", "jti")
# What only ID tokens and logout tokens carry (OpenID Connect Core §3, Back-Channel Logout §2.4).
_NOT_OF_ACCESS_TOKENS = ("at_hash", "c_hash", "events")


@dataclass(frozen=True, slots=True)
class Expected:
    """What a resource server expects of the tokens of one issuer; `leeway` in seconds."""

    audience: frozenset[str]
    required: tuple[str, ...] = REQUIRED
    leeway: float = 30


def check(claims: Mapping[str, Any], expected: Expected, now: float) -> None:
    """Raise `TokenError` unless the claims hold at `now`, in Unix seconds.

    Expiry is checked last, so that `TokenExpired` says of a token that only its time is over.
    """
    get = claims.get
    for name in expected.required:
        if get(name) is None:
            raise TokenError(MISSING_CLAIM, f"it has no {name}: let the issuer send it")
    for name in _TEXTS:
        if type(get(name)) is not str and name in claims:
            raise TokenError(BAD_CLAIM, f"its {name} is no string")
    if "cnf" in claims:
        raise TokenError(
            SENDER_CONSTRAINED,
            "it is bound to a sender's key (cnf), and was sent as Bearer",
        )
    audience = claims["aud"]
    if type(audience) is not str or audience not in expected.audience:
        _check_audiences(audience, expected.audience)
    expires_at = numeric_date(claims, "exp")
    _check_start(claims, expected.leeway, now)
    if now >= expires_at + expected.leeway:
        raise TokenExpired(EXPIRED, f"it expired {now - expires_at:.0f} s ago")


def _check_start(claims: Mapping[str, Any], leeway: float, now: float) -> None:
    if "nbf" in claims:
        ahead = numeric_date(claims, "nbf") - now
        if ahead > leeway:
            raise TokenError(NOT_YET_VALID, f"its nbf is {ahead:.0f} s ahead of this clock")
    if "iat" in claims:
        ahead = numeric_date(claims, "iat") - now
        if ahead > _MAX_FUTURE:
            raise TokenError(NOT_YET_VALID, f"its iat is {ahead:.0f} s ahead of this clock")


def check_not_id_token(claims: Mapping[str, Any]) -> None:
    """Raise `TokenError` for what only ID tokens and logout tokens carry (RFC 8725 §3.12)."""
    found = [name for name in _NOT_OF_ACCESS_TOKENS if name in claims]
    if found:
        raise TokenError(
            ID_TOKEN,
            f"it has {found[0]}, so it is an ID token or a logout token:"
            " send the access token, or pass accept_id_tokens=True",
        )


def numeric_date(claims: Mapping[str, Any], name: str) -> float:
    """Return a NumericDate in Unix seconds (RFC 7519 §2); raises `TokenError` for another value."""
    value = claims[name]
    kind = type(value)  # exactly: bool is an int in Python
    if (kind is int or kind is float) and -_MAX_DATE <= value <= _MAX_DATE:
        date: float = value
        return date
    raise TokenError(BAD_CLAIM, f"its {name} is no date in seconds")


def _check_audiences(audience: object, accepted: frozenset[str]) -> None:
    names = [audience] if isinstance(audience, str) else audience
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TokenError(BAD_CLAIM, "its aud is neither a string nor an array of strings")
    if accepted.isdisjoint(names):
        raise TokenError(
            WRONG_AUDIENCE,
            f"aud is {quoted(audience)}, this issuer requires {quoted(sorted(accepted))}:"
            " ask the issuer for that audience, or pass audience= as the tokens have it",
        )
