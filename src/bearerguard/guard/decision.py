"""The decision on a request: pass, refuse or "try again later" (RFC 6750 §3).

Owns which status and which challenge a refusal has. Adapters translate decisions and decide
nothing themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

from bearerguard.errors import (
    INSUFFICIENT_SCOPE,
    MISSING_CREDENTIALS,
    REQUIREMENT_UNMET,
    IssuerUnavailable,
    Reason,
    Refusal,
    TokenExpired,
)
from bearerguard.guard.config.requirement import Requirement
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass as `principal`, which may be `ANONYMOUS`.

    `kept` is the cache entry of the token, if it is cached; an adapter stores the headers of
    responses there.
    """

    principal: Principal
    kept: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Deny:
    """The request is refused.

    Attributes:
        status: 400, 401 or 403.
        reason: the stable code, and the text that is safe to send.
        challenges: what `WWW-Authenticate` holds.
        error: the error code in the challenge, None for a request without credentials.
        scope: the scopes named in the challenge, separated by spaces.
        principal: the caller, if the token is valid but not sufficient.
        expired: whether the token is genuine and has expired.
    """

    status: int
    reason: Reason
    challenges: tuple[Challenge, ...]
    error: str | None = None
    scope: str | None = None
    principal: Principal = ANONYMOUS
    expired: bool = False


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The token could not be checked: 503, with `Retry-After` in whole seconds."""

    retry_after: int
    reason: Reason
    status: int = 503


Decision: TypeAlias = Allow | Deny | Unavailable


class Pending:
    """A decision that needs I/O: drive `flow` to get it."""

    __slots__ = ("flow",)

    def __init__(self, flow: Flow[Decision]) -> None:
        self.flow: Flow[Decision] = flow


def unauthenticated(realm: str, requirement: Requirement | None) -> Deny:
    """Refuse a request without credentials: 401, no error code, the scopes to ask for if known."""
    scope = None if requirement is None else requirement.advertised_scope()
    return Deny(401, MISSING_CREDENTIALS, (Challenge(realm, scope=scope),), scope=scope)


def refused(realm: str, refusal: Refusal) -> Deny:
    """Refuse malformed credentials or an invalid token; only the reason's safe text is sent."""
    challenge = Challenge(realm, refusal.error, refusal.reason.description)
    expired = isinstance(refusal, TokenExpired)
    return Deny(refusal.status, refusal.reason, (challenge,), refusal.error, expired=expired)


def failed(realm: str, error: Refusal | IssuerUnavailable) -> Deny | Unavailable:
    """Translate what validation raised: a refusal, or an outage that is not the token's fault."""
    if isinstance(error, IssuerUnavailable):
        return Unavailable(error.retry_after, error.reason)
    return refused(realm, error)


def forbidden(realm: str, requirement: Requirement, principal: Principal) -> Deny:
    """Refuse a valid token that does not meet the requirement: 403.

    Where more scopes would suffice, the challenge names all that the operation needs. Where a role
    or a claim is missing, it names only the realm: with scopes, a client that requests new tokens
    automatically would never stop.
    """
    scope = requirement.lacking_scope(principal)
    if scope is None:
        return Deny(403, REQUIREMENT_UNMET, (Challenge(realm),), principal=principal)
    reason, error = INSUFFICIENT_SCOPE, "insufficient_scope"
    challenge = Challenge(realm, error, reason.description, scope)
    return Deny(403, reason, (challenge,), error, scope, principal)
