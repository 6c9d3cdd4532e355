"""What a face asks before it asks the guard: which paths need a token at all.

Paths are those below the mount, percent-decoded; knows neither ASGI nor WSGI.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from bearerguard.errors import ConfigurationError
from bearerguard.guard.guard import Guard
from bearerguard.guard.options import check_requirement
from bearerguard.guard.requirement import Requirement, combined

# Ways to write one path so that another one is served (RFC 3986 §6.2.2).
_AMBIGUOUS = re.compile(r"//|\\|(?:^|/)\.{1,2}(?:/|$)")
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
    """The options of a face, checked, and its guard.

    `has_paths` is False where every request needs a token, so that none need be compared.
    """

    def __init__(
        self,
        guard: Guard,
        *,
        require: Requirement | None,
        optional: bool | Sequence[str],
        exclude: Sequence[str],
    ) -> None:
        if not isinstance(guard, Guard):
            raise ConfigurationError("guard=: pass a Guard")
        check_requirement(require)
        self.guard = guard
        self.requirement = combined(guard.requirement, require)
        self._excluded = Paths("exclude", exclude)
        self._always_optional = optional is True
        self._optional = Paths("optional", () if isinstance(optional, bool) else optional)
        self.has_paths = bool(self._excluded or self._optional or self._always_optional)

    def is_excluded(self, path: str, raw: str = "") -> bool:
        """Whether a request for `path` is not authenticated at all."""
        return self._excluded.match(path, raw)

    def is_optional(self, path: str, raw: str = "") -> bool:
        """Whether a request for `path` passes without a token."""
        return self._always_optional or self._optional.match(path, raw)


def _is_pattern(pattern: object) -> bool:
    return isinstance(pattern, str) and pattern[:1] == "/" and "*" not in pattern[:-1]
