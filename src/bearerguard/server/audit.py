"""The audit log: security events, structured, without any secret.

One line each on the logger `bearerguard.server`, as JSON behind the event's name, and a callback.
Identifiers of clients, users and grants are in it; tokens, codes, secrets and passwords never.
What a request sent is escaped and cut. A refusal is a warning, unless it is a user's own decision.

Strangers bring refusals about. Of each kind some lines are written, then one a minute, with how
many were left out; the callback gets every event.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bearerguard.errors import quoted
from bearerguard.runtime.log_lines import LineLimit
from bearerguard.server.elapsed import Elapsed
from bearerguard.server.http.oauth_error import REFUSED, OAuthError

_log = logging.getLogger("bearerguard.server")

# What an operator should look at; the rest is the ordinary day.
_ALARMING = frozenset(
    {
        REFUSED,
        "code_replayed",
        "refresh_token_reused",
        "client_authentication_failed",
        "login_failed",
        "login_throttled",
        "revocation_not_told",
        "store_unavailable",
    }
)
# What a user decided, or a client asked in order to learn (OpenID Connect Core §3.1.2.6).
_ORDINARY = frozenset(
    {
        "access_denied",
        "login_required",
        "consent_required",
        "interaction_required",
        "account_selection_required",
    }
)

# Lines of one kind at once, and the seconds until one more. A login's kind has its address, so that
# whoever blocks addresses by these lines sees each; all kinds together have a bound, too.
_BURST = 20
_INTERVAL = 60.0
_MOST_AT_ONCE = 1000
_MOST = 5.0  # a second: of lines of some 400 bytes, 170 MB a day
# What tells kinds apart: none of it is made up by a request, but for the addresses of logins and
# the grants of tokens that were genuine once.
_KIND = ("endpoint", "error", "reason", "address", "grant_id")


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something that an audit must be able to find again.

    Attributes:
        name: what happened, such as `token_issued`, `refresh_token_reused` or
            `request_refused`.
        at: when, in Unix seconds.
        details: with whom: `client_id`, `user_id`, `grant_id`, `scope`, `kid`, …. A refusal has
            `endpoint`, `error` (the RFC's code), `reason` (what exactly was wrong) and the
            value that was.
    """

    name: str
    at: float
    details: MappingProxyType[str, Any] = field(default_factory=lambda: MappingProxyType({}))


class Audit:
    """Where the server reports to.

    Args:
        on_event: called with every event; one that fails is logged and harms no request.
        clock: returns Unix seconds.
    """

    def __init__(
        self, on_event: Callable[[SecurityEvent], None] | None, clock: Callable[[], float]
    ) -> None:
        self._on_event = on_event
        self._clock = clock
        self._lines = LineLimit(
            Elapsed(clock),
            burst=_BURST,
            interval=_INTERVAL,
            most=_MOST,
            most_at_once=_MOST_AT_ONCE,
        )

    def emit(self, event_name: str, **details: Any) -> None:
        """Report an event; details that are None are left out."""
        known = {key: value for key, value in details.items() if value is not None}
        event = SecurityEvent(event_name, self._clock(), MappingProxyType(known))
        self._write(event)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _log.exception("on_event= raised for the event %s", event_name)

    def _write(self, event: SecurityEvent) -> None:
        details = event.details
        may_alarm = event.name in _ALARMING
        left_out: int | None = 0
        if may_alarm:
            left_out = self._lines.admit((event.name, *map(details.get, _KIND)))
        if left_out is not None:
            ordinary = not may_alarm or details.get("error") in _ORDINARY
            level = logging.INFO if ordinary else logging.WARNING
            safe = {key: _safe(value) for key, value in details.items()}
            if left_out:
                safe["lines_left_out"] = left_out
            _log.log(level, "%s %s", event.name, json.dumps(safe), extra={"security_event": event})
        if untold := self._lines.summary():
            _log.warning("lines_left_out %s", json.dumps({"lines_left_out": untold}))

    def refused(self, endpoint: str, error: OAuthError) -> None:
        """Report that a request to the path `endpoint` was refused, why, and what was found."""
        details = {"endpoint": endpoint, "error": error.error, "reason": error.reason}
        self.emit(error.event, **{**error.found, **details})


def _safe(value: Any) -> Any:
    # What a request named may be anything: one line, and not a long one.
    return quoted(value)[1:-1] if isinstance(value, str) else value
