"""What was revoked, as a value: a token, or all that a subject, client or session had by then.

Looking up costs the same for one revocation as for a million. Knows no store and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from bearerguard.principal import Principal
from bearerguard.protocol.jose import strict_json

# `sessionless`: a subject's tokens that do not say to which session they belong; `signing_key`:
# all that a key proves, which was withdrawn.
Kind: TypeAlias = Literal["token", "subject", "client", "session", "sessionless", "signing_key"]
Key: TypeAlias = tuple[Kind, str, str]

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
_MEMBERS = 5
# A look at each, for what is over: at most so often, and at so many in a second.
_PURGE_INTERVAL, _PURGED_PER_SECOND = 60.0, 1000
# The size of the first tier, and how many times larger each next one is.
_SMALLEST, _GROWTH = 64, 64


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation.

    Attributes:
        kind: what `value` names.
        issuer: the issuer whose tokens it concerns.
        value: a token's `jti`, a `sub`, a client's id, a `sid`, or a key's `kid`.
        before: tokens issued before this are revoked, in Unix seconds; None for any.
        expires_at: when every token that it concerns is over, in Unix seconds.
    """

    kind: Kind
    issuer: str
    value: str = field(repr=False)
    before: float | None
    expires_at: float

    @property
    def key(self) -> Key:
        """What it concerns."""
        return self.kind, self.issuer, self.value

    def covers(self, issued_at: float | None) -> bool:
        """Whether it concerns a token issued then; an unknown date counts as before."""
        return self.before is None or issued_at is None or issued_at < self.before

    def includes(self, other: Revocation) -> bool:
        """Whether `other`, with the same key, adds nothing to this one."""
        return self.expires_at >= other.expires_at and (
            self.before is None or (other.before is not None and self.before >= other.before)
        )

    def merged(self, other: Revocation) -> Revocation:
        """Return one that concerns what this or `other`, with the same key, does."""
        dates = (self.before, other.before)
        before = None if None in dates else max(date for date in dates if date is not None)
        expires_at = max(self.expires_at, other.expires_at)
        return Revocation(self.kind, self.issuer, self.value, before, expires_at)


def encode(revocations: Iterable[Revocation]) -> bytes:
    """Return revocations as octets for a store, where they are to be sealed."""
    members = [
        [each.kind, each.issuer, each.value, each.before, each.expires_at] for each in revocations
    ]
    # Without white space it is read twice as fast: `strict_json`.
    return json.dumps({"revoked": members}, separators=(",", ":")).encode()


def decode(octets: bytes) -> list[Revocation]:
    """Return what `encode` made; raises ValueError for anything else."""
    found = strict_json.loads_object(octets).get("revoked")
    if not isinstance(found, list):
        raise ValueError("these are no revocations")  # noqa: TRY004 - one refusal for all
    return [_decoded(each) for each in found]


def _decoded(members: object) -> Revocation:
    # A worker that starts decodes the whole log: `match` takes twice as long.
    if isinstance(members, list) and len(members) == _MEMBERS:
        kind, issuer, value, before, end = members
        if (
            isinstance(kind, str)
            and kind in _KINDS
            and isinstance(issuer, str)
            and isinstance(value, str)
            and (before is None or isinstance(before, float | int))
            and isinstance(end, float | int)
        ):
            return Revocation(_KINDS[kind], issuer, value, before, end)
    raise ValueError("this is no revocation")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Revocations at a moment, in tiers: the newer, the smaller.

    Where two tiers have a key, the newer counts. A change copies the first tier alone, until that
    is full and goes into the next one, which is so much larger that the cost of a copy is shared
    by many changes. What is over is left out at the first change after `purge_at`.
    """

    _tiers: tuple[dict[Key, Revocation], ...] = field(default=(), repr=False)  # none is altered
    purge_at: float = 0.0

    @property
    def entries(self) -> Mapping[Key, Revocation]:
        """The revocations by what they concern."""
        return MappingProxyType(_united(self._tiers))

    def __len__(self) -> int:
        return len(_united(self._tiers))

    def covers(self, principal: Principal, key_id: str | None = None) -> bool:
        """Whether a token that says this was revoked, or the key that proved it."""
        if not self._tiers:
            return False
        issuer = principal.issuer or ""
        session = principal.claims.get("sid")
        in_session = isinstance(session, str)
        named: tuple[tuple[Kind, str | None], ...] = (
            ("token", principal.token_id),
            ("subject", principal.subject),
            ("client", principal.client_id),
            ("signing_key", key_id),
            ("session", session) if in_session else ("sessionless", principal.subject),
        )
        for kind, value in named:
            if value is not None:
                found = self._find((kind, issuer, value))
                if found is not None and found.covers(principal.issued_at):
                    return True
        return False

    def includes(self, revocation: Revocation) -> bool:
        """Whether `revocation` would add nothing."""
        mine = self._find(revocation.key)
        return mine is not None and mine.includes(revocation)

    def extended(self, revocations: Iterable[Revocation], now: float) -> RevocationList:
        """Return a list with these too; itself if they add nothing."""
        news: dict[Key, Revocation] = {}
        for each in revocations:
            if each.expires_at > now:
                key = each.key
                known = news.get(key) or self._find(key)
                if known is None:
                    news[key] = each
                elif not known.includes(each):
                    news[key] = known.merged(each)
        if not news:
            return self
        if now >= self.purge_at:
            whole = _united((news, *self._tiers))
            live = {key: each for key, each in whole.items() if each.expires_at > now}
            seconds = max(_PURGE_INTERVAL, len(live) / _PURGED_PER_SECOND)
            return RevocationList(_settled(live, ()), now + seconds)
        first, *others = self._tiers or ({},)
        return RevocationList(_settled({**first, **news}, others), self.purge_at)

    def live(self, now: float) -> list[Revocation]:
        """Return the revocations that are not over."""
        return [each for each in self.entries.values() if each.expires_at > now]

    def _find(self, key: Key) -> Revocation | None:
        for tier in self._tiers:
            found = tier.get(key)
            if found is not None:
                return found
        return None


def _settled(
    first: dict[Key, Revocation], others: Sequence[dict[Key, Revocation]]
) -> tuple[dict[Key, Revocation], ...]:
    """Return tiers of which none but the last is too large: what is too much goes further."""
    tiers, at, most = [first, *others], 0, _SMALLEST
    while len(tiers[at]) > most:
        if at + 1 == len(tiers):
            tiers.append({})
        older = tiers[at + 1]
        tiers[at + 1] = {**older, **tiers[at]} if older else tiers[at]
        tiers[at] = {}
        at, most = at + 1, most * _GROWTH
    return tuple(tiers)


def _united(tiers: Sequence[dict[Key, Revocation]]) -> dict[Key, Revocation]:
    """Return what the tiers hold together."""
    whole: dict[Key, Revocation] = {}
    for tier in reversed(tiers):
        whole |= tier
    return whole
