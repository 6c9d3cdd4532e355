"""Options that take one name or several, such as an audience."""

from __future__ import annotations

from bearerguard.errors import ConfigurationError


def checked_names(given: object, remedy: str) -> frozenset[str]:
    """Return the names of an option; `ConfigurationError` says `remedy` for anything else."""
    names = [given] if isinstance(given, str) else given
    if (
        not isinstance(names, list | tuple | set | frozenset)
        or not names
        or not all(isinstance(name, str) and name for name in names)
    ):
        raise ConfigurationError(remedy)
    return frozenset(names)
