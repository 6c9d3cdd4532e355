"""Revocation: tokens refused before they expire, in this process and in all that share a store.

What the rest of the guard uses of it, imported at first use: many guards revoke nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.guard.revocation.backchannel_logout import LogoutReceiver
    from bearerguard.guard.revocation.event_subjects import SubjectOf
    from bearerguard.guard.revocation.posted_events import EventReceiver
    from bearerguard.guard.revocation.revocations import (
        GuardRevocations,
        Revocations,
        check_revocations,
    )
    from bearerguard.guard.revocation.revoker import Names, Revoker

__all__ = [
    "EventReceiver",
    "GuardRevocations",
    "LogoutReceiver",
    "Names",
    "Revocations",
    "Revoker",
    "SubjectOf",
    "check_revocations",
]

_PLACES = {
    "backchannel_logout": "LogoutReceiver",
    "event_subjects": "SubjectOf",
    "posted_events": "EventReceiver",
    "revocations": "GuardRevocations Revocations check_revocations",
    "revoker": "Names Revoker",
}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(
    __name__, {name: place for place, names in _PLACES.items() for name in names.split()}
)
