"""Finds the guard of an app, given the app or its import path: `module:attribute`, as for servers.

The path names a guard, an app of any framework, or `create_app()`. Imports no framework: it looks
for guards in the attributes where middleware, extensions and routes keep them, and for that of a
Django project in its settings.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.guard import Guard
from bearerguard.middleware.adapter import Adapter, MetadataAdapter
from bearerguard.middleware.inner_apps import kept_attribute, wrapped_apps

# What a module's app is called, where the path names none.
_USUAL = ("guard", "app", "application", "api")
# Where frameworks keep middleware, routes and dependencies: Starlette, FastAPI, Flask, Litestar.
_PARTS = (
    *("user_middleware", "middleware", "extensions", "kwargs", "router", "dependencies", "routes"),
    *("app", "dependant", "dependency", "call", "endpoint"),
)
_MAX_OBJECTS = 10_000
_DJANGO = "bearerguard.django.protection"


class AppGuard(NamedTuple):
    """A guard of an app, and what the app's middleware requires besides the guard, or None."""

    guard: Guard
    requirement: Requirement | None = None


def guard_at(path: str) -> AppGuard:
    """Import what a path names, and return its guard.

    Raises:
        ConfigurationError: it cannot be imported, or has no guard, or more than one.
    """
    module, _, attribute = path.partition(":")
    loaded = _imported(path, module)
    of_module = [AppGuard(each) for each in vars(loaded).values() if isinstance(each, Guard)]
    try:
        named = _attribute(path, loaded, attribute)
        found = _guards(named) or guards_of_django() or of_module
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:  # code of the app runs, such as that of a lazy object
        raise ConfigurationError(
            f"{path}: finding its guard raised {type(error).__name__}: {error}"
        ) from error
    return _single(path, found, "name", f", such as {module}:guard")


def guard_in(thing: object) -> AppGuard:
    """Return the guard of an app, or of a middleware, an extension or a dependency.

    Raises:
        ConfigurationError: it has no guard, or more than one.
    """
    return _single(type(thing).__name__, _guards(thing), "pass")


def guards_of_django() -> list[AppGuard]:
    """Return the guard of `settings.BEARERGUARD`; none outside a Django project that has one."""
    settings = getattr(sys.modules.get("django.conf"), "settings", None)
    if settings is None or not (settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ):
        return []
    if not hasattr(settings, "BEARERGUARD"):
        return []
    protection = import_module(_DJANGO).protection()
    return [_with_requirement(protection.guard, protection.admission.requirement)]


def _single(where: str, found: list[AppGuard], verb: str, example: str = "") -> AppGuard:
    # The same guard may be found again in a route, without what the middleware requires.
    different = list({id(each.guard): each for each in reversed(found)}.values())
    if not different:
        raise ConfigurationError(
            f"{where}: no guard was found there: {verb} the Guard itself{example}"
        )
    if len(different) > 1:
        raise ConfigurationError(
            f"{where}: there are {len(different)} guards: {verb} one of them{example}"
        )
    return different[0]


def _imported(path: str, module: str) -> ModuleType:
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise _unusable(path, error) from error
        raise ConfigurationError(
            f"{path}: there is no module {error.name!r}: run the command in the directory that has"
            " it, as your server does, and name it as module:attribute"
        ) from error
    except (Exception, SystemExit) as error:
        raise _unusable(path, error) from error


def _unusable(path: str, error: BaseException) -> ConfigurationError:
    return ConfigurationError(f"{path}: importing it raised {type(error).__name__}: {error}")


def _attribute(path: str, module: ModuleType, attribute: str) -> object:
    if not attribute:
        attribute = next((name for name in _USUAL if hasattr(module, name)), "")
        if not attribute:
            raise ConfigurationError(
                f"{path}: name what is in the module, such as {path}:app or {path}:guard"
            )
    is_factory = attribute.endswith("()")
    found: Any = module
    for name in attribute.removesuffix("()").split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            raise ConfigurationError(
                f"{path}: {module.__name__} has no {name!r}: check the name"
            ) from error
    if not is_factory:
        return found
    try:
        return found()
    except (Exception, SystemExit) as error:
        raise ConfigurationError(
            f"{path}: calling it raised {type(error).__name__}: {error}"
        ) from error


def _guards(root: object) -> list[AppGuard]:
    """Return the guards of an app; that of the outermost middleware alone, if there is one."""
    for each in wrapped_apps(root):
        found = _guard_of(each)
        if found is not None:
            return [found]
    return list(_inside(root))


def _guard_of(thing: object) -> AppGuard | None:
    if isinstance(thing, Guard):
        return AppGuard(thing)
    if isinstance(thing, Adapter):
        return _with_requirement(thing.guard, thing.admission.requirement)
    if isinstance(thing, MetadataAdapter):
        return None  # the guard's own middleware is inside, and knows what it requires
    guard = getattr(thing, "guard", None)  # such as an extension, or a security dependency
    if not isinstance(guard, Guard):
        return None
    return _with_requirement(guard, getattr(thing, "requirement", None))


def _with_requirement(guard: Guard, requirement: object) -> AppGuard:
    """Return a guard and a requirement, None if it is the guard's own: middleware combines them."""
    if not isinstance(requirement, Requirement) or requirement == guard.requirement:
        return AppGuard(guard)
    return AppGuard(guard, requirement)


def _inside(root: object) -> Iterator[AppGuard]:
    """Yield the guards that an app's middleware, routes and dependencies have."""
    # The objects are kept: the id of one that is gone may be another's.
    waiting, seen = [root], dict[int, object]()
    while waiting and len(seen) < _MAX_OBJECTS:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen[id(each)] = each
        found = _guard_of(each)
        if found is not None:
            yield found
        elif isinstance(each, Mapping):
            # The options of middleware that the framework makes later.
            guard = each.get("guard")
            if isinstance(guard, Guard):
                yield _with_requirement(guard, each.get("require"))
            else:
                waiting += list(each.values())
        elif isinstance(each, list | tuple):
            waiting += each
        else:
            waiting += [part for name in _PARTS if (part := kept_attribute(each, name))]
