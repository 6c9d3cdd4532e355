"""Revocations as values: one revocation, and an immutable list of them.

A lookup costs the same for one revocation as for a million. Knows no store and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias, get_args

from bearerguard.principal import Principal
from bearerguard.protocol.jose import strict_json
from bearerguard.protocol.revocation import Kind

Key: TypeAlias = tuple[Kind, str, str]

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
_MEMBERS = 5
# Expired revocations are removed at most once a minute; from more than 60,000, at most once in as
# many seconds as there are thousands.
_PURGE_INTERVAL, _PURGED_PER_SECOND = 60.0, 1000
# The size of the first tier, and how many times larger each next one is.
_SMALLEST, _GROWTH = 64, 64


@dataclass(frozen=True, slots=True)
class Revocation:
    """One revocation.

    Attributes:
        kind: what `value` names.
        issuer: the issuer whose tokens are revoked.
        value: a `jti`, a `sub`, a `client_id`, a `sid`, or a key's `kid`.
        before: tokens issued before this time are revoked, in Unix seconds; None for all.
        expires_at: when all the revoked tokens have expired, in Unix seconds.
    """

    kind: Kind
    issuer: str
    value: str = field(repr=False)
    before: float | None
    expires_at: float

    @property
    def key(self) -> Key:
        """The kind, issuer and value: one revocation of each key is enough."""
        return self.kind, self.issuer, self.value

    def covers(self, issued_at: float | None) -> bool:
        """Whether a token issued at this time is revoked; one without `iat` always is."""
        return self.before is None or issued_at is None or issued_at < self.before

    def includes(self, other: Revocation) -> bool:
        """Whether this covers everything that `other`, with the same key, does."""
        return self.expires_at >= other.expires_at and (
            self.before is None or (other.before is not None and self.before >= other.before)
        )

    def merged(self, other: Revocation) -> Revocation:
        """Return one that covers both this and `other`, which has the same key."""
        dates = (self.before, other.before)
        before = None if None in dates else max(date for date in dates if date is not None)
        expires_at = max(self.expires_at, other.expires_at)
        return Revocation(self.kind, self.issuer, self.value, before, expires_at)


def encode(revocations: Iterable[Revocation]) -> bytes:
    """Return revocations as octets for a log that is not sealed."""
    members = [
        [each.kind, each.issuer, each.value, each.before, each.expires_at] for each in revocations
    ]
    # `strict_json` reads JSON without white space twice as fast.
    return json.dumps({"revoked": members}, separators=(",", ":")).encode()


def decode(octets: bytes) -> list[Revocation]:
    """Return what `encode` made; raises ValueError for anything else."""
    found = strict_json.loads_object(octets).get("revoked")
    if not isinstance(found, list):
        raise ValueError("not a list of revocations")  # noqa: TRY004 - one refusal for all
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
    raise ValueError("not a revocation")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """An immutable list of revocations, in tiers: the newer a tier, the smaller it is.

    Where two tiers have the same key, the newer one counts. A change copies the first tier
    alone. A full tier is merged into the next one, which is 64 times larger, so that many
    changes share the cost of a copy. The first change after `purge_at` removes what has expired.
    """

    _tiers: tuple[dict[Key, Revocation], ...] = field(default=(), repr=False)  # never altered
    purge_at: float = 0.0

    @property
    def entries(self) -> Mapping[Key, Revocation]:
        """The revocations by their keys."""
        return MappingProxyType(_united(self._tiers))

    def __len__(self) -> int:
        return len(_united(self._tiers))

    def covers(self, principal: Principal, key_id: str | None = None) -> bool:
        """Whether the token of `principal` is revoked, or the key `key_id` that signed it."""
        if not self._tiers:
            return False
        for key in keys_of(principal, key_id):
            found = self._find(key)
            if found is not None and found.covers(principal.issued_at):
                return True
        return False

    def includes(self, revocation: Revocation) -> bool:
        """Whether the list already covers what `revocation` does."""
        mine = self._find(revocation.key)
        return mine is not None and mine.includes(revocation)

    def extended(self, revocations: Iterable[Revocation], now: float) -> RevocationList:
        """Return a list with these added; this list itself if they add nothing."""
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
        """Return the revocations that have not expired."""
        return [each for each in self.entries.values() if each.expires_at > now]

    def _find(self, key: Key) -> Revocation | None:
        for tier in self._tiers:
            found = tier.get(key)
            if found is not None:
                return found
        return None


def keys_of(principal: Principal, key_id: str | None = None) -> list[Key]:
    """Return the keys of all revocations that may cover the token of `principal`.

    `key_id` is the `kid` of the key that signed it.
    """
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
    return [(kind, issuer, value) for kind, value in named if value is not None]


def _settled(
    first: dict[Key, Revocation], others: Sequence[dict[Key, Revocation]]
) -> tuple[dict[Key, Revocation], ...]:
    """Return tiers within their sizes: a tier that is too large is merged into the next."""
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
    """Return the revocations of all tiers."""
    whole: dict[Key, Revocation] = {}
    for tier in reversed(tiers):
        whole |= tier
    return whole
