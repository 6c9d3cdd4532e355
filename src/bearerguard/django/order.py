"""The order of `MIDDLEWARE`: what must stand above `BearerMiddleware`, and what below it.

A middleware is known by its class's name or a base class's, so that none is imported that the
project does not use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

_OURS = "bearerguard.django.middleware.BearerMiddleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
UPDATE_CACHE = "django.middleware.cache.UpdateCacheMiddleware"

USER_REPLACED = (
    'BEARERGUARD["USER"]: AuthenticationMiddleware stands below BearerMiddleware in MIDDLEWARE, and'
    " would replace the user: move BearerMiddleware below it"
)


def has_ours() -> bool:
    """Whether `BearerMiddleware`, or a subclass, is in `MIDDLEWARE`."""
    return bool(_places(_named(_OURS)))


def has(name: str) -> bool:
    """Whether a middleware of this name is there."""
    return bool(_places(_named(name)))


def has_inside(name: str) -> bool:
    """Whether a middleware of this name stands below `BearerMiddleware`."""
    return _is_inside(_named(name))


def has_cors_inside() -> bool:
    """Whether CORS middleware stands below `BearerMiddleware`."""
    return _is_inside(lambda path, _names: "cors" in path.rpartition(".")[2].lower())


def _is_inside(match: Callable[[str, set[str]], bool]) -> bool:
    ours = _places(_named(_OURS))
    return bool(ours) and any(place > ours[0] for place in _places(match))


def _named(name: str) -> Callable[[str, set[str]], bool]:
    return lambda path, names: name in names or name == path


def _places(match: Callable[[str, set[str]], bool]) -> list[int]:
    return [place for place, path in enumerate(settings.MIDDLEWARE) if match(path, _names(path))]


def _names(path: str) -> set[str]:
    try:
        middleware: Any = import_string(path)
    except ImportError:
        return set()  # Django reports it
    return {f"{each.__module__}.{each.__qualname__}" for each in getattr(middleware, "__mro__", ())}
