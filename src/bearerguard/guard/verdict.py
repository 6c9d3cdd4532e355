"""From what was found to a `Deny`: which status, which challenge (RFC 6750 §3)."""

from __future__ import annotations

from bearerguard.errors import (
    INSUFFICIENT_SCOPE,
    MISSING_CREDENTIALS,
    REQUIREMENT_UNMET,
    IssuerUnavailable,
    Refusal,
    TokenExpired,
)
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.principal import Principal
from bearerguard.protocol.http.challenge import Challenge


def unauthenticated(realm: str, requirement: Requirement | None) -> Deny:
    """Refuse a request without credentials: no error code, the scopes to ask for if known."""
    scope = None if requirement is None else requirement.advertised_scope()
    return Deny(401, MISSING_CREDENTIALS, (Challenge(realm, scope=scope),), scope=scope)


def refused(realm: str, refusal: Refusal) -> Deny:
    """Refuse malformed credentials or an invalid token, with no more than the safe text."""
    challenge = Challenge(realm, refusal.error, refusal.reason.description)
    expired = isinstance(refusal, TokenExpired)
    return Deny(refusal.status, refusal.reason, (challenge,), refusal.error, expired=expired)


def failed(realm: str, error: Refusal | IssuerUnavailable) -> Deny | Unavailable:
    """Refuse, or say that nothing could be learned about the token."""
    if isinstance(error, IssuerUnavailable):
        return Unavailable(error.retry_after, error.reason)
    return refused(realm, error)


def forbidden(realm: str, requirement: Requirement, principal: Principal) -> Deny:
    """Refuse a token that is too weak.

    When scopes would do, all that the operation needs are named. When only a role or a
    claim lacks, the challenge has a realm alone: a client that steps up by itself would
    ask for new tokens for ever.
    """
    scope = requirement.lacking_scope(principal)
    if scope is None:
        return Deny(403, REQUIREMENT_UNMET, (Challenge(realm),), principal=principal)
    reason, error = INSUFFICIENT_SCOPE, "insufficient_scope"
    challenge = Challenge(realm, error, reason.description, scope)
    return Deny(403, reason, (challenge,), error, scope, principal)
