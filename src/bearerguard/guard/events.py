"""What the guard reports to an operator: one log line a minute per reason and issuer, and events.

Lines that are left out are counted. The next line of that kind has the number; if none follows, a
summary of all kinds has it.

An event names the reason and the remedy. It never holds a token, a secret, a subject or
any claim but those that say which tokens an issuer sends (iss, aud, typ, alg, kid, exp), and,
where a token does not suffice, its scopes, its roles, its login (acr and age) and the names of its
claims.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bearerguard.errors import quoted
from bearerguard.guard.observers import Observers
from bearerguard.runtime.elapsed import elapsed_by
from bearerguard.runtime.flow import Flow
from bearerguard.runtime.reporting import vocabulary
from bearerguard.runtime.reporting.events import Event
from bearerguard.runtime.reporting.log_lines import SUMMARY_INTERVAL, LineLimit

_log = logging.getLogger("bearerguard")

_LINE_INTERVAL = 60.0
# trace-id of a `traceparent` (W3C Trace Context §3.2.2).
_TRACE_ID = r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
_TRACEPARENT = "traceparent"
# Where an adapter of somebody else's does not say what a request has instead of a token.
UNKNOWN_ABSENCE = "the request carries no bearer token"


@dataclass(frozen=True, slots=True)
class Place:
    """The request that an event concerns, so that an operator can find it elsewhere.

    A client chose the values: they are escaped and cut where they are reported.

    Attributes:
        method: the HTTP method, or `WEBSOCKET`.
        path: the path, without the query.
        route: the path's template, such as `/items/{id}`, empty where it is not known.
        request_id: the id by which proxies and other services log the request, or empty.
        absence: what the request has instead of a bearer token, for one that is refused because it
            has none; see `protocol.http.credentials.absence`.
    """

    method: str
    path: str
    route: str = ""
    request_id: str = ""
    absence: str = UNKNOWN_ABSENCE

    def __str__(self) -> str:
        return quoted(f"{self.method} {self.route or self.path}")[1:-1]

    def details(self) -> dict[str, str]:
        """Return it as an event has it: the template instead of the path where it is known."""
        named = {"route": self.route} if self.route else {"path": self.path}
        if self.request_id:
            named["request_id"] = self.request_id
        return {name: quoted(text)[1:-1] for name, text in {"method": self.method, **named}.items()}


def request_id(names: Sequence[str], header: Callable[[str], str | None]) -> str:
    """Return the first id that a request has in one of these header fields, "" for none.

    `header` returns the value of a field by its lower-case name. The id in a `traceparent` is its
    trace-id (W3C Trace Context §3.2.2).
    """
    for name in names:
        value = header(name)
        if value and name == _TRACEPARENT:
            trace = re.fullmatch(_TRACE_ID, value.strip())
            value = None if trace is None else trace[1]
        if value:
            return value
    return ""


class Events:
    """Reports to the log and to `on_event`; `clock` returns Unix seconds.

    Attributes:
        observers: those of the guard, which get records of fetches.
        schedule: called with this object and a number of seconds, after which `refresh` writes a
            line about the lines that were left out.
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
        self.schedule: Callable[[Events, float], None] = _never
        # The process in which a summary is scheduled.
        self._scheduled_in: int | None = None

    def emit(
        self,
        code: str,
        issuer: str | None,
        detail: str,
        *,
        about: str = "",
        place: Place | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        """Report an event. A callback that raises is logged, and the request goes on.

        `about` separates events of one code that have different causes: each gets its own line.
        `place` is the request that the event concerns; `details` are further values for programs.
        """
        left_out = self._lines.admit((code, issuer, about))
        known = {**(place.details() if place is not None else {}), **(details or {})}
        event = Event(code, self._clock(), issuer, detail, known)
        if left_out is not None:
            level = logging.INFO if code in vocabulary.INFO else logging.WARNING
            context = _context(issuer, place, detail)
            more = f" (and {left_out} more since the last line)" if left_out else ""
            fields = event.log_fields()
            _log.log(level, "%s: %s%s%s", code, detail, context, more, extra=fields)
        elif self._scheduled_in != os.getpid():
            self._scheduled_in = os.getpid()
            self.schedule(self, SUMMARY_INTERVAL)
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _log.exception("on_event= raised for the event %s", code)

    def refresh(self) -> Flow[None]:
        """Write a line about the lines that were left out since the last summary, if any were."""
        self._sum_up(self._lines.summary())
        yield from ()  # no effect: it is a flow because a thread drives it

    def next_refresh(self) -> float | None:
        """Return the seconds until the next summary, None if nothing is left out now."""
        if self._lines.has_left_out:
            return SUMMARY_INTERVAL
        self._scheduled_in = None
        return None

    def close(self) -> None:
        """Write the last summary."""
        self._sum_up(self._lines.summary(at_once=True))
        self._scheduled_in = None

    def _sum_up(self, left_out: Mapping[Hashable, int]) -> None:
        if left_out:
            codes = Counter[str]()
            for kind, count in left_out.items():
                codes[kind[0] if isinstance(kind, tuple) else "others"] += count
            level = logging.INFO if codes.keys() <= vocabulary.INFO else logging.WARNING
            listed = ", ".join(f"{code} {count}" for code, count in codes.most_common())
            _log.log(level, "lines_left_out: %d (%s)", codes.total(), listed)


def _never(_events: Events, _seconds: float) -> None:
    """Schedule nothing: there is no thread."""


def _context(issuer: str | None, place: Place | None, detail: str) -> str:
    """Return the issuer and the request for the end of a line that does not name them before."""
    parts = [f"issuer {issuer}"] if issuer else []
    if place is not None:
        parts += [] if detail.startswith(f"{place} ") else [str(place)]
        parts += [f"request {quoted(place.request_id)[1:-1]}"] if place.request_id else []
    return f" ({', '.join(parts)})" if parts else ""
