"""Revocation: tokens refused before they expire, in this process and in all that share a store.

What the rest of the guard uses of it, imported at first use: many guards revoke nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.guard.revocation.backchannel_logout import LogoutReceiver, SignedLogoutToken
    from bearerguard.guard.revocation.revocations import (
        GuardRevocations,
        Revocations,
        check_revocations,
    )
    from bearerguard.guard.revocation.revoker import Names, Revoker

__all__ = [
    "GuardRevocations",
    "LogoutReceiver",
    "Names",
    "Revocations",
    "Revoker",
    "SignedLogoutToken",
    "check_revocations",
]

_PLACES = {
    "backchannel_logout": "LogoutReceiver SignedLogoutToken",
    "revocations": "GuardRevocations Revocations check_revocations",
    "revoker": "Names Revoker",
}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(
    __name__, {name: place for place, names in _PLACES.items() for name in names.split()}
)
