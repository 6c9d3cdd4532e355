"""What a decision relied on, recorded while it is made, for the guard's observers.

A guard without observers makes no trace. This is not a trace of OpenTelemetry.
"""

from __future__ import annotations

from collections.abc import Callable

from bearerguard.errors import MISSING_CREDENTIALS
from bearerguard.guard.decision import Allow, Decision, Deny
from bearerguard.guard.observers import Observers
from bearerguard.guard.records import DecisionKind, DecisionRecord, DecisionResult
from bearerguard.guard.token_cache import VerifiedToken


class Trace:
    """The trace of one decision.

    Attributes:
        is_cached: whether the token was found in the cache; None if none was looked up.
        token: the token, once it is verified.
        issuer: the issuer that a failure concerns.
    """

    __slots__ = ("began", "is_cached", "issuer", "token")

    def __init__(self, began: float) -> None:
        self.began: float = began
        self.is_cached: bool | None = None
        self.token: VerifiedToken | None = None
        self.issuer: str | None = None


class Tracer:
    """Makes traces, and the records of their decisions.

    Args:
        observers: get the records.
        is_stale: whether a verified token relies on something that should have been renewed.
    """

    def __init__(self, observers: Observers, is_stale: Callable[[VerifiedToken], bool]) -> None:
        self._observers = observers
        self._is_stale = is_stale

    def begin(self) -> Trace:
        """Begin a decision."""
        return Trace(self._observers.monotonic())

    def end(self, trace: Trace, decision: Decision, kind: DecisionKind = "request") -> None:
        """Report a decision."""
        observers, token = self._observers, trace.token
        if isinstance(decision, Allow):
            issuer = decision.principal.issuer
            is_anonymous = not decision.principal.is_authenticated
            reason = MISSING_CREDENTIALS.code if is_anonymous else None
            result: DecisionResult = "allow"
            status = None
        else:
            issuer = trace.issuer if token is None else token.principal.issuer
            if isinstance(decision, Deny) and issuer is None:
                issuer = decision.principal.issuer
            result = "deny" if isinstance(decision, Deny) else "unavailable"
            reason, status = decision.reason.code, decision.status
        observers.decided(
            DecisionRecord(
                kind,
                result,
                reason,
                None if issuer is None else observers.configured(issuer),
                status,
                trace.is_cached,
                token is not None and self._is_stale(token),
                observers.monotonic() - trace.began,
            )
        )
