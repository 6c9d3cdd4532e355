"""The validity of a token whose status is in a list: that of its key, and of the list.

One for each such token; the list and the key are shared. When a newer list replaces the list, the
validity ends, and the next use of the token checks its status again.
"""

from __future__ import annotations

import math

from bearerguard.guard.keys.key_validity import KeyValidity, Validity


class StatusValidity:
    """Until when a token needs no check of its key and of its status.

    Args:
        key: the validity of the key that verified the token.
        lists: the validity of the list, and of the key that signed it; none for a token whose
            status is yet to be checked.
    """

    __slots__ = ("_lists", "key")

    def __init__(self, key: KeyValidity, *lists: KeyValidity) -> None:
        self.key: KeyValidity = key
        self._lists = lists

    @property
    def until(self) -> float:
        """In Unix seconds."""
        if not self._lists:
            return -math.inf
        return min(self.key.until, *[each.until for each in self._lists])

    @property
    def key_id(self) -> str | None:
        """The `kid` of the token's key."""
        return self.key.key_id


def of_key(validity: Validity) -> KeyValidity:
    """Return the validity of a token's key alone."""
    if isinstance(validity, StatusValidity):
        return validity.key
    assert isinstance(validity, KeyValidity), "there are two kinds"  # noqa: S101 - for mypy
    return validity
