"""Token introspection (RFC 7662): the endpoint, its responses and their cache.

What the rest of the guard uses of it, imported at first use: most guards introspect nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from bearerguard.runtime.lazy_names import lazy_names

if TYPE_CHECKING:
    from bearerguard.guard.introspection.introspection_cache import (
        IntrospectionCache,
        check_introspection_cache,
    )
    from bearerguard.guard.introspection.introspector import Introspector
    from bearerguard.guard.introspection.responses import (
        IntrospectedToken,
        ResponseReader,
        is_withdrawn,
    )
    from bearerguard.guard.introspection.shared_cache import SharedCache

__all__ = [
    "IntrospectedToken",
    "IntrospectionCache",
    "Introspector",
    "ResponseReader",
    "SharedCache",
    "check_introspection_cache",
    "is_withdrawn",
]

_PLACES = {
    "introspection_cache": "IntrospectionCache check_introspection_cache",
    "introspector": "Introspector",
    "responses": "IntrospectedToken ResponseReader is_withdrawn",
    "shared_cache": "SharedCache",
}

__getattr__: Callable[[str], Any]
__dir__: Callable[[], list[str]]
__getattr__, __dir__ = lazy_names(
    __name__, {name: place for place, names in _PLACES.items() for name in names.split()}
)
