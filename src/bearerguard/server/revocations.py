"""Revoking: tokens, grants, users, clients. Writes it down, then tells who listens.

A listener in this process can end the JWTs at once that a guard has already verified.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bearerguard.server.audit import Audit
from bearerguard.server.store import grants as rows
from bearerguard.server.store.database import Database


@dataclass(frozen=True, slots=True)
class Revoked:
    """What does not count any more.

    Attributes:
        kind: the claim of access tokens that `value` is: `jti` is one token, `sid` all of
            a grant, `sub` all of a user, `client_id` all of a client.
        value: the claim's value.
        at: Unix seconds: for `sub` and `client_id`, tokens issued later are good again.
    """

    kind: Literal["jti", "sid", "sub", "client_id"]
    value: str
    at: float


class Revocations:
    """Revokes for one server."""

    def __init__(self, database: Database, audit: Audit, clock: Callable[[], float]) -> None:
        self._database = database
        self._audit = audit
        self._clock = clock
        self._listeners: tuple[Callable[[Revoked], object], ...] = ()

    def listen(self, listener: Callable[[Revoked], object]) -> None:
        """Call `listener` after each revocation that this process makes."""
        self._listeners = (*self._listeners, listener)

    def announce(self, kind: Literal["jti", "sid", "sub", "client_id"], value: str) -> None:
        """Tell the listeners of what is written down already."""
        revoked = Revoked(kind, value, self._clock())
        for listener in self._listeners:
            try:
                listener(revoked)
            except Exception as error:
                # It is revoked here all the same; who listens for others has trouble.
                self._audit.emit("revocation_not_told", kind=kind, cause=type(error).__name__)

    def grant(self, grant_id: str, *, reason: str) -> bool:
        """Revoke a grant with all its tokens; False when it was before, or is none."""
        with self._database.read() as connection:
            found = rows.find_grant(connection, grant_id)
        if found is None or found.revoked_at is not None:
            return False  # a thief that goes on trying does not hold up who writes
        with self._database.write() as connection:
            changed = rows.revoke_grant(connection, grant_id, self._clock())
        if changed:
            self._audit.emit("grant_revoked", grant_id=grant_id, reason=reason)
            self.announce("sid", grant_id)
        return changed

    def user(self, user_id: str, client_id: str | None = None, *, reason: str = "asked") -> int:
        """Revoke all that a user allowed, one client or all; return how many grants."""
        now = self._clock()
        with self._database.write() as connection:
            found = [row.grant_id for row in rows.grants_of_user(connection, user_id, client_id)]
            for grant_id in found:
                rows.revoke_grant(connection, grant_id, now)
            rows.end_codes_of_user(connection, user_id, now, client_id)
        for grant_id in found:
            self._audit.emit("grant_revoked", grant_id=grant_id, user_id=user_id, reason=reason)
            self.announce("sid", grant_id)
        if client_id is None:
            self._audit.emit("user_revoked", user_id=user_id, grants=len(found), reason=reason)
            self.announce("sub", user_id)
        return len(found)
