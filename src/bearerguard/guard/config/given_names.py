"""Options that take one name or several, such as an audience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bearerguard.errors import ConfigurationError

Names: TypeAlias = str | Sequence[str]


def checked_names(given: object, remedy: str) -> frozenset[str]:
    """Return the names of an option; `ConfigurationError` says `remedy` for anything else."""
    return frozenset(_listed(given, remedy))


def names(option: str, given: object) -> list[str]:
    """Return one name or several in their order; `ConfigurationError` for anything else."""
    return _listed(given, f"{option}=: pass a name, or a list of names")


def _listed(given: object, remedy: str) -> list[str]:
    several = [given] if isinstance(given, str) else given
    if (
        not isinstance(several, list | tuple | set | frozenset)
        or not several
        or not all(isinstance(name, str) and name for name in several)
    ):
        raise ConfigurationError(remedy)
    return list(several)
