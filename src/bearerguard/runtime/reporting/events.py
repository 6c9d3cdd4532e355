"""What the guard and the server report to an operator: one value, for every `on_event=`.

Knows nothing of logs, callbacks or clocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True, slots=True)
class Event:
    """Something an operator may want to know. It never holds a token, a code or a secret.

    Args:
        code: a stable name, such as `token_issued`, or the code of a guard's refusal; those of the
            guard and of the server are different. docs/observability.md lists all.
        at: when, in Unix seconds.
        issuer: the URL of the configured issuer that it concerns, or None.
        detail: one line for people: what happened, and the remedy.
        details: the same for programs. A server names `client_id`, `user_id`, `grant_id`,
            `scope`, `kid` and others; a refused request also has `endpoint`, `error` (the RFC's
            code) and `reason`; an event that no request caused has `by`. A guard names, of a
            request, its `method`, its `route` (the path's template) or `path`, and its
            `request_id`; and of a 403 what was `needed` and what the token has instead,
            `present`. Read-only.
    """

    code: str
    at: float
    issuer: str | None = None
    detail: str = ""
    details: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "details", MappingProxyType(dict(self.details)))

    def log_fields(self, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the `extra=` of a log record; `shown` are details that are fit for a line."""
        details = dict(self.details if shown is None else shown)
        return {"event": self, "code": self.code, "issuer": self.issuer, "details": details}

    def __reduce__(self) -> tuple[type[Event], tuple[Any, ...]]:
        # A mapping proxy cannot be pickled, and log records are, on their way to other processes.
        return Event, (self.code, self.at, self.issuer, self.detail, dict(self.details))
