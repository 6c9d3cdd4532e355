"""Telling the operator: one log line per reason and issuer a minute, and a callback.

A line says how many like it were left out since the last.

An event names the reason and the remedy. It never holds a token, a secret, a subject or
any claim but those that say which tokens an issuer sends (iss, aud, typ, alg, kid, exp), and,
where a token is too weak, its scopes, its roles and the names of its claims.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from bearerguard.runtime.log_lines import LineLimit

_log = logging.getLogger("bearerguard")

_LINE_INTERVAL = 60.0
# What every API sees all day, from clients that mend it themselves.
_ORDINARY = frozenset(
    {"missing_credentials", "expired", "inactive", "insufficient_scope", "keys_fetched"}
)


@dataclass(frozen=True, slots=True)
class Event:
    """Something an operator may want to know.

    Attributes:
        code: a stable name: a refusal's reason, or `keys_fetched`, `keys_fetch_failed`,
            `keys_passed_over`, `introspection_failed`, `introspection_cache_failed`,
            `revocations_unavailable`, `revocations_restored`, `revocations_lost`,
            `revocations_unreadable`, `revocations_not_forwarded`, `logout_failed`,
            `preflight_refused`.
        issuer: the configured issuer that it concerns, or None.
        detail: what was found, and the remedy.
    """

    code: str
    issuer: str | None
    detail: str


class Events:
    """Where the guard reports to."""

    def __init__(
        self, on_event: Callable[[Event], None] | None, monotonic: Callable[[], float]
    ) -> None:
        self._on_event = on_event
        self._lines = LineLimit(monotonic, burst=1, interval=_LINE_INTERVAL)

    def emit(self, code: str, issuer: str | None, detail: str, *, about: str = "") -> None:
        """Report an event; a callback that fails is logged and harms no request.

        `about` sets apart what has the same code and is not the same trouble: each has its line.
        """
        left_out = self._lines.admit((code, issuer, about))
        if left_out is not None:
            level = logging.INFO if code in _ORDINARY else logging.WARNING
            about_issuer = f" (issuer {issuer})" if issuer else ""
            more = f" (and {left_out} more since the last line)" if left_out else ""
            _log.log(level, "%s: %s%s%s", code, detail, about_issuer, more)
        if self._on_event is not None:
            try:
                self._on_event(Event(code, issuer, detail))
            except Exception:
                _log.exception("on_event= raised for the event %s", code)
