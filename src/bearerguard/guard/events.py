"""What the guard reports to an operator: one log line a minute per reason and issuer, and events.

Each line gives the number of lines suppressed since the previous one.

An event names the reason and the remedy. It never holds a token, a secret, a subject or
any claim but those that say which tokens an issuer sends (iss, aud, typ, alg, kid, exp), and,
where a token does not suffice, its scopes, its roles and the names of its claims.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from bearerguard.guard.observers import Observers
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.events import Event
from bearerguard.runtime.log_lines import LineLimit

_log = logging.getLogger("bearerguard")

_LINE_INTERVAL = 60.0
# Routine events, which clients resolve by themselves.
_ORDINARY = frozenset(
    {"missing_credentials", "expired", "inactive", "insufficient_scope", "keys_fetched"}
)


class Events:
    """Reports to the log and to `on_event`; `clock` returns Unix seconds.

    Attributes:
        observers: those of the guard, which get records of fetches.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None] | None,
        clock: Callable[[], float],
        observers: Observers | None = None,
    ) -> None:
        self.observers: Observers = observers or Observers()
        self._on_event = on_event
        self._clock = clock
        self._lines = LineLimit(elapsed_by(clock), burst=1, interval=_LINE_INTERVAL)

    def emit(self, code: str, issuer: str | None, detail: str, *, about: str = "") -> None:
        """Report an event. A callback that raises is logged, and the request goes on.

        `about` separates events of one code that have different causes: each gets its own line.
        """
        left_out = self._lines.admit((code, issuer, about))
        if left_out is not None:
            level = logging.INFO if code in _ORDINARY else logging.WARNING
            about_issuer = f" (issuer {issuer})" if issuer else ""
            more = f" (and {left_out} more since the last line)" if left_out else ""
            _log.log(level, "%s: %s%s%s", code, detail, about_issuer, more)
        if self._on_event is not None:
            try:
                self._on_event(Event(code, self._clock(), issuer, detail))
            except Exception:
                _log.exception("on_event= raised for the event %s", code)
