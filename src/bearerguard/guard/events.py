"""Telling the operator: one log line per reason and issuer a minute, and a callback.

An event names the reason and the remedy. It never holds a token, a secret, a subject or
any claim but those that say which tokens an issuer sends (iss, aud, typ, alg, kid, exp), and,
where a token is too weak, its scopes, its roles and the names of its claims.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass

from cachetools import TTLCache

_log = logging.getLogger("bearerguard")

_LINE_INTERVAL = 60.0
_MAX_REMEMBERED = 10_000
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
        self._monotonic = monotonic
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._written = TTLCache[tuple[str, str | None, str], bool](
            _MAX_REMEMBERED, _LINE_INTERVAL, timer=self._monotonic
        )

    def emit(self, code: str, issuer: str | None, detail: str, *, about: str = "") -> None:
        """Report an event; a callback that fails is logged and harms no request.

        `about` sets apart what has the same code and is not the same trouble: each has its line.
        """
        if self._is_first(code, issuer, about):
            level = logging.INFO if code in _ORDINARY else logging.WARNING
            _log.log(level, "%s: %s%s", code, detail, f" (issuer {issuer})" if issuer else "")
        if self._on_event is not None:
            try:
                self._on_event(Event(code, issuer, detail))
            except Exception:
                _log.exception("on_event= raised for the event %s", code)

    def _is_first(self, code: str, issuer: str | None, about: str) -> bool:
        """Whether the last minute has seen no line of this kind."""
        if self._pid != os.getpid():
            self._renew()  # the parent's lock may be held for ever in its child
        with self._lock:
            if (code, issuer, about) in self._written:
                return False
            self._written[code, issuer, about] = True
            return True
