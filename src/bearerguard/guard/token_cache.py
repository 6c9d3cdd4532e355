"""The cache of verified tokens, by their digests.

It caches authentication, never authorization. Two generations of a plain dict bound it: a lookup
takes no lock, and a whole old generation is dropped at once. Tokens in clear are kept only for
the credentials used most recently.
"""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Callable
from copy import copy
from hashlib import sha256
from typing import Any

from bearerguard.guard import revocation
from bearerguard.guard.keys.key_validity import Validity
from bearerguard.principal import Principal
from bearerguard.protocol.jose.jwt import MAX_TOKEN_BYTES
from bearerguard.runtime.elapsed import elapsed_by

# Recent credentials are also found by their text: hashing them costs more than the rest of a warm
# request. The limit is about the number of an API's concurrent clients, so that few tokens are kept
# in clear; they take some 5 MB.
_MAX_RECENT = 4096
# Adjusting a clock sets it back by less than this many seconds: too little to matter.
_TOLERANCE = 1.0
# Recent credentials are found by their suffix and then compared: hashing the whole text takes twice
# as long. The suffix is as long as the shortest signature, so it is as hard to guess.
SUFFIX = slice(-43, None)
# Bytes of the scheme and the spaces after it; usually 7.
SCHEME_BYTES = 64
# A copy is cheaper than a new hash, and nothing is put before the token.
_USUAL = b"Bearer "
_BEARER = sha256(_USUAL)


# What the digest of a bound token ends with: no Authorization field has such a digest, so that
# `cached` never finds one.
_BOUND = b"bound"


class BoundTo:
    """The keys of its sender to which a token is bound (RFC 7800), and what depends on the token.

    Attributes:
        methods: the confirmation methods and their values, as `cnf` has them.
        jkt: the thumbprint of the key that signs proofs, None where it is not bound to one.
        token_digest: the `ath` of proofs for it (RFC 9449 §4.2), None until it is needed.
        token_headers: what an adapter keeps here; see `RecentCredentials`.
    """

    __slots__ = ("jkt", "methods", "token_digest", "token_headers")

    def __init__(self, methods: dict[str, str]) -> None:
        self.methods: dict[str, str] = methods
        self.jkt: str | None = methods.get("jkt")
        self.token_digest: str | None = None
        self.token_headers: Any = None


class VerifiedToken:
    """A verified token.

    Attributes:
        principal: who bears it.
        deadline: until when the cache uses it, in Unix seconds: its expiry with the leeway, or
            the end of the time for which an introspection response is cached.
        validity: until when the key that verified it, and the status list that has its status,
            are valid.
        elapses_at: the end of that caching time by `monotonic`, which clock changes do not affect;
            infinite for a JWT.
        checked: the list of revocations against which it was last checked.
        bound: the keys to which it is bound, None for a bearer token. Whether a request proves
            their possession is never cached.
    """

    __slots__ = ("bound", "checked", "deadline", "elapses_at", "principal", "validity")

    def __init__(
        self,
        principal: Principal,
        deadline: float,
        validity: Validity,
        elapses_at: float = math.inf,
        bound: BoundTo | None = None,
    ) -> None:
        self.bound: BoundTo | None = bound
        self.principal: Principal = principal
        self.deadline: float = deadline
        self.validity: Validity = validity
        self.elapses_at: float = elapses_at
        self.checked: object = None


class RecentCredentials:
    """Credentials as they were sent, which need no further check from `since` to `until`.

    Attributes:
        authorization: the value of the Authorization field.
        principal: who sent them.
        since: the time at which they were looked up, in Unix seconds. At an earlier time the
            clock has been set back, and `until` does not count.
        until: when they must be looked up again, in Unix seconds.
        token: their token.
        token_headers: what an adapter keeps here, the response headers about the token; None at
            first.
    """

    __slots__ = ("authorization", "principal", "since", "token", "token_headers", "until")

    def __init__(
        self,
        authorization: bytes | str,
        principal: Principal,
        since: float,
        until: float,
        token: VerifiedToken,
    ) -> None:
        self.token: VerifiedToken = token
        self.authorization: bytes | str = authorization
        self.principal: Principal = principal
        self.since: float = since
        self.until: float = until
        self.token_headers: Any = None


def octets(token: str | bytes) -> bytes:
    """Return a token as bytes."""
    # Non-ASCII characters become "?", which is not in the alphabet of base64url either.
    return token if isinstance(token, bytes) else token.encode("ascii", "replace")


def digest(token: bytes) -> bytes:
    """Return the SHA-256 under which a token is cached: that of its usual credentials."""
    hashed = _BEARER.copy()
    hashed.update(token)
    return hashed.digest()


class TokenCache:
    """At most `size` verified tokens; the least recently used generation is dropped first.

    The warm path of an adapter: it finds credentials in `recent` by their `SUFFIX`, compares
    them, and uses their principal from `since` to `until`. For all others it calls `cached`.

    Args:
        size: how many tokens.
        clock: returns Unix seconds.
        revocations: those of the guard. A token is used only if it was checked against the
            present list.
        monotonic: returns seconds that clock changes do not affect.
        longest: the longest token, in bytes; longer credentials are not looked up.
    """

    def __init__(
        self,
        size: int,
        clock: Callable[[], float],
        revocations: revocation.GuardRevocations | None = None,
        *,
        monotonic: Callable[[], float] | None = None,
        longest: int = MAX_TOKEN_BYTES,
    ) -> None:
        self._longest = longest + SCHEME_BYTES
        self._revocations = revocations
        self._generation_size = max(1, size // 2)
        self._max_recent = min(_MAX_RECENT, size)
        self.clock = clock
        self._monotonic = elapsed_by(clock) if monotonic is None else monotonic
        self.last_lookup_at: float = -math.inf
        """The time of the last lookup, in Unix seconds."""
        self.on_clock_set_back: Callable[[], None] = lambda: None
        """Called after the clock was set back: validities are too late by the difference."""
        self._young: dict[bytes, VerifiedToken] = {}
        self._old: dict[bytes, VerifiedToken] = {}
        self.recent: dict[bytes | str, RecentCredentials] = {}
        # A method of the dict alone: whoever holds it does not keep the cache alive.
        self.forget_recent: Callable[[], None] = self.recent.clear
        """Called when something that tokens depend on has changed: all are looked up again."""
        _of_this_process.add(self)
        if revocations is not None:
            revocations.add_dependent(self)

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def find(self, authorization: bytes | str) -> RecentCredentials | None:
        """Return credentials as an adapter finds them: recent ones, or those of a cached token."""
        known = self.recent.get(authorization[SUFFIX])
        if (
            known is None
            or known.authorization != authorization
            or not known.since <= self.clock() < known.until
        ):
            return self.cached(authorization)
        return known

    def cached(self, authorization: bytes | str) -> RecentCredentials | None:
        """Return the credentials of a verified token by an Authorization field, or None.

        Takes no lock, does no I/O and never suspends. It checks that the token has not
        expired, that its key is valid and that nothing was revoked since it was last
        checked. None only means that the guard must decide.
        """
        octets = authorization
        if len(octets) > self._longest:  # hashing it would take long, and it is not cached
            return None
        if isinstance(octets, str):
            # Non-ASCII characters become "?", which no token has.
            octets = octets.encode("ascii", "replace")
        if not octets.startswith(_USUAL):  # as `digest` has it: others are not cached
            return None
        token = self.get(sha256(octets).digest())
        if token is None:
            return None
        until = self._usable_until(token)
        now = self.clock()
        if now < self.last_lookup_at:
            self.check_clock(now)
            until = min(until, token.validity.until)
        self.last_lookup_at = now
        if token.elapses_at != math.inf:
            until = min(until, now + token.elapses_at - self._monotonic())
        if now >= until:
            return None
        if len(self.recent) >= self._max_recent:
            self.forget_recent()
        # A copy, for locality: reading a principal scattered in a large cache takes as long as a
        # third of a warm request.
        principal = copy(token.principal)
        found = RecentCredentials(authorization, principal, now, until, token)
        self.recent[authorization[SUFFIX]] = found
        # A concurrent change may have cleared the recent credentials before these were added.
        if self._usable_until(token) < until:
            self.forget_recent()
            return None
        return found

    def check_clock(self, now: float) -> None:
        """Handle a clock that was set back, from `last_lookup_at` to `now`: it prolongs nothing."""
        if now < self.last_lookup_at - _TOLERANCE:
            self.forget_recent()
            self.on_clock_set_back()

    def _usable_until(self, token: VerifiedToken) -> float:
        """Return until when a token needs no further check, unless `forget_recent` is called."""
        until = min(token.deadline, token.validity.until)
        revocations = self._revocations
        if revocations is None:
            return float(until)  # an int would be slower to compare
        if token.checked is not revocations.current:
            return -math.inf
        return float(min(until, revocations.trusted_until))

    def get(self, key: bytes) -> VerifiedToken | None:
        """Return the bearer token with this digest, moved to the young generation, or None."""
        token = self._young.get(key)
        if token is None:
            token = self._old.get(key)
            if token is not None:
                self._put(key, token)
        return token

    def get_bound(self, key: bytes) -> VerifiedToken | None:
        """Return the bound token with this digest, as `get` does."""
        return self.get(key + _BOUND)

    def get_any(self, key: bytes) -> VerifiedToken | None:
        """Return the token with this digest, bound or not, as `get` does."""
        return self.get(key) or self.get_bound(key)

    def put(self, key: bytes, token: VerifiedToken) -> None:
        """Cache a token under its digest. A race between threads costs at most some tokens."""
        self._put(key if token.bound is None else key + _BOUND, token)

    def _put(self, key: bytes, token: VerifiedToken) -> None:
        young = self._young
        young[key] = token
        if len(young) >= self._generation_size:
            self._old = young
            self._young = {}

    def clear(self) -> None:
        """Forget all tokens."""
        self._young, self._old = {}, {}
        self.forget_recent()


_of_this_process: weakref.WeakSet[TokenCache] = weakref.WeakSet()


def _after_fork() -> None:
    for tokens in list(_of_this_process):
        tokens.forget_recent()


# A thread of the parent that was about to clear recent credentials is not in the child.
os.register_at_fork(after_in_child=_after_fork)
