"""The decision on a request: pass, refuse or "try again later" (RFC 6750 §3).

Owns which status and which challenge a refusal has. Adapters translate decisions and decide
nothing themselves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from bearerguard.errors import (
    INSUFFICIENT_SCOPE,
    INSUFFICIENT_USER_AUTHENTICATION,
    MISSING_CREDENTIALS,
    REQUIREMENT_UNMET,
    IssuerUnavailable,
    Reason,
    Refusal,
    TokenExpired,
)
from bearerguard.guard.config.requirement import Moment, Requirement
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import names
from bearerguard.protocol.http.challenge import Challenge
from bearerguard.runtime.flow import Flow


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass as `principal`, which may be `ANONYMOUS`.

    `kept` is the cache entry of the token, if it is cached; an adapter stores the headers of
    responses there. `headers` are fields that the response must have besides the app's: the next
    nonce (RFC 9449 §8.2). `content_digest` is what the digest of the body must be, None where it
    does not matter; see `Guard.check_body`.
    """

    principal: Principal
    kept: Any = field(default=None, compare=False, repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    content_digest: str | None = field(default=None, repr=False)

    # A frozen dataclass's own constructor takes three times as long: it finds each field by name.
    def __init__(
        self,
        principal: Principal,
        kept: Any = None,
        headers: tuple[tuple[str, str], ...] = (),
        content_digest: str | None = None,
    ) -> None:
        _set_principal(self, principal)
        _set_kept(self, kept)
        _set_headers(self, headers)
        _set_content_digest(self, content_digest)


_set_principal, _set_kept, _set_headers, _set_content_digest = (
    vars(Allow)[name].__set__ for name in ("principal", "kept", "headers", "content_digest")
)


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
        headers: further fields of the response: a nonce (RFC 9449 §9).
        acr_values: the authentication contexts named in the challenge, the preferred first.
        max_age: the maximum age of the login named in the challenge, in seconds.
    """

    status: int
    reason: Reason
    challenges: tuple[Challenge, ...]
    error: str | None = None
    scope: str | None = None
    principal: Principal = ANONYMOUS
    expired: bool = False
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    acr_values: tuple[str, ...] = ()
    max_age: int | None = None


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


def unauthenticated(challenge: Challenge, requirement: Requirement | None) -> Deny:
    """Refuse a request without credentials: 401, no error code, the scopes to ask for if known.

    `challenge` is here and below what each challenge of the guard has.
    """
    scope = None if requirement is None else requirement.advertised_scope()
    return Deny(401, MISSING_CREDENTIALS, (replace(challenge, scope=scope),), scope=scope)


def refused(challenge: Challenge, refusal: Refusal) -> Deny:
    """Refuse malformed credentials or an invalid token; only the reason's safe text is sent."""
    sent = replace(challenge, error=refusal.error, error_description=refusal.reason.description)
    expired = isinstance(refusal, TokenExpired)
    return Deny(refusal.status, refusal.reason, (sent,), refusal.error, expired=expired)


def failed(challenge: Challenge, error: Refusal | IssuerUnavailable) -> Deny | Unavailable:
    """Translate what validation raised: a refusal, or an outage that is not the token's fault."""
    if isinstance(error, IssuerUnavailable):
        return Unavailable(error.retry_after, error.reason)
    return refused(challenge, error)


def insufficient(
    challenge: Challenge, requirement: Requirement, principal: Principal, at: Moment
) -> Deny:
    """Refuse a valid token that does not meet the requirement: 403, or 401 for another login.

    Where other scopes or another login would suffice, the challenge names all that the operation
    needs (RFC 6750 §3.1, RFC 9470 §3). Where a role or a claim is missing, it names nothing: with
    scopes or a login, a client that requests new tokens automatically would never stop.
    """
    needed = requirement.obtainable(principal, at)
    if needed is None:
        return Deny(403, REQUIREMENT_UNMET, (challenge,), principal=principal)
    status, reason, error = 403, INSUFFICIENT_SCOPE, names.INSUFFICIENT_SCOPE
    if needed.needs_login:
        status, reason = 401, INSUFFICIENT_USER_AUTHENTICATION
        error = names.INSUFFICIENT_USER_AUTHENTICATION
    sent = replace(
        challenge,
        error=error,
        error_description=reason.description,
        scope=needed.scope,
        acr_values=" ".join(needed.acr_values) or None,
        max_age=needed.max_age,
    )
    return Deny(
        status,
        reason,
        (sent,),
        error,
        needed.scope,
        principal,
        acr_values=needed.acr_values,
        max_age=needed.max_age,
    )
