"""The verified-token cache: what a signature proved, by the digest of the token.

It holds authentication, never authorization. Two generations of a plain dict bound it:
lookups take no lock, and whole old generations fall away. Tokens are not in it, but for
those used last.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from copy import copy
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from bearerguard.principal import Principal
from bearerguard.runtime.elapsed import elapsed_by

if TYPE_CHECKING:
    from bearerguard.guard.revocation.revocations import Revocations

# The tokens in use at the moment are also known by their credentials as sent: hashing those
# costs more than all else that a warm request does. No more than an API's clients of a moment,
# so that few are kept in clear, in some 5 MB.
_MAX_IN_USE = 4096
# Clocks that are adjusted go back by less than this, and prolong nothing that matters.
_TOLERANCE = 1.0
# They are looked up by their end and then compared: hashing the whole costs twice as much. As
# long as the shortest signature, so that whoever can name the end of a token has the token.
END = slice(-43, None)


class Lease:
    """Until when what a key proved may be believed without looking (Unix seconds).

    The one mutable value that a cached token refers to: the key cache extends it at each
    refresh and ends it when the issuer removes or replaces the key. `release` is called
    after it was cut short; `key_id` is the key's `kid`, by which it may be revoked.
    """

    __slots__ = ("_release", "ended", "key_id", "until")

    def __init__(
        self,
        until: float,
        release: Callable[[], None] = lambda: None,
        *,
        key_id: str | None = None,
    ) -> None:
        self.until = until
        self.ended = False
        self.key_id = key_id
        self._release = release

    def extend(self, until: float) -> None:
        """Run until then, unless it was ended, be it by another thread at this moment."""
        before, self.until = self.until, until
        if self.ended:
            self.end()
        elif until < before:
            self._release()

    def end(self) -> None:
        """Believe it no longer, ever."""
        self.ended = True
        self.until = -math.inf
        self._release()


class Entry:
    """A verified token: its principal, when it is over, and the lease of its key.

    What is believed for a while only is so until `elapses_at`, in seconds that no change of
    the clock disturbs. `checked` is the list of revocations that was last seen not to cover it.
    """

    __slots__ = ("checked", "deadline", "elapses_at", "lease", "principal")

    def __init__(
        self, principal: Principal, deadline: float, lease: Lease, elapses_at: float = math.inf
    ) -> None:
        self.principal = principal
        self.deadline = deadline
        self.lease = lease
        self.elapses_at = elapses_at
        self.checked: object = None


class Known:
    """A token in use, by its credentials as sent: it need not be looked at before `until`.

    Unless the clock shows a time before `since`: it was set back, and `until` says nothing.
    `telling` is for whoever completes the responses, and None until then.
    """

    __slots__ = ("authorization", "principal", "since", "telling", "until")

    def __init__(
        self, authorization: bytes | str, principal: Principal, since: float, until: float
    ) -> None:
        self.authorization = authorization
        self.principal = principal
        self.since = since
        self.until = until
        self.telling: Any = None


def octets(token: str | bytes) -> bytes:
    """Return a token as it is sent."""
    # What is not ASCII is no token: the replacement is no letter of base64url either.
    return token if isinstance(token, bytes) else token.encode("ascii", "replace")


def digest(token: bytes) -> bytes:
    """Return the SHA-256 under which a token is remembered: that of its usual credentials."""
    return sha256(b"Bearer " + token).digest()


class TokenCache:
    """At most `size` verified tokens; the least recently used generation goes first.

    `clock` returns Unix seconds, `monotonic` seconds that no change of the clock disturbs. With
    `revocations`, none is recalled that was not checked against the present list.

    `in_use` has what was recalled lately, by the `END` of its credentials. Whoever finds the
    same credentials there from their `since` and before their `until` need not ask `recall`; this
    is the warm path. `release` has all of them looked up anew.
    """

    def __init__(
        self,
        size: int,
        clock: Callable[[], float],
        revocations: Revocations | None = None,
        *,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._revocations = revocations
        self._generation_size = max(1, size // 2)
        self._max_in_use = min(_MAX_IN_USE, size)
        self.clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        # The time at which a token was looked for last.
        self.seen_at = -math.inf
        # Called after the clock was set back: what leases say by it is too late.
        self.on_set_back: Callable[[], None] = lambda: None
        self._young: dict[bytes, Entry] = {}
        self._old: dict[bytes, Entry] = {}
        self.in_use: dict[bytes | str, Known] = {}
        # Called after something that tokens rest on has ended. It holds no more than it clears.
        self.release: Callable[[], None] = self.in_use.clear
        _of_this_process.add(self)
        if revocations is not None:
            revocations.bear(self)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def recall(self, authorization: bytes | str) -> Known | None:
        """Return a token verified before, by its Authorization field, or None.

        Takes no lock, does no I/O and never suspends. It checks that the token has not
        expired, that its key still counts and that nothing was revoked since it was last
        checked; None says nothing but that the guard must decide.
        """
        octets = authorization
        if isinstance(octets, str):
            # What is not ASCII is no credentials: the replacement is no letter of any token.
            octets = octets.encode("ascii", "replace")
        entry = self.get(sha256(octets).digest())
        if entry is None:
            return None
        until = self._believed_until(entry)
        now = self.clock()
        if now < self.seen_at:
            self.look_back(now)
            until = min(until, entry.lease.until)
        self.seen_at = now
        if entry.elapses_at != math.inf:
            until = min(until, now + entry.elapses_at - self._monotonic())
        if now >= until:
            return None
        if len(self.in_use) >= self._max_in_use:
            self.release()
        # A copy: tokens in use lie together in memory, and those of a large cache all over it,
        # where touching one takes as long as a third of a request.
        principal = copy(entry.principal)
        known = self.in_use[authorization[END]] = Known(authorization, principal, now, until)
        # What ended meanwhile may have released the tokens in use before this was one of them.
        if self._believed_until(entry) < until:
            self.release()
            return None
        return known

    def look_back(self, now: float) -> None:
        """See to it that a clock that was set back, from `seen_at` to `now`, prolongs nothing."""
        if now < self.seen_at - _TOLERANCE:
            self.release()
            self.on_set_back()

    def _believed_until(self, entry: Entry) -> float:
        """Return until when an entry need not be looked at, unless it is released before."""
        until = min(entry.deadline, entry.lease.until)
        revocations = self._revocations
        if revocations is None:
            return float(until)  # an int would be slower to compare
        if entry.checked is not revocations.current:
            return -math.inf
        return float(min(until, revocations.trusted_until))

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
        self._young, self._old = {}, {}
        self.release()


_of_this_process: weakref.WeakSet[TokenCache] = weakref.WeakSet()


def _after_fork() -> None:
    for tokens in list(_of_this_process):
        tokens.release()


# A thread of the parent that was about to release tokens is not in the child.
os.register_at_fork(after_in_child=_after_fork)
