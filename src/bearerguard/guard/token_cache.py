"""The verified-token cache: what a signature proved, by the digest of the token.

It holds authentication, never authorization. Two generations of a plain dict bound it:
lookups take no lock, and whole old generations fall away. Tokens are not in it, but for
those used last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING

from bearerguard.principal import Principal

if TYPE_CHECKING:
    from bearerguard.guard.revocation import Revocations

# The tokens in use at the moment are also known by their credentials as sent: hashing those
# costs more than all else that a warm request does. No more than an API's clients of a moment,
# so that few are kept in clear, in some 4 MB.
_MAX_RECENT = 4096
# They are looked up by their end and then compared: hashing the whole costs twice as much. As
# long as the shortest signature, so that whoever can name the end of a token has the token.
_END = slice(-43, None)


class Lease:
    """Until when what a key proved may be believed without looking (Unix seconds).

    The one mutable value that a cached token refers to: the key cache extends it at
    each refresh and ends it when the issuer removes or replaces the key.
    """

    __slots__ = ("ended", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.ended = False

    def extend(self, until: float) -> None:
        """Run until then, unless it was ended, be it by another thread at this moment."""
        self.until = until
        if self.ended:
            self.until = -math.inf

    def end(self) -> None:
        """Believe it no longer, ever."""
        self.ended = True
        self.until = -math.inf


class Entry:
    """A verified token: its principal, when it is over, and the lease of its key.

    `checked` is the list of revocations that was last seen not to cover it.
    """

    __slots__ = ("checked", "deadline", "lease", "principal")

    def __init__(self, principal: Principal, deadline: float, lease: Lease) -> None:
        self.principal = principal
        self.deadline = deadline
        self.lease = lease
        self.checked: object = None


def octets(token: str | bytes) -> bytes:
    """Return a token as it is sent."""
    # What is not ASCII is no token: the replacement is no letter of base64url either.
    return token if isinstance(token, bytes) else token.encode("ascii", "replace")


def digest(token: bytes) -> bytes:
    """Return the SHA-256 under which a token is remembered: that of its usual credentials."""
    return sha256(b"Bearer " + token).digest()


class TokenCache:
    """At most `size` verified tokens; the least recently used generation goes first.

    `clock` returns Unix seconds. With `revocations`, none is recalled that was not checked
    against the present list.
    """

    def __init__(
        self, size: int, clock: Callable[[], float], revocations: Revocations | None = None
    ) -> None:
        self._revocations = revocations
        self._generation_size = max(1, size // 2)
        self._max_recent = min(_MAX_RECENT, size)
        self._clock = clock
        self._young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self._recent: dict[bytes | str, tuple[bytes | str, Entry]] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def recall(self, authorization: bytes | str) -> Principal | None:
        """Return the bearer of a token verified before, by its Authorization field, or None.

        The warm path: takes no lock, does no I/O and never suspends. It checks that the
        token has not expired, that its key still counts and that nothing was revoked since
        it was last checked; None says nothing but that the guard must decide.
        """
        known = self._recent.get(authorization[_END])
        if known is not None and known[0] == authorization:
            entry: Entry | None = known[1]
        else:
            entry = self._look_up(authorization)
        if entry is not None:
            now = self._clock()
            if now < entry.deadline and now < entry.lease.until:
                revocations = self._revocations
                if revocations is None or (
                    entry.checked is revocations.current and now < revocations.trusted_until
                ):
                    return entry.principal
            else:
                # What takes its place is found by the digest.
                self._recent.pop(authorization[_END], None)
        return None

    def _look_up(self, authorization: bytes | str) -> Entry | None:
        octets = authorization
        if isinstance(octets, str):
            # What is not ASCII is no credentials: the replacement is no letter of any token.
            octets = octets.encode("ascii", "replace")
        entry = self.get(sha256(octets).digest())
        if entry is not None:
            if len(self._recent) >= self._max_recent:
                self._recent = {}
            self._recent[authorization[_END]] = authorization, entry
        return entry

    def get(self, key: bytes) -> Entry | None:
        """Return the entry, keeping it young, or None."""
        entry = self._young.get(key)
        if entry is None:
            entry = self._old.get(key)
            if entry is not None:
                self.put(key, entry)
        return entry

    def put(self, key: bytes, entry: Entry) -> None:
        """Remember an entry. A race between threads costs at most some entries."""
        young = self._young
        young[key] = entry
        if len(young) >= self._generation_size:
            self._old = young
            self._young = {}

    def clear(self) -> None:
        """Forget everything."""
        self._young, self._old, self._recent = {}, {}, {}
