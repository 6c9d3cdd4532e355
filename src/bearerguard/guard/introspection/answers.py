"""What an issuer's answer about a token proves, and for how long it is believed.

Pure: an answer, what the issuer is configured to say, and a moment. What the answer leaves
out, the issuer vouches for; the rest is checked as the claims of a JWT are (RFC 7662 §4).
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
from bearerguard.guard.tokens.token_cache import Entry, Lease
from bearerguard.principal import Claims, Principal
from bearerguard.protocol import claims
from bearerguard.protocol.jose import strict_json

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations

# What a token without an expiry is checked against: the end of time as a date can be.
_NEVER = 2**53
_NO_AUDIENCE = (
    "it has no aud in the issuer's answer: let the issuer send it, pass ClaimMapping(audience=)"
    " naming the member that has it, or allow_missing_audience=True to Introspection() where every"
    " token of this issuer is for this API"
)
# No key proved it, so none that goes can end it.
_UNTIL_DEADLINE = Lease(math.inf)


class Answer(NamedTuple):
    """What an issuer said: the members of an active token, None for one that is not active.

    `key_id` is that of the key that signed the answer, None for one that no such key signed.
    """

    members: Mapping[str, Any] | None
    key_id: str | None = None


class Introspected(Entry):
    """A token as its issuer described it: fresh until `deadline`, usable until `stale_until`.

    Both by the clock, and no longer than until `elapses_at` and `stale_elapses_at`, however
    the clock is changed meanwhile.
    """

    __slots__ = ("stale_elapses_at", "stale_until")

    def __init__(
        self,
        principal: Principal,
        deadline: float,
        stale_until: float,
        *,
        lease: Lease = _UNTIL_DEADLINE,
        elapses_at: float = math.inf,
        stale_elapses_at: float = math.inf,
    ) -> None:
        super().__init__(principal, deadline, lease, elapses_at)
        self.stale_until = stale_until
        self.stale_elapses_at = stale_elapses_at


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a token was refused, and until when that is believed, by `monotonic`."""

    kind: type[TokenError]
    reason: Reason
    remedy: str
    until: float

    def error(self) -> TokenError:
        """Return the refusal anew."""
        return self.kind(self.reason, self.remedy)


class Reader:
    """Reads the answers of one issuer."""

    def __init__(self, issuer: Issuer, options: Introspection) -> None:
        self._issuer = issuer
        self._options = options
        self._vouched: dict[str, Any] = {"iss": issuer.url, "exp": _NEVER}
        if options.allow_missing_audience:
            self._vouched["aud"] = sorted(issuer.expected.audience)
        self._names = (issuer.url, *issuer.aliases)
        self._expected = replace(issuer.expected, required=("aud",))

    def read(self, answer: Answer, answered_at: float, now: float, elapsed: float) -> Introspected:
        """Return what an answer proves, given when it came; raises `TokenError`.

        `now` is in Unix seconds, `elapsed` in those that no change of the clock disturbs.

        Another worker's clock may be ahead: its answer is believed no longer than one of now.
        """
        if answer.members is None:
            raise TokenError(INACTIVE, "the issuer says that it is not active")
        members = strict_json.without_nulls(answer.members)
        if _is_zero(members.get("exp")):
            # RFC 7662 §2.2 knows no such end: some servers write so that there is none, of a
            # token that they call active.
            del members["exp"]
        if members.get("aud") in ([], ""):
            del members["aud"]  # Ory Hydra writes so of a token for which no API was named
        filled = {**self._vouched, **members}
        if filled["iss"] not in self._names:
            raise TokenError(
                UNKNOWN_ISSUER,
                f"iss is {quoted(filled['iss'])} in the issuer's answer, not"
                f" {quoted(self._issuer.url)}: pass aliases= if it is another name of this issuer",
            )
        claims.check_no_logout_token(filled)
        # Before the mapping: what is no date is no end of time either.
        expires_at = claims.numeric_date(members, "exp") if "exp" in members else None
        if self._issuer.standard_claims is not None:
            filled = self._issuer.standard_claims(filled)
        claims.check_kind(members, accept_id_tokens=self._issuer.accept_id_tokens)
        if filled.get("aud") is None:
            raise TokenError(MISSING_CLAIM, _NO_AUDIENCE)
        principal = replace(
            claims.bearer(filled, self._expected, now),
            expires_at=expires_at,
            claims=Claims(dict(members)),
        )
        run_checks(self._issuer.checks, self._issuer.url, principal.claims)
        last = math.inf if expires_at is None else expires_at
        fresh = min(answered_at, now) + self._options.cache_ttl
        elapses_at = elapsed + self._options.cache_ttl
        return Introspected(
            principal,
            min(fresh, last),
            min(fresh + self._options.stale_ttl, last),
            lease=_signed_by(answer.key_id),
            elapses_at=elapses_at,
            stale_elapses_at=elapses_at + self._options.stale_ttl,
        )

    def refused(self, refusal: TokenError, elapsed: float) -> Refused | None:
        """Return a refusal to be remembered, None when none is to be."""
        ttl = self._options.negative_ttl if self._options.cache_ttl else 0.0
        if not ttl:
            return None
        return Refused(type(refusal), refusal.reason, refusal.remedy, elapsed + ttl)


def is_withdrawn(revocations: Revocations | None, issuer: str, key_id: str | None) -> bool:
    """Whether the key that signed an answer was withdrawn, as far as is known.

    Nothing is said by that of the token: the issuer is to be asked again.
    """
    if revocations is None or key_id is None:
        return False
    return revocations.current.covers(Principal(issuer=issuer), key_id)


def _signed_by(key_id: str | None) -> Lease:
    return _UNTIL_DEADLINE if key_id is None else Lease(math.inf, key_id=key_id)


def _is_zero(date: object) -> bool:
    return isinstance(date, int | float) and not isinstance(date, bool) and date == 0
