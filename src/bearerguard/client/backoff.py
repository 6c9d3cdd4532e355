"""The backoff after a failed renewal: in this process, and in all that share a storage.

A process that renews under the storage's lock and gets no response stores the failure beside the
token. Processes that waited for the lock, or come soon after, raise the same failure. So they do
not wait for the same slow server one after another. Nor does each send it a refresh token whose
response was lost: the token may have been rotated, and a second use would revoke the session
(RFC 9700 §4.14.2). Only `TokenUnavailable` is shared: a refusal may concern one process alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable

from bearerguard.client.storages.storage import Storage
from bearerguard.errors import BearerGuardError, TokenUnavailable
from bearerguard.protocol.jose import strict_json

# The seconds of a backoff in this process: doubled after each failure.
_FIRST, _LONGEST = 1.0, 60.0
# Those of a shared failure; longer if the server sends a longer `Retry-After`.
_FIRST_SHARED, _LONGEST_SHARED, _LONGEST_ASKED = 1.0, 8.0, 60.0
# A failure that expired longer ago than this does not lengthen the next backoff.
_FORGOTTEN = 60.0
_VERSION = 1
_PREFIX = "no token at the moment: "


class Backoff:
    """The last failure in this process, until the next attempt is allowed."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._seconds = 0.0
        self._until = 0.0
        self._failure: BearerGuardError | None = None

    def failure(self) -> BearerGuardError | None:
        """Return the failure while the backoff lasts."""
        failure = self._failure
        return failure if failure is not None and self._monotonic() < self._until else None

    def begin(self, failure: BearerGuardError) -> None:
        """Begin a backoff: twice as long as the last one, or as long as the server requested."""
        self._seconds = min(max(_FIRST, self._seconds * 2), _LONGEST)
        asked = float(getattr(failure, "retry_after", 0.0))
        self._until = self._monotonic() + max(self._seconds, min(asked, _LONGEST))
        self._failure = failure

    def end(self) -> None:
        """Forget all failures after a success."""
        self._seconds, self._failure = 0.0, None


class SharedFailure:
    """The last failure to renew the token that is stored under `key`."""

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
        # More left than at the start: the clock was set back, so the start is unknown.
        return TokenUnavailable(cause, max(1.0, left)) if 0 < left <= seconds else None

    def begin(self, failure: TokenUnavailable) -> None:
        """Store a failure, under the lock of the token."""
        now, kept = self._clock(), self._storage.load(self._key)
        last, seconds = _read(kept), _FIRST_SHARED
        if last is not None and 0 <= now - last[1] <= last[2] + _FORGOTTEN:
            seconds = min(max(_FIRST_SHARED, last[2] * 2), _LONGEST_SHARED)
        seconds = max(seconds, min(failure.retry_after, _LONGEST_ASKED))
        members = {
            "version": _VERSION,
            "cause": str(failure).removeprefix(_PREFIX),
            "begun": now,
            "seconds": seconds,
        }
        self._storage.swap(self._key, kept, json.dumps(members).encode())

    def end(self) -> None:
        """Remove the stored failure, if any: a renewal succeeded."""
        kept = self._storage.load(self._key)
        if kept is not None:
            self._storage.swap(self._key, kept, None)


def _read(kept: bytes | None) -> tuple[str, float, float] | None:
    """Return the cause, the start and the duration in seconds; None if it is unreadable."""
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
