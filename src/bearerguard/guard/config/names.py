"""Options that take one name or several, such as an audience."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from bearerguard.errors import ConfigurationError

Names: TypeAlias = str | Sequence[str]


def names(option: str, given: object, remedy: str = "pass a name, or a list of names") -> list[str]:
    """Return the names in their order.

    Raises `ConfigurationError` with the option and the remedy for anything else, an empty list
    included.
    """
    several = [given] if isinstance(given, str) else given
    if (
        not isinstance(several, list | tuple | set | frozenset)
        or not several
        or not all(isinstance(name, str) and name for name in several)
    ):
        raise ConfigurationError(f"{option}=: {remedy}")
    return list(several)
