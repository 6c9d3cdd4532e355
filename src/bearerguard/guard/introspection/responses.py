"""Turns an introspection response into a verified token, with its time in the cache (RFC 7662).

Pure: a response, the issuer's configuration, and a time. Members that the response leaves out
take the configured values; the others are checked like the claims of a JWT (RFC 7662 §4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from bearerguard.errors import INACTIVE, MISSING_CLAIM, UNKNOWN_ISSUER, Reason, TokenError, quoted
from bearerguard.guard.config.claim_check import run_checks
from bearerguard.guard.config.introspection import Introspection
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.scope_hierarchy import ScopeHierarchy
from bearerguard.guard.keys.key_validity import KeyValidity, Validity
from bearerguard.guard.keys.status_validity import StatusValidity
from bearerguard.guard.revocation.revocations import GuardRevocations
from bearerguard.guard.token_cache import BoundTo, VerifiedToken
from bearerguard.principal import Claims, Principal
from bearerguard.protocol import jwt_claims
from bearerguard.protocol.jose import strict_json

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding

# The `exp` assumed for a token without one: the latest date that is accepted.
_NEVER = 2**53
_NO_AUDIENCE = (
    "it has no aud in the issuer's response: let the issuer send it, pass ClaimMapping(audience=)"
    " naming the member that has it, or allow_missing_audience=True to Introspection() where every"
    " token of this issuer is for this API"
)
# No key verified such a token, so the end of a key does not affect it.
_UNTIL_DEADLINE = KeyValidity(math.inf)


class IntrospectionResponse(NamedTuple):
    """A response: the members of an active token, None for a token that is not active.

    `key_id` is the `kid` of the key that signed the response, None if no key with an id did.
    """

    members: Mapping[str, Any] | None
    key_id: str | None = None


class IntrospectedToken(VerifiedToken):
    """A token that its issuer described: fresh until `deadline`, usable until `stale_until`.

    Both are in Unix seconds. `elapses_at` and `stale_elapses_at` are the same ends by
    `monotonic`, which clock changes do not affect. `is_stale`: whether it is used after it was
    fresh, because the issuer does not respond.
    """

    __slots__ = ("is_stale", "stale_elapses_at", "stale_until")

    def __init__(
        self,
        principal: Principal,
        deadline: float,
        stale_until: float,
        *,
        validity: Validity = _UNTIL_DEADLINE,
        elapses_at: float = math.inf,
        stale_elapses_at: float = math.inf,
        is_stale: bool = False,
        bound: BoundTo | None = None,
    ) -> None:
        super().__init__(principal, deadline, validity, elapses_at, bound)
        self.is_stale: bool = is_stale
        self.stale_until: float = stale_until
        self.stale_elapses_at: float = stale_elapses_at


@dataclass(frozen=True, slots=True)
class CachedRefusal:
    """Why a token was refused, and until when the refusal is cached, by `monotonic`."""

    kind: type[TokenError]
    reason: Reason
    remedy: str
    until: float

    def error(self) -> TokenError:
        """Return the refusal as an exception."""
        return self.kind(self.reason, self.remedy)


class ResponseReader:
    """Reads the introspection responses of one issuer."""

    def __init__(
        self,
        issuer: Issuer,
        options: Introspection,
        hierarchy: ScopeHierarchy | None = None,
        binding: Binding | None = None,
    ) -> None:
        self._binding = binding
        self._hierarchy = hierarchy
        self.issuer = issuer
        self.options = options
        self.assumed: dict[str, Any] = {"iss": issuer.url, "exp": _NEVER}
        if options.allow_missing_audience:
            self.assumed["aud"] = sorted(issuer.expected.audience)
        self._names = (issuer.url, *issuer.aliases)
        self._expected = issuer.expected._replace(required=("aud",))

    def read(
        self, response: IntrospectionResponse, received_at: float, now: float, elapsed: float
    ) -> IntrospectedToken:
        """Return the token that a response describes; raises `TokenError`.

        `received_at` and `now` are in Unix seconds, `elapsed` is by `monotonic`. If another worker,
        whose clock may be ahead, received the response, it is cached no longer than a response
        received now.
        """
        if response.members is None:
            raise TokenError(INACTIVE, "the issuer says that it is not active")
        members = members_of(response.members)
        filled = {**self.assumed, **members}
        if filled["iss"] not in self._names:
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(filled['iss'])} in the issuer's response, not"
                f" {quoted(self.issuer.url)}: pass aliases= if it is another name of this issuer",
            )
        jwt_claims.check_no_logout_token(filled)
        # Read before the mapping. A malformed date is refused, not treated as absent.
        expires_at = jwt_claims.numeric_date(members, "exp") if "exp" in members else None
        if self.issuer.standard_claims is not None:
            filled = self.issuer.standard_claims(filled)
        bound = None if self._binding is None else self._binding.confirmations.read(members)
        jwt_claims.check_kind(
            members,
            accept_id_tokens=self.issuer.accept_id_tokens,
            bound=bound is not None,
        )
        if filled.get("aud") is None:
            raise TokenError(MISSING_CLAIM, _NO_AUDIENCE)
        principal = replace(
            jwt_claims.bearer(filled, self._expected, now, bound=bound is not None),
            expires_at=expires_at,
            claims=Claims(dict(members)),
        )
        run_checks(self.issuer.checks, self.issuer.url, principal.claims)
        if self._hierarchy is not None:
            principal = self._hierarchy.applied_to(principal)
        last = math.inf if expires_at is None else expires_at
        fresh = min(received_at, now) + self.options.cache_ttl
        elapses_at = elapsed + self.options.cache_ttl
        validity: Validity = _signed_by(response.key_id)
        if self.issuer.status_lists and "status" in members:
            validity = StatusValidity(_signed_by(response.key_id))  # its status is checked first
        return IntrospectedToken(
            principal,
            min(fresh, last),
            min(fresh + self.options.stale_ttl, last),
            validity=validity,
            elapses_at=elapses_at,
            stale_elapses_at=elapses_at + self.options.stale_ttl,
            bound=bound,
        )

    def refused(self, refusal: TokenError, elapsed: float) -> CachedRefusal | None:
        """Return a refusal to cache, None if refusals are not cached."""
        ttl = self.options.negative_ttl if self.options.cache_ttl else 0.0
        if not ttl:
            return None
        return CachedRefusal(type(refusal), refusal.reason, refusal.remedy, elapsed + ttl)


def members_of(response: Mapping[str, Any]) -> dict[str, Any]:
    """Return the members of a response without those that mean that there is no value."""
    members = strict_json.without_nulls(response)
    if _is_zero(members.get("exp")):
        # Some servers send 0 for an active token that does not expire (RFC 7662 §2.2).
        del members["exp"]
    if members.get("aud") in ([], ""):
        del members["aud"]  # Ory Hydra sends these for a token without an audience
    return members


def is_withdrawn(revocations: GuardRevocations | None, issuer: str, key_id: str | None) -> bool:
    """Whether the key that signed a response was revoked, as far as is known.

    The token may still be valid: the issuer is asked again.
    """
    if revocations is None or key_id is None:
        return False
    return revocations.current.covers(Principal(issuer=issuer), key_id)


def _signed_by(key_id: str | None) -> KeyValidity:
    return _UNTIL_DEADLINE if key_id is None else KeyValidity(math.inf, key_id=key_id)


def _is_zero(date: object) -> bool:
    return isinstance(date, int | float) and not isinstance(date, bool) and date == 0
