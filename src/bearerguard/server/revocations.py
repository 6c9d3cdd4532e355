"""Revokes tokens, grants, users and clients: stores it, then notifies the listeners.

A guard in this process listens, and refuses the JWTs at once that it has cached. Each revocation is
also appended to a log, in the same transaction. Other processes follow that log, and a guard that
starts reads what was revoked before.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from bearerguard.protocol.revocation import KIND_OF_CLAIM, Claim
from bearerguard.server.audit import Audit
from bearerguard.server.settings import DAY, Settings
from bearerguard.server.store import grants as rows
from bearerguard.server.store import keys as key_rows
from bearerguard.server.store import personal_tokens
from bearerguard.server.store import revocations as log
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import end_sessions_of_login, forget_consents_of_client

T = TypeVar("T")
Kind: TypeAlias = Claim

# These values are never reused: their revocation applies to all tokens, whatever their `iat`.
_FOR_GOOD = frozenset({"jti", "sid", "kid"})
# A guard accepts tokens for its leeway after their expiry, 300 s at most, and `iat` as much in the
# future.
_SLACK = 600.0
# Rows that are changed in one transaction, where there may be very many.
_SLICE = 500


@dataclass(frozen=True, slots=True)
class Revoked:
    """A revocation.

    Attributes:
        kind: which tokens: `jti` is one token, `sid` all of a grant, `sub` all of a user,
            `client_id` all of a client, `kid` all that a withdrawn key signed.
        value: the value of that claim or, for `kid`, header parameter.
        at: when, in Unix seconds. For `sub` and `client_id`, tokens issued later are valid.
        expires_at: until when it must be kept, in Unix seconds.
    """

    kind: Kind
    value: str
    at: float
    expires_at: float


class Revocations:
    """The revocations of one server."""

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
        """Call `listener` after each change, once with all that it revoked."""
        self._batch_listeners = (*self._batch_listeners, listener)

    def note(
        self,
        connection: Connection,
        named: Sequence[tuple[Kind, str]],
        now: float,
        *,
        until: float = 0.0,
    ) -> list[Revoked]:
        """Append to the log what this transaction revokes, for tokens that expire at `until`.

        Returns what is to be announced after the transaction.

        `now` must be read under the write lock: what was issued while the transaction waited for
        it is meant, too. The entry of a single token stays until the token expires, so that a
        client that revokes its own tokens does not fill the list of every worker. Any other
        stays a day at least: there may be tokens with longer lifetimes than today's.
        """
        if not named:
            return []
        longest = max(
            DAY,
            self._settings.longest_access_lifetime,
            key_rows.longest_access_lifetime(connection),
        )
        # Times in tokens are whole seconds: what was issued in this second is meant, too.
        second = math.floor(now) + 1.0
        last = max(second + longest, until)
        batch = [
            Revoked(kind, value, now, _SLACK + (until if kind == "jti" and until else last))
            for kind, value in named
        ]
        log.add(
            connection,
            [
                {
                    "kind": KIND_OF_CLAIM[each.kind],
                    "issuer": None,
                    "value": each.value,
                    "before": None if each.kind in _FOR_GOOD else second,
                    "expires_at": each.expires_at,
                }
                for each in batch
            ],
        )
        return batch

    def announce(self, batch: Sequence[Revoked]) -> None:
        """Notify the listeners of what is stored already."""
        if not batch:
            return
        kinds = ", ".join(dict.fromkeys(each.kind for each in batch))
        for listener in self._batch_listeners:
            self._notify(listener, batch, kinds)
        for listener_to_each in self._listeners:
            for each in batch:
                self._notify(listener_to_each, each, each.kind)

    def _notify(self, listener: Callable[[T], object], revoked: T, kinds: str) -> None:
        try:
            listener(revoked)
        except Exception as error:
            # The revocation is stored all the same.
            self._audit.emit("revocation_not_notified", kind=kinds, cause=type(error).__name__)

    def grant(self, grant_id: str, *, reason: str) -> bool:
        """Revoke a grant with all its tokens; False if it is unknown or revoked already.

        The personal access tokens that its client made by it end, too.
        """
        found = rows.find_grant(self._database, grant_id)
        if found is None or found.revoked_at is not None:
            return False  # no transaction for a thief that tries again and again
        batch: list[Revoked] = []
        own: list[str] = []
        with self._database.write(concurrent=True) as connection:
            now = self._clock()
            changed = rows.revoke_grant(connection, grant_id, now)
            if changed:
                until = rows.end_of_access_tokens(connection, grant_id)
                own = personal_tokens.end_of_grants(connection, found.user_id, [grant_id])
                batch = self.note(connection, [("sid", grant_id)], now, until=until)
                batch += self._note_personal(connection, own, now)
        if changed:
            self._audit.emit(
                "grant_revoked",
                grant_id=grant_id,
                client_id=found.client_id,
                user_id=found.user_id,
                reason=reason,
            )
            self._report_personal(found.user_id, own, reason)
            self.announce(batch)
        return changed

    def login(
        self,
        issuer: str,
        *,
        user_id: str | None,
        sid: str | None,
        reason: str,
        first: Callable[[Connection], bool] | None = None,
        personal: bool = False,
    ) -> bool:
        """End the sessions, codes and grants of logins at an issuer elsewhere.

        Args:
            issuer: where the user logged in.
            user_id: whose they are; None for whoever logged in by `sid`.
            sid: the issuer's session, None for all of the user's.
            reason: for the log.
            first: done first in the transaction; False ends nothing.
            personal: whether all the users' personal access tokens end, too, and not only those
                that clients made by these grants.

        Returns whether `first` was True.
        """
        ended: list[tuple[str, list[str], list[str], int]] = []
        with self._database.write() as connection:
            now = self._clock()
            if first is not None and not first(connection):
                return False
            found = [user_id] if user_id is not None else []
            if user_id is None and sid is not None:
                found = sorted(set(rows.users_of_session(connection, issuer, sid)))
            last = 0.0
            for each in found:
                stopped = end_sessions_of_login(connection, each, issuer, sid)
                ids, until = rows.revoke_grants_of_login(connection, each, now, issuer, sid)
                own = (
                    personal_tokens.end_all(connection, each)
                    if personal
                    else personal_tokens.end_of_grants(connection, each, ids)
                )
                ended.append((each, ids, own, stopped))
                last = max(last, until)
            named: list[tuple[Kind, str]] = [
                ("sid", each) for _, ids, _, _ in ended for each in ids
            ]
            batch = self.note(connection, named, now, until=last)
            tokens = [each for _, _, own, _ in ended for each in own]
            batch += self._note_personal(connection, tokens, now)
        for each, ids, own, stopped in ended:
            for grant_id in ids:
                self._audit.emit("grant_revoked", grant_id=grant_id, user_id=each, reason=reason)
            if stopped:
                self._audit.emit("sessions_ended", user_id=each, sessions=stopped, reason=reason)
            self._report_personal(each, own, reason)
        self.announce(batch)
        return True

    def user(
        self,
        user_id: str,
        client_id: str | None = None,
        *,
        reason: str = "asked",
        personal: bool = True,
    ) -> int:
        """Revoke all grants of a user, to one client or to all; return how many.

        The personal access tokens that these clients made end, too. With all grants and `personal`,
        so do those that the user made without one.
        """
        everything = client_id is None and personal
        with self._database.write() as connection:
            now = self._clock()
            found, until = rows.revoke_grants_of_user(connection, user_id, now, client_id)
            rows.end_codes_of_user(connection, user_id, client_id)
            named: list[tuple[Kind, str]] = [("sid", grant_id) for grant_id in found]
            if everything:
                # What guards have cached of personal tokens is revoked by this, too.
                named.append(("sub", user_id))
                own = personal_tokens.end_all(connection, user_id)
            else:
                own = personal_tokens.end_of_clients(connection, user_id, client_id)
            batch = self.note(connection, named, now, until=until)
            if not everything:
                batch += self._note_personal(connection, own, now)
        for grant_id in found:
            self._audit.emit("grant_revoked", grant_id=grant_id, user_id=user_id, reason=reason)
        self._report_personal(user_id, own, reason)
        if client_id is None:
            self._audit.emit("user_revoked", user_id=user_id, grants=len(found), reason=reason)
        self.announce(batch)
        return len(found) + len(own)

    def client(self, client_id: str, *, reason: str = "asked") -> int:
        """Revoke the grants of all users to a client, and its own tokens; return how many grants.

        The personal access tokens that it made end, too. All are refused at once. The rows are
        changed in slices, with pauses in which others write. If this process ends before, the rest
        stays as it was: it is to be repeated.
        """
        revoked: tuple[Kind, str] = ("client_id", client_id)
        # First: else a client would get a new code without asking the user.
        self._in_slices(lambda connection: forget_consents_of_client(connection, client_id, _SLICE))
        with self._database.write() as connection:
            began = self._clock()
            rows.end_codes_of_client(connection, client_id)
            batch = self.note(connection, [revoked], began)
        self.announce(batch)
        place = (0.0, "")

        def revoke(connection: Connection) -> int:
            nonlocal place
            changed, place = rows.revoke_grants_of_client(
                connection, client_id, place, now=self._clock(), until=began, most=_SLICE
            )
            return changed

        count = self._in_slices(revoke)
        # After the grants, by which it could make others.
        self._in_slices(
            lambda connection: personal_tokens.end_of_client(connection, client_id, _SLICE)
        )
        # Before its slice, a grant may have been refreshed.
        with self._database.write() as connection:
            batch = self.note(connection, [revoked], self._clock())
        self._audit.emit("client_revoked", client_id=client_id, grants=count, reason=reason)
        self.announce(batch)
        return count

    def _note_personal(
        self, connection: Connection, token_ids: Sequence[str], now: float
    ) -> list[Revoked]:
        """Append that personal tokens have ended: guards may have them in their caches."""
        return self.note(connection, [("jti", each) for each in token_ids], now)

    def _report_personal(self, user_id: str, token_ids: Sequence[str], reason: str) -> None:
        for each in token_ids:
            self._audit.emit("personal_token_ended", user_id=user_id, token_id=each, reason=reason)

    def _in_slices(self, change: Callable[[Connection], int]) -> int:
        """Call `change` in transactions of its own until it changes nothing; return how much."""
        total = 0
        while True:
            with self._database.write(concurrent=True) as connection:
                began = time.monotonic()
                changed = change(connection)
            if not changed:
                return total
            total += changed
            time.sleep(time.monotonic() - began)
