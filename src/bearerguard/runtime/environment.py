"""Misspelled names of settings are refused, with the name that was meant.

An environment has the names of other programs too, and those of the other roles. Only a name that
resembles one of ours is a misspelling.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from bearerguard.errors import ConfigurationError

# difflib's ratio: TOKEN_TYPE (for TOKEN_TYPES) and JWKS_URL (for JWKS_URI) are above it.
_SIMILARITY = 0.8


def check_names(
    given: Iterable[str],
    known: Collection[str],
    *,
    prefix: str,
    others: Collection[str] = (),
    closed: bool = False,
) -> None:
    """Refuse a name with `prefix` that is not `known` and resembles one that is.

    Args:
        given: all names of the environment.
        known: the names that the caller reads.
        prefix: the beginning of the names that are checked.
        others: prefixes of names that are read elsewhere.
        closed: whether a name that resembles no known one is refused too.

    Raises:
        ConfigurationError: the message has the name given, and the one that was meant.
    """
    short = {name.removeprefix(prefix): name for name in known}
    for name in sorted(given):
        if not name.startswith(prefix) or name in known or name.startswith(tuple(others)):
            continue
        # Where names are written without the prefix, one may have it all the same.
        said = name.removeprefix(prefix).removeprefix(prefix).upper()
        meant = resembling(said, short)
        if meant is not None:
            raise ConfigurationError(
                f"{name}: there is no such setting: {short[meant]} is meant; rename it, or"
                " remove it"
            )
        if closed:
            raise ConfigurationError(
                f"{name}: there is no such setting: remove it; there are {', '.join(sorted(short))}"
            )


def resembling(name: str, known: Iterable[str]) -> str | None:
    """Return the known name of which another is a misspelling, or None."""
    return next(iter(get_close_matches(name, list(known), 1, _SIMILARITY)), None)
