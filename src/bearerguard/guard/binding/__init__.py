"""Tokens that are bound to a key of their sender (RFC 7800): DPoP, and replay stores.

What the rest of the guard uses of it, imported at first use: most guards accept no bound tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.guard.binding.binding import Binding, DpopOptions, made
    from bearerguard.guard.binding.replays import MemoryReplays

__all__ = ["Binding", "DpopOptions", "MemoryReplays", "made"]

_PLACES = {"binding": "Binding DpopOptions made", "replays": "MemoryReplays"}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(
    __name__, {name: place for place, names in _PLACES.items() for name in names.split()}
)
