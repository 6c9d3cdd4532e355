"""Validating a JWT access token against the issuers that the guard trusts (RFC 9068 §4).

The order is fixed: what needs no key, then the signature, then the claims; nothing that a
token says is believed before its signature is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bearerguard.errors import (
    BAD_CLAIM,
    BAD_SIGNATURE,
    UNKNOWN_ISSUER,
    UNKNOWN_KEY,
    WRONG_ALGORITHM,
    Refusal,
    TokenError,
    quoted,
)
from bearerguard.flow import Flow
from bearerguard.guard.issuer import Issuer
from bearerguard.guard.key_cache import KeyCache
from bearerguard.guard.token_cache import Entry, Lease
from bearerguard.principal import Claims, Principal
from bearerguard.protocol import claims, jwt, scope
from bearerguard.protocol.jwt import SignedToken


class JwtValidator:
    """Validates the tokens of any number of issuers; `iss` picks one at constant cost."""

    def __init__(
        self, issuers: Mapping[str, tuple[Issuer, KeyCache]], clock: Callable[[], float]
    ) -> None:
        self._issuers = issuers
        self._clock = clock

    def validate(self, octets: bytes) -> Flow[Entry]:
        """Return what the token proves; raises `TokenError` or `IssuerUnavailable`."""
        token = jwt.parse(octets)
        name = token.claims.get("iss")
        trusted = self._issuers.get(name) if isinstance(name, str) else None
        if trusted is None:
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(name)}: add an Issuer with exactly that url if you trust it",
            )
        issuer, keys = trusted
        try:
            jwt.check_type(token.typ, issuer.accepted_types)
            lease = yield from self._prove(token, issuer, keys)
            return self._entry(token, issuer, lease)
        except Refusal as refusal:
            refusal.issuer = issuer.url
            raise

    def _prove(self, token: SignedToken, issuer: Issuer, keys: KeyCache) -> Flow[Lease]:
        """Return the lease of the key that signed the token."""
        if token.algorithm not in issuer.accepted_algorithms:
            raise TokenError(
                WRONG_ALGORITHM,
                f"alg is {quoted(token.algorithm)}, this issuer may use"
                f" {', '.join(issuer.accepted_algorithms)}",
            )
        candidates = yield from keys.candidates(token.algorithm, token.kid)
        for key, lease in candidates:
            if key.verifies(token.algorithm, token.signing_input, token.signature):
                return lease
        named = f"alg {quoted(token.algorithm)} and kid {quoted(token.kid)}"
        if not candidates:
            raise TokenError(UNKNOWN_KEY, f"the issuer publishes no key for {named}")
        raise TokenError(BAD_SIGNATURE, f"the signature is not that of the key for {named}")

    def _entry(self, token: SignedToken, issuer: Issuer, lease: Lease) -> Entry:
        if not issuer.accept_id_tokens and jwt.media_type(token.typ) == "jwt":
            claims.check_not_id_token(token.claims)
        claims.check(token.claims, issuer.expected, self._clock())
        principal = principal_of(token.claims)
        deadline = claims.numeric_date(token.claims, "exp") + issuer.expected.leeway
        return Entry(principal, deadline, lease)


def principal_of(found: dict[str, Any]) -> Principal:
    """Return who bears a token with these claims; raises `TokenError` for a malformed one."""
    try:
        scopes = scope.granted(found)
    except ValueError as error:
        raise TokenError(BAD_CLAIM, f"its {error}") from None
    return Principal(
        issuer=found["iss"],
        subject=found.get("sub"),
        client_id=_text(found, "client_id") or _text(found, "azp"),
        scopes=scopes,
        roles=_names(found.get("roles")),
        token_id=found.get("jti"),
        issued_at=_date(found, "iat"),
        expires_at=claims.numeric_date(found, "exp"),
        acr=_text(found, "acr"),
        auth_time=_date(found, "auth_time"),
        claims=Claims(found),
    )


def _date(found: Mapping[str, Any], name: str) -> float | None:
    return None if found.get(name) is None else claims.numeric_date(found, name)


def _text(found: Mapping[str, Any], name: str) -> str | None:
    value = found.get(name)
    return value if isinstance(value, str) else None


def _names(value: object) -> frozenset[str]:
    # RFC 9068 §2.2.3.1: an array; what is none grants nothing.
    members = value if isinstance(value, list) else []
    return frozenset(member for member in members if isinstance(member, str))
