"""Which DPoP proofs were used before (RFC 9449 §11.1): in this process, or in a shared store.

A use is stored as a digest, until the proof is too old to be accepted. It is never dropped earlier:
a store that is full refuses more, so no sender can make room for a replay.
"""

from __future__ import annotations

import math
from collections.abc import Hashable

from bearerguard.errors import ConfigurationError, ReplaysUnavailable
from bearerguard.protocol.dpop import CheckedProof
from bearerguard.runtime.effects import Insert
from bearerguard.runtime.flow import Flow, ask
from bearerguard.runtime.messages import StoreFailed

# The proofs that become too old within so many seconds are dropped together.
_SLOT = 60.0
# As hard to find a second proof for as a key of 128 bits.
_DIGEST = slice(16)
# One caller may have this part of all entries, with any number of keys: an issuer binds tokens to
# as many as a client makes.
_SHARE = 4
# Seconds by which the clocks of two machines may differ.
_SKEW = 60.0


class _Slot:
    """The uses that end in the same minute, and how many of them each caller has."""

    __slots__ = ("by_caller", "uses")

    def __init__(self) -> None:
        self.uses: dict[bytes, bytes] = {}
        self.by_caller: dict[Hashable, int] = {}


class MemoryReplays:
    """The used proofs of one process: other processes accept the same proof once more each.

    Args:
        size: how many uses are stored at most. Where it is reached, each request with a proof gets
            503; where one caller has a quarter of them, the requests of that caller do.
    """

    def __init__(self, *, size: int = 1_000_000) -> None:
        if not isinstance(size, int) or size < _SHARE:
            raise ConfigurationError(f"MemoryReplays(size=): pass a number, at least {_SHARE}")
        self._size = size
        self._slots: dict[int, _Slot] = {}
        # Uses that ended before were dropped. If the clock was set back, their proofs are young
        # again, and stay refused.
        self._dropped_until = -math.inf

    @property
    def count(self) -> int:
        """How many uses are stored; those of the last minute before their end may be over."""
        return sum(len(each.uses) for each in list(self._slots.values()))

    def use(self, proof: CheckedProof, now: float, caller: Hashable) -> bool:
        """Note the use of a proof; whether it is the first one. `now` is in Unix seconds.

        `caller` is whose share of the entries it counts for, whichever key the proof is by.
        Raises `ReplaysUnavailable` if no more uses can be stored.
        """
        ends = proof.expires_at
        if ends < self._dropped_until:
            return False
        number = int(ends // _SLOT)
        slot = self._slots.get(number)
        if slot is None:
            self._drop(now)
            slot = self._slots.setdefault(number, _Slot())
        key = proof.replay_key[_DIGEST]
        total = of_caller = 0
        for each in list(self._slots.values()):
            if key in each.uses:
                return False
            total += len(each.uses)
            of_caller += each.by_caller.get(caller, 0)
        if total >= self._size:
            raise _unavailable("it is full")
        if of_caller >= self._size // _SHARE:
            raise _unavailable("the caller has used a quarter of it")
        # Threads at once may count one too many or too few. The total does not depend on it.
        slot.by_caller[caller] = slot.by_caller.get(caller, 0) + 1
        # Of two threads, one finds its own octets there: no lock is needed.
        return slot.uses.setdefault(key, key) is key

    def _drop(self, now: float) -> None:
        for number in list(self._slots):
            ends = (number + 1) * _SLOT
            if ends <= now:
                self._slots.pop(number, None)
                self._dropped_until = max(self._dropped_until, ends)

    def __repr__(self) -> str:
        return f"MemoryReplays(size={self._size})"


def _unavailable(cause: str) -> ReplaysUnavailable:
    return ReplaysUnavailable(
        int(_SLOT),
        f"{cause}: use a RedisStore, a larger MemoryReplays(size=) or a shorter dpop_max_age=",
    )


def use_shared(proof: CheckedProof, prefix: str, now: float) -> Flow[bool]:
    """Note the use of a proof in a shared store; whether it is the first one.

    Raises `ReplaysUnavailable` if the store gives no usable response.
    """
    ttl = proof.expires_at - now + _SKEW
    try:
        return (yield from ask(Insert(f"{prefix}:dpop:{proof.replay_key.hex()}", ttl)))
    except StoreFailed as error:
        raise ReplaysUnavailable(1, str(error)) from None
