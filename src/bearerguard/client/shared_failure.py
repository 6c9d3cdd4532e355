"""A failure to renew, shared among the processes that share a storage, for a short while.

Who renews under the storage's lock and gets no answer leaves word of it beside the token. Those
who waited for the lock, and those who come soon after, raise the same failure: they do not wait
for the same slow server one after another, nor send it a refresh token whose answer was lost,
each in turn (it may have been rotated, and a second use would end the session, RFC 9700
§4.14.2). Only `TokenUnavailable` is shared: a refusal may concern one process alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from bearerguard.client.storages.storage import Storage
from bearerguard.errors import TokenUnavailable
from bearerguard.protocol.jose import strict_json

_VERSION = 1
# The first failure holds for a second, each that follows it for twice as long; a server that
# asks for more gets it (`Retry-After`).
_FIRST, _LONGEST, _LONGEST_ASKED = 1.0, 8.0, 60.0
# A failure whose pause ended longer ago than this has nothing to do with the next.
_FORGOTTEN = 60.0
_PREFIX = "no token at the moment: "


class SharedFailure:
    """The last failure to renew what is kept under `key`."""

    def __init__(self, storage: Storage, key: str, clock: Callable[[], float]) -> None:
        self._storage = storage
        self._key = f"{key} failure"
        self._clock = clock

    def current(self) -> TokenUnavailable | None:
        """Return the failure while it holds."""
        found = _read(self._storage.load(self._key))
        if found is None:
            return None
        cause, begun, seconds = found
        left = begun + seconds - self._clock()
        # More left than there was: the clock was set back, and nobody knows when it began.
        return TokenUnavailable(cause, max(1.0, left)) if 0 < left <= seconds else None

    def begin(self, failure: TokenUnavailable) -> None:
        """Leave word of a failure; under the lock of what is kept."""
        now, kept = self._clock(), self._storage.load(self._key)
        last, seconds = _read(kept), _FIRST
        if last is not None and 0 <= now - last[1] <= last[2] + _FORGOTTEN:
            seconds = min(max(_FIRST, last[2] * 2), _LONGEST)
        seconds = max(seconds, min(failure.retry_after, _LONGEST_ASKED))
        members = {
            "version": _VERSION,
            "cause": str(failure).removeprefix(_PREFIX),
            "begun": now,
            "seconds": seconds,
        }
        self._storage.swap(self._key, kept, json.dumps(members).encode())

    def end(self) -> None:
        """Remove what was left, if anything: something succeeded."""
        kept = self._storage.load(self._key)
        if kept is not None:
            self._storage.swap(self._key, kept, None)


def _read(kept: bytes | None) -> tuple[str, float, float] | None:
    """Return the cause, when it began and for how long it holds; None for anything else."""
    if kept is None:
        return None
    try:
        members = strict_json.loads_object(kept)
        if members["version"] != _VERSION:
            return None
        cause, begun, seconds = members["cause"], members["begun"], members["seconds"]
        return str(cause), float(begun), min(float(seconds), _LONGEST_ASKED)
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
