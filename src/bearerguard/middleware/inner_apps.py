"""The apps inside an app, and the CORS middleware among them.

CORS middleware inside the guard never sees a refusal, so a warning is logged. It is recognised by
its name, so that no framework is imported.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence

# Where ASGI and WSGI middleware keeps the app that it wraps.
_INNER = ("app", "_app", "wsgi_app", "asgi_app", "application", "wrapped", "__wrapped__")
_MAX_APPS = 64  # longer than any real chain: an app may create attributes without end


def cors_middleware_in(app: object) -> str | None:
    """Return the name of the CORS middleware within an app, or None where none is found."""
    names = (name for each in wrapped_apps(app) for name in _names(each))
    found = next((name for name in names if "cors" in name.rpartition(".")[2].lower()), None)
    return None if found is None else found.rpartition(".")[2]


def wrapped_apps(app: object) -> Iterator[object]:
    """Yield an app and those that it wraps, outermost first."""
    waiting, seen = [app], set[int]()
    while waiting and len(seen) < _MAX_APPS:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        # The object of a bound method, such as Flask's `wsgi_app`.
        waiting.append(getattr(each, "__self__", None))
        waiting += [inner for name in _INNER if callable(inner := kept_attribute(each, name))]


def _names(app: object) -> Iterator[str]:
    """Yield the names of an app and of what it has registered."""
    yield _name(app)
    # Starlette adds its middleware at the first request; Litestar has a setting.
    for middleware in _sequence(kept_attribute(app, "user_middleware")):
        yield _name(getattr(middleware, "cls", None))
    if kept_attribute(app, "cors_config") is not None:
        yield "cors_config"
    # flask-cors is a function after each request.
    hooks = kept_attribute(app, "after_request_funcs")
    for functions in hooks.values() if isinstance(hooks, dict) else ():
        yield from map(_name, _sequence(functions))


def _name(named: object) -> str:
    name = getattr(named, "__qualname__", None)
    return name if isinstance(name, str) else type(named).__qualname__


def kept_attribute(app: object, name: str) -> object:
    """Return an attribute that an app keeps, None where it is missing or computed."""
    # Not getattr alone: an app may return something for any name, or run code when one is read.
    own = getattr(app, "__dict__", None)
    if isinstance(own, Mapping) and name in own:
        return own[name]
    # Our own middleware has slots.
    slot = getattr(type(app), name, None)
    return getattr(app, name, None) if inspect.ismemberdescriptor(slot) else None


def _sequence(value: object) -> Sequence[object]:
    return value if isinstance(value, list | tuple) else ()
