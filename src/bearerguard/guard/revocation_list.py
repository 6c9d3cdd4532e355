"""What was revoked, as a value: a token, or all that a subject, client or session had by then.

Looking up costs the same for one revocation as for a million. Knows no store and no clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal, TypeAlias, get_args

from bearerguard.principal import Principal
from bearerguard.protocol import strict_json

# `sessionless`: a subject's tokens that do not say to which session they belong; `signing_key`:
# all that a key proves, which was withdrawn.
Kind: TypeAlias = Literal["token", "subject", "client", "session", "sessionless", "signing_key"]
Key: TypeAlias = tuple[Kind, str, str]

_KINDS: Mapping[str, Kind] = {kind: kind for kind in get_args(Kind)}
_PURGE_INTERVAL = 60.0


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

    def encode(self) -> bytes:
        """Return it as octets for a store, where they are to be sealed."""
        members = [self.kind, self.issuer, self.value, self.before, self.expires_at]
        return json.dumps({"revoked": members}).encode()

    @classmethod
    def decode(cls, octets: bytes) -> Revocation:
        """Return what `encode` made; raises ValueError for anything else."""
        match strict_json.loads_object(octets).get("revoked"):
            case [str(kind), str(issuer), str(value), float() | int() | None as before, last]:
                if kind in _KINDS and isinstance(last, float | int):
                    return cls(_KINDS[kind], issuer, value, before, last)
            case _:
                pass
        raise ValueError("this is no revocation")


@dataclass(frozen=True, slots=True)
class RevocationList:
    """Revocations at a moment, no two of which have the same key.

    What is over is left out at the first change after `purge_at`.
    """

    _entries: dict[Key, Revocation] = field(default_factory=dict, repr=False)  # never altered
    purge_at: float = 0.0

    @property
    def entries(self) -> Mapping[Key, Revocation]:
        """The revocations by what they concern."""
        return MappingProxyType(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def covers(self, principal: Principal, key_id: str | None = None) -> bool:
        """Whether a token that says this was revoked, or the key that proved it."""
        entries = self._entries
        if not entries:
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
                found = entries.get((kind, issuer, value))
                if found is not None and found.covers(principal.issued_at):
                    return True
        return False

    def includes(self, revocation: Revocation) -> bool:
        """Whether `revocation` would add nothing."""
        mine = self._entries.get(revocation.key)
        return mine is not None and mine.includes(revocation)

    def extended(self, revocations: Iterable[Revocation], now: float) -> RevocationList:
        """Return a list with these too; itself if they add nothing."""
        news: dict[Key, Revocation] = {}
        for each in revocations:
            if each.expires_at > now and not self.includes(each):
                known = news.get(each.key) or self._entries.get(each.key)
                news[each.key] = each if known is None else known.merged(each)
        if not news:
            return self
        if now < self.purge_at:  # a copy is ten times faster than a look at each
            return RevocationList({**self._entries, **news}, self.purge_at)
        live = {key: each for key, each in self._entries.items() if each.expires_at > now}
        return RevocationList(live | news, now + _PURGE_INTERVAL)

    def live(self, now: float) -> list[Revocation]:
        """Return the revocations that are not over."""
        return [each for each in self._entries.values() if each.expires_at > now]
