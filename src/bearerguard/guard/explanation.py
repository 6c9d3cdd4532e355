"""Why a token is accepted or refused, as values for people and programs.

Owns what an explanation may show: as much as log lines about refusals, and never the token, its
signature or the value of `sub`. Does not know how a token is validated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from bearerguard.errors import Reason
from bearerguard.guard.decision import Allow, Decision, Deny
from bearerguard.principal import Claims

CheckStatus: TypeAlias = Literal["passed", "failed", "not reached", "not applicable"]


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a token.

    Attributes:
        name: a stable name, such as `audience`.
        status: `passed`, `failed`, `not reached` (an earlier failure makes it impossible) or
            `not applicable` (the token or the guard has nothing to check).
        expected: what the guard requires.
        actual: what the token has.
        remedy: what to do about a failure, else empty.
        reference: the section that requires it, empty for a rule of the application's own.
        reason: the code of a failure, as in log lines and events, else None.
    """

    name: str
    status: CheckStatus
    expected: str = ""
    actual: str = ""
    remedy: str = ""
    reference: str = ""
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a guard accepts or refuses a token: its decision, and every check in order.

    Attributes:
        decision: what the guard decides for a request with this token.
        checks: the checks in the order of validation. All failures are listed, not only the one
            that decides.
        issuer: the url of the configured issuer whose rules were applied, or None.
        at: the time of the decision, in Unix seconds.
        header: `alg`, `kid` and `typ` of a JWT, as far as they could be read.
        claims: the token's claims, as far as they could be read; unverified unless the signature
            passed. Personal data: the repr and `to_dict` leave their values out.
    """

    decision: Decision
    checks: tuple[Check, ...]
    issuer: str | None
    at: float
    header: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    claims: Claims = field(default_factory=Claims, repr=False)

    @property
    def result(self) -> Literal["accepted", "refused", "unavailable"]:
        """`accepted`, `refused`, or `unavailable`: the token could not be validated (503)."""
        if isinstance(self.decision, Allow):
            return "accepted"
        return "refused" if isinstance(self.decision, Deny) else "unavailable"

    @property
    def accepted(self) -> bool:
        """Whether a request with this token passes."""
        return isinstance(self.decision, Allow)

    @property
    def reason(self) -> Reason | None:
        """Why it is not accepted: the first failure that validation meets; None if it is."""
        return None if isinstance(self.decision, Allow) else self.decision.reason

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if check.status == "failed")

    def __str__(self) -> str:
        """Show one line for each check that the token met."""
        lines = [self.result if self.reason is None else f"{self.result}: {self.reason.code}"]
        for check in self.checks:
            if check.status == "passed":
                lines.append(f"  passed  {check.name}: {check.actual}")
            elif check.status == "failed":
                lines.append(
                    f"  failed  {check.name}: {check.actual}; expected {check.expected};"
                    f" {check.remedy}"
                )
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return it ready for JSON, with the names of the claims and without their values."""
        decision = self.decision
        return {
            "result": self.result,
            "status": 200 if isinstance(decision, Allow) else decision.status,
            "reason": None if self.reason is None else self.reason.code,
            "error": decision.error if isinstance(decision, Deny) else None,
            "issuer": self.issuer,
            "at": self.at,
            "header": dict(self.header),
            "claims": list(self.claims),
            "checks": [
                {
                    "name": check.name,
                    "status": check.status,
                    "expected": check.expected,
                    "actual": check.actual,
                    "remedy": check.remedy,
                    "reference": check.reference,
                    "reason": check.reason,
                }
                for check in self.checks
            ],
        }
