"""The audit log: structured security events without secrets.

Each event is one line on the logger `bearerguard.server`, its code followed by JSON, and one call
of `on_event=`. It contains identifiers of clients, users and grants, and never tokens, codes,
secrets or passwords. Values of a request are escaped and cut. A refused request is a warning,
unless the user decided so. An event that no request caused says `by` whom it was caused.

Anybody can cause refusals. Of each kind some lines are written, then one a minute that says how
many were left out. The callback gets every event.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal, TypeAlias

from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.reporting.events import Event, JsonText
from bearerguard.runtime.reporting.log_lines import LineLimit
from bearerguard.runtime.reporting.vocabulary import WARNING

_log = logging.getLogger("bearerguard.server")

# What is reported with an event: identifiers, names and numbers.
Detail: TypeAlias = str | float | bool | None

# Who causes events: a request, whose client or user the event names; a command; the app's own code;
# the upkeep that the server does by itself.
By: TypeAlias = Literal["request", "command", "app", "upkeep"]
_by: ContextVar[By | None] = ContextVar("bearerguard-by", default=None)

# The code of the event of a refused request, unless it has one of its own.
REFUSED = "request_refused"

# Decisions of a user, and responses that clients ask for (OpenID Connect Core §3.1.2.6).
_ROUTINE_ERRORS = frozenset(
    {
        "access_denied",
        "login_required",
        "consent_required",
        "interaction_required",
        "account_selection_required",
        # What a device that polls is told (RFC 8628 §3.5).
        "authorization_pending",
        "slow_down",
        "expired_token",
    }
)

# Lines of one kind at once, and the seconds until one more. The kind of a login has its address:
# tools that block addresses by these lines see each. All kinds together have a bound, too.
_BURST = 20
_INTERVAL = 60.0
_MOST_AT_ONCE = 1000
_MOST = 5.0  # a second: of lines of some 400 bytes, 170 MB a day
# The details that make a kind. A request cannot choose them, except the address of a login and the
# grant of a token that was valid once.
_KIND = ("endpoint", "error", "reason", "address", "grant_id")


class Audit:
    """Reports the server's events.

    Args:
        on_event: called with every `Event`. One that raises is logged, and the request goes on.
        clock: returns Unix seconds.
        issuer: the server's issuer, if it is known here.
        by: who causes events outside `causing`.
    """

    def __init__(
        self,
        on_event: Callable[[Event], None] | None,
        clock: Callable[[], float],
        *,
        issuer: str | None = None,
        by: By = "app",
    ) -> None:
        self._on_event = on_event
        self._by: By = by
        self._clock = clock
        self._issuer = issuer
        self._lines = LineLimit(
            elapsed_by(clock),
            burst=_BURST,
            interval=_INTERVAL,
            most=_MOST,
            most_at_once=_MOST_AT_ONCE,
        )

    @property
    def calls_back(self) -> bool:
        """Whether there is a callback, which may do anything."""
        return self._on_event is not None

    def emit(self, code: str, /, **details: Detail) -> None:
        """Report an event; details that are None are left out."""
        routine = code not in WARNING or details.get("error") in _ROUTINE_ERRORS
        level = logging.INFO if routine else logging.WARNING
        is_logged = _log.isEnabledFor(level)
        if is_logged or self._on_event is not None:
            by = _by.get() or self._by
            if by != "request":
                details["by"] = by
            known = {name: value for name, value in details.items() if value is not None}
            event = Event.of_details(code, self._clock(), self._issuer, known)
            if is_logged:
                self._write(event, level)
            if self._on_event is not None:
                try:
                    self._on_event(event)
                except Exception:
                    _log.exception("on_event= raised for the event %s", code)
        if unreported := self._lines.summary():
            count = sum(unreported.values())
            _log.warning("lines_left_out %s", json.dumps({"lines_left_out": count}))

    def _write(self, event: Event, level: int) -> None:
        left_out: int | None = 0
        if event.code in WARNING:
            left_out = self._lines.admit((event.code, *map(event.details.get, _KIND)))
        if left_out is not None:
            shown = event.shown()
            text = JsonText({**shown, "lines_left_out": left_out} if left_out else shown)
            _log.log(level, "%s %s", event.code, text, extra=event.log_fields(shown))


# Letters and digits that nobody confuses, in writing or by phone.
_LETTERS = "23456789BCDFGHJKMNPQRSTVWXYZ"


def new_reference() -> str:
    """Return the `reference` of an event, which the error page shows too: such as `7KQ2-M9XD`.

    Of 100 000 pages, two have the same with a probability of about 1 %.
    """
    letters = [secrets.choice(_LETTERS) for _ in range(8)]
    return f"{''.join(letters[:4])}-{''.join(letters[4:])}"


@contextmanager
def causing(by: By) -> Generator[None]:
    """Events inside the block, in this thread or task, are caused by `by`."""
    token = _by.set(by)
    try:
        yield
    finally:
        _by.reset(token)
