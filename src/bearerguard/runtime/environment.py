"""The names of settings: a slip in one is refused, with the name that was meant.

An environment holds names of other programs too, and those of the other roles. Only a name that
looks like one of ours is a slip.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from difflib import get_close_matches

from bearerguard.errors import ConfigurationError

# Of all letters, in order: TOKEN_TYPE is one letter short of TOKEN_TYPES, JWKS_URL has one wrong.
_SIMILARITY = 0.8


def check_names(
    given: Iterable[str], known: Collection[str], *, prefix: str, others: Collection[str] = ()
) -> None:
    """Refuse a name with `prefix` that is not `known` and resembles one that is.

    `others` are prefixes of names that somebody else reads.

    Raises:
        ConfigurationError: the name given, and the one that was meant.
    """
    short = {name.removeprefix(prefix): name for name in known}
    for name in sorted(given):
        if not name.startswith(prefix) or name in known or name.startswith(tuple(others)):
            continue
        meant = get_close_matches(name.removeprefix(prefix), short, 1, _SIMILARITY)
        if meant:
            raise ConfigurationError(
                f"{name}: there is no such setting: {short[meant[0]]} is meant; rename it, or"
                " remove it"
            )
