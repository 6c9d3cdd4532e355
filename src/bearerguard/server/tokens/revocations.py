"""Revoking: tokens, grants, users, clients. Writes it down, then tells who listens.

A listener in this process can end the JWTs at once that a guard has already verified. What is
written down is a log too, in the same transaction: other processes follow it, and a guard that
starts reads what others revoked before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection

from bearerguard.protocol.revocation import KIND_OF_CLAIM, Claim
from bearerguard.server.audit import Audit
from bearerguard.server.settings import DAY, Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store import revocations as log
from bearerguard.server.store.database import Database

T = TypeVar("T")
Kind: TypeAlias = Claim

# What never comes again: whatever the date of a token that names it, it is meant.
_FOR_GOOD = frozenset({"jti", "sid", "kid"})
# A guard accepts a token for its leeway after its expiry, 300 s at most, and one that says it
# was issued as much later than it was.
_SLACK = 600.0


@dataclass(frozen=True, slots=True)
class Revoked:
    """What does not count any more.

    Attributes:
        kind: the claim of access tokens that `value` is: `jti` is one token, `sid` all of
            a grant, `sub` all of a user, `client_id` all of a client. `kid` is a signing key
            that was withdrawn: all that name it in their header.
        value: the claim's, or the header's, value.
        at: Unix seconds: for `sub` and `client_id`, tokens issued later are good again.
    """

    kind: Kind
    value: str
    at: float


class Revocations:
    """Revokes for one server."""

    def __init__(
        self,
        *,
        database: Database,
        settings: Settings,
        audit: Audit,
        clock: Callable[[], float],
    ) -> None:
        self._database = database
        self._settings = settings
        self._audit = audit
        self._clock = clock
        self._listeners: tuple[Callable[[Revoked], object], ...] = ()
        self._batch_listeners: tuple[Callable[[Sequence[Revoked]], object], ...] = ()

    def listen(self, listener: Callable[[Revoked], object]) -> None:
        """Call `listener` after each revocation that this process makes."""
        self._listeners = (*self._listeners, listener)

    def listen_to_batches(self, listener: Callable[[Sequence[Revoked]], object]) -> None:
        """Call `listener` after each change with all that this revoked: a user has many grants."""
        self._batch_listeners = (*self._batch_listeners, listener)

    def note(
        self,
        connection: Connection,
        named: Sequence[tuple[Kind, str]],
        now: float,
        *,
        until: float = 0.0,
    ) -> None:
        """Write into the log what is revoked in this transaction, for tokens that last `until`.

        `now` is a time at which the transaction had the write lock: what was issued while it
        waited for that is meant too. A token and a grant are over for good, whatever the date.
        A single token's entry stays until that is over, or a client that revokes its own would
        fill every worker's list. Any other stays a day at least: tokens may be out that lived
        longer than those of today.
        """
        longest = max(
            DAY,
            self._settings.longest_access_lifetime,
            key_rows.longest_access_lifetime(connection),
        )
        # Dates in tokens are whole seconds: what was issued in this one is meant too.
        second = math.floor(now) + 1.0
        log.add(
            connection,
            [
                {
                    "kind": KIND_OF_CLAIM[kind],
                    "issuer": None,
                    "value": value,
                    "before": None if kind in _FOR_GOOD else second,
                    "expires_at": _SLACK
                    + (until if kind == "jti" and until else max(second + longest, until)),
                }
                for kind, value in named
            ],
        )

    def announce(self, *named: tuple[Kind, str]) -> None:
        """Tell the listeners of what is written down already."""
        now = self._clock()
        batch = [Revoked(kind, value, now) for kind, value in named]
        if not batch:
            return
        kinds = ", ".join(dict.fromkeys(each.kind for each in batch))
        for listener in self._batch_listeners:
            self._tell(listener, batch, kinds)
        for listener_to_each in self._listeners:
            for each in batch:
                self._tell(listener_to_each, each, each.kind)

    def _tell(self, listener: Callable[[T], object], revoked: T, kinds: str) -> None:
        try:
            listener(revoked)
        except Exception as error:
            # It is revoked here all the same; who listens for others has trouble.
            self._audit.emit("revocation_not_told", kind=kinds, cause=type(error).__name__)

    def grant(self, grant_id: str, *, reason: str) -> bool:
        """Revoke a grant with all its tokens; False when it was before, or is none."""
        with self._database.read() as connection:
            found = rows.find_grant(connection, grant_id)
        if found is None or found.revoked_at is not None:
            return False  # a thief that goes on trying does not hold up who writes
        with self._database.write() as connection:
            now = self._clock()
            changed = rows.revoke_grant(connection, grant_id, now)
            if changed:
                until = rows.end_of_access_tokens(connection, grant_id)
                self.note(connection, [("sid", grant_id)], now, until=until)
        if changed:
            self._audit.emit("grant_revoked", grant_id=grant_id, reason=reason)
            self.announce(("sid", grant_id))
        return changed

    def user(self, user_id: str, client_id: str | None = None, *, reason: str = "asked") -> int:
        """Revoke all that a user allowed, one client or all; return how many grants."""
        with self._database.write() as connection:
            now = self._clock()
            found, until = rows.revoke_grants_of_user(connection, user_id, now, client_id)
            rows.end_codes_of_user(connection, user_id, now, client_id)
            named: list[tuple[Kind, str]] = [("sid", grant_id) for grant_id in found]
            if client_id is None:
                named.append(("sub", user_id))
            self.note(connection, named, now, until=until)
        for grant_id in found:
            self._audit.emit("grant_revoked", grant_id=grant_id, user_id=user_id, reason=reason)
        if client_id is None:
            self._audit.emit("user_revoked", user_id=user_id, grants=len(found), reason=reason)
        self.announce(*named)
        return len(found)
