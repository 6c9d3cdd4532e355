"""All targets, registered."""

from __future__ import annotations

from tests.fuzz import (
    of_binding,
    of_client,
    of_events,
    of_guard,
    of_http,
    of_jose,
    of_protocol,
    of_server,
)
from tests.fuzz.target import TARGETS

__all__ = [
    "TARGETS",
    "of_binding",
    "of_client",
    "of_events",
    "of_guard",
    "of_http",
    "of_jose",
    "of_protocol",
    "of_server",
]
