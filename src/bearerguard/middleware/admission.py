"""What an adapter asks before it asks the guard: which requests need a token at all.

Paths are those below the mount, percent-decoded; knows neither ASGI nor WSGI.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.options import check_requirement
from bearerguard.guard.config.requirement import Requirement, combined
from bearerguard.guard.guard import Guard

_log = logging.getLogger("bearerguard")

_PREFLIGHT_REMEDY = "put the CORS middleware outside, or pass_preflights=True"
# Where ASGI and WSGI middleware keeps the app that it wraps.
_INNER = ("app", "_app", "wsgi_app", "asgi_app", "application", "wrapped", "__wrapped__")
_MOST_APPS = 64  # a chain is shorter; what makes attributes up as it goes is not followed

# Ways to write one path so that another one is served (RFC 3986 §6.2.2): what a proxy or an app
# would take for dots or slashes, decoding once more, or dropping parameters and controls.
_AMBIGUOUS = re.compile(
    r"//|\\|(?:^|/)\.{1,2}(?:[/;]|$)|[\x00-\x1f\x7f]|%(?:25)*(?:2f|5c|2e)", re.IGNORECASE
)
_AMBIGUOUS_RAW = re.compile(r"%2f|%5c|%2e", re.IGNORECASE)


class Paths:
    """Path patterns: exact, or `prefix*`; case-sensitive. An ambiguous path matches none."""

    def __init__(self, option: str, patterns: Sequence[str]) -> None:
        if isinstance(patterns, str) or not all(_is_pattern(each) for each in patterns):
            raise ConfigurationError(
                f'{option}=: pass a list of paths such as ("/health", "/static/*"): each begins'
                " with / and has * only at its end"
            )
        self._exact = frozenset(each for each in patterns if not each.endswith("*"))
        self._prefixes = tuple(each[:-1] for each in patterns if each.endswith("*"))

    def __bool__(self) -> bool:
        return bool(self._exact or self._prefixes)

    def match(self, path: str, raw: str = "") -> bool:
        """Whether a pattern covers `path`; `raw` is how it was written, where that is known."""
        covered = path in self._exact or path.startswith(self._prefixes)
        return covered and not _AMBIGUOUS.search(path) and not _AMBIGUOUS_RAW.search(raw)


class Admission:
    """The options of an adapter, checked, and its guard.

    `asks_first` is False where every request needs a token, so that none need be compared.
    `app` is what is protected: CORS middleware in it is looked for. `preflight_remedy` is what
    to do about a CORS preflight that was refused.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        require: Requirement | None,
        optional: bool | Sequence[str],
        exclude: Sequence[str],
        pass_preflights: bool = False,
        app: Any = None,
        preflight_remedy: str = _PREFLIGHT_REMEDY,
    ) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard")
        check_requirement(require)
        self.guard = guard
        self.requirement = combined(guard.requirement, require)
        self._excluded = Paths("exclude", exclude)
        self._always_optional = optional is True
        self._optional = Paths("optional", () if isinstance(optional, bool) else optional)
        if not isinstance(pass_preflights, bool):
            raise ConfigurationError("pass_preflights=: pass True or False")
        self.passes_preflights = pass_preflights
        self.asks_first = bool(
            self._excluded or self._optional or self._always_optional or pass_preflights
        )
        self._preflight_remedy = preflight_remedy
        inside = None if pass_preflights else _cors_inside(app)
        if inside is not None:
            _log.warning(
                "%s lies inside the guard, so CORS preflights will be refused before they reach"
                " it: %s",
                inside,
                _PREFLIGHT_REMEDY,
            )

    def is_excluded(self, path: str, raw: str = "") -> bool:
        """Whether a request for `path` is not authenticated at all."""
        return self._excluded.match(path, raw)

    def preflight_refused(self) -> None:
        """Tell the operator that a browser was refused its preflight, which has no token."""
        detail = f"a CORS preflight was refused: {self._preflight_remedy}"
        self.guard.report("preflight_refused", detail)

    def is_optional(self, path: str, raw: str = "") -> bool:
        """Whether a request for `path` passes without a token."""
        return self._always_optional or self._optional.match(path, raw)


def _is_pattern(pattern: object) -> bool:
    return isinstance(pattern, str) and pattern[:1] == "/" and "*" not in pattern[:-1]


def _cors_inside(app: Any) -> str | None:
    """Return the name of the CORS middleware within an app, where it can be seen."""
    found = next((name for each in _apps(app) for name in _names(each) if _is_cors(name)), None)
    return None if found is None else found.rpartition(".")[2]


def _apps(app: Any) -> Iterator[Any]:
    """Yield an app and those that it wraps."""
    waiting, seen = [app], set[int]()
    while waiting and len(seen) < _MOST_APPS:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        # Of a bound method, such as Flask's `wsgi_app`, it is the object.
        waiting.append(getattr(each, "__self__", None))
        own = _attributes(each)
        waiting += [own[name] for name in _INNER if callable(own.get(name))]


def _names(each: Any) -> Iterator[str]:
    """Yield what an app, and what it has registered, are called."""
    yield _name(each)
    own = _attributes(each)
    # Starlette adds its middleware at the first request; Litestar has a setting.
    for middleware in _sequence(own.get("user_middleware")):
        yield _name(getattr(middleware, "cls", None))
    if own.get("cors_config") is not None:
        yield "cors_config"
    # flask-cors is a function after each request.
    hooks = own.get("after_request_funcs")
    for functions in hooks.values() if isinstance(hooks, dict) else ():
        yield from map(_name, _sequence(functions))


def _name(each: Any) -> str:
    name = getattr(each, "__qualname__", None)
    return name if isinstance(name, str) else type(each).__qualname__


def _is_cors(name: str) -> bool:
    return "cors" in name.rpartition(".")[2].lower()


def _attributes(each: Any) -> dict[str, Any]:
    # Not getattr: an app may answer to every name, or work when it is asked.
    found = getattr(each, "__dict__", None)
    return found if isinstance(found, dict) else {}


def _sequence(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()
