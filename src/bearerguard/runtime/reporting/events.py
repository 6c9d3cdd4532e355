"""What the guard and the server report to an operator: one value, for every `on_event=`.

Knows nothing of logs, callbacks or clocks.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from bearerguard.errors import quoted


class JsonText:
    """Details that become JSON where they are printed: by `serve`, not in a request's thread."""

    __slots__ = ("_details",)

    def __init__(self, details: Mapping[str, Any]) -> None:
        self._details = details

    def __str__(self) -> str:
        return json.dumps(self._details)


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

    @classmethod
    def of_details(
        cls, code: str, at: float, issuer: str | None, details: Mapping[str, Any]
    ) -> Event:
        """Return an event whose `detail` is its details as JSON, made when it is read first.

        Most events are only counted, and the text costs more than everything else of an event.
        """
        event = cls.__new__(cls)
        for name, value in (("code", code), ("at", at), ("issuer", issuer), ("details", details)):
            object.__setattr__(event, name, value)
        event.__post_init__()
        return event

    if not TYPE_CHECKING:  # a type checker knows the attributes

        def __getattr__(self, name: str) -> str:
            """Make `detail`, the one attribute that may not be set yet."""
            if name != "detail":
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            detail = json.dumps(self.shown())
            object.__setattr__(self, "detail", detail)
            return detail

    def shown(self) -> dict[str, Any]:
        """Return the details as they are fit for a line: text is escaped and cut."""
        # A value from a request may be anything: keep it on one line, and short.
        return {
            name: quoted(value)[1:-1] if isinstance(value, str) else value
            for name, value in self.details.items()
        }

    def log_fields(self, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the `extra=` of a log record; `shown` are details that are fit for a line."""
        details = dict(self.details if shown is None else shown)
        return {"event": self, "code": self.code, "issuer": self.issuer, "details": details}

    def __reduce__(self) -> tuple[type[Event], tuple[Any, ...]]:
        # A mapping proxy cannot be pickled, and log records are, on their way to other processes.
        return Event, (self.code, self.at, self.issuer, self.detail, dict(self.details))
