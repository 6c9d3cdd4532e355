"""Telling the operator: one log line per reason and issuer a minute, and a callback.

An event names the reason and the remedy. It never holds a token, a secret, a subject or
any claim but those that say which tokens an issuer sends (iss, aud, typ, alg, kid, exp).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

_log = logging.getLogger("bearerguard")

_LINE_INTERVAL = 60.0
# What every API sees all day, from clients that mend it themselves.
_ORDINARY = frozenset({"missing_credentials", "expired", "insufficient_scope", "keys_fetched"})


@dataclass(frozen=True, slots=True)
class Event:
    """Something an operator may want to know.

    Attributes:
        code: a stable name: a refusal's reason, or `keys_fetched`, `keys_fetch_failed`,
            `keys_passed_over`.
        issuer: the configured issuer that it concerns, or None.
        detail: what was found, and the remedy.
    """

    code: str
    issuer: str | None
    detail: str


class Events:
    """Where the guard reports to; bounded by the number of codes and issuers."""

    def __init__(
        self, on_event: Callable[[Event], None] | None, clock: Callable[[], float]
    ) -> None:
        self._on_event = on_event
        self._clock = clock
        self._last_line: dict[tuple[str, str | None], float] = {}

    def emit(self, code: str, issuer: str | None, detail: str) -> None:
        """Report an event; a callback that fails is logged and harms no request."""
        self._write_line(code, issuer, detail)
        if self._on_event is not None:
            try:
                self._on_event(Event(code, issuer, detail))
            except Exception:
                _log.exception("on_event= raised for the event %s", code)

    def _write_line(self, code: str, issuer: str | None, detail: str) -> None:
        now = self._clock()
        last = self._last_line.get((code, issuer))
        if last is not None and 0 <= now - last < _LINE_INTERVAL:
            return
        self._last_line[code, issuer] = now
        level = logging.INFO if code in _ORDINARY else logging.WARNING
        _log.log(level, "%s: %s%s", code, detail, f" (issuer {issuer})" if issuer else "")
