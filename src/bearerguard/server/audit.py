"""The audit log: security events, structured, without any secret.

One line each on the logger `bearerguard.server`, as JSON behind the event's name, and a callback.
Identifiers of clients, users and grants are in it; tokens, codes, secrets and passwords never.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from bearerguard.errors import quoted

_log = logging.getLogger("bearerguard.server")

# What an operator should look at; the rest is the ordinary day.
_ALARMING = frozenset(
    {
        "code_replayed",
        "refresh_token_reused",
        "client_authentication_failed",
        "login_failed",
        "login_throttled",
        "revocation_not_told",
        "store_unavailable",
    }
)


@dataclass(frozen=True, slots=True)
class SecurityEvent:
    """Something that an audit must be able to find again.

    Attributes:
        name: what happened, such as `token_issued` or `refresh_token_reused`.
        at: when, in Unix seconds.
        details: with whom: `client_id`, `user_id`, `grant_id`, `scope`, `kid`, ….
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

    def emit(self, event_name: str, **details: Any) -> None:
        """Report an event; details that are None are left out."""
        known = {key: value for key, value in details.items() if value is not None}
        event = SecurityEvent(event_name, self._clock(), MappingProxyType(known))
        level = logging.WARNING if event_name in _ALARMING else logging.INFO
        safe = {key: _safe(value) for key, value in known.items()}
        _log.log(level, "%s %s", event_name, json.dumps(safe), extra={"security_event": event})
        if self._on_event is not None:
            try:
                self._on_event(event)
            except Exception:
                _log.exception("on_event= raised for the event %s", event_name)


def _safe(value: Any) -> Any:
    # What a request named may be anything: one line, and not a long one.
    return quoted(value)[1:-1] if isinstance(value, str) else value
