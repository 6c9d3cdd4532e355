"""Whom users are elsewhere: accounts linked to (issuer, subject), and made at a first login.

An e-mail address never links: who gets an address at another provider would get the account. An
operator links an existing account.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import insert

from bearerguard.errors import AccountError
from bearerguard.server.audit import Audit
from bearerguard.server.login.accounts import find_account, new_user_id, usable_login, usable_name
from bearerguard.server.store import people as rows
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import users
from bearerguard.server.upstream.options import Admission, UpstreamIdentity


class Identities:
    """The identities of one server's users.

    Args:
        database: stores them.
        clock: returns Unix seconds.
        audit: receives the events.
    """

    def __init__(self, database: Database, clock: Callable[[], float], *, audit: Audit) -> None:
        self._database = database
        self._clock = clock
        self._audit = audit

    def user_id(self, issuer: str, subject: str) -> str | None:
        """Return the id of the user who is `subject` at an issuer, None for nobody."""
        row = rows.find_identity(self._database, issuer, subject)
        return None if row is None else row.user_id

    def is_linked(self, connection: Connection, issuer: str, subject: str, user_id: str) -> bool:
        """Whether an identity is still that of a user."""
        row = rows.find_identity(connection, issuer, subject)
        return row is not None and row.user_id == user_id

    def signed_in(self, identity: UpstreamIdentity, admission: Admission) -> str | None:
        """Return the id of an admitted user, None if the account is disabled.

        The first login makes an account without a password.
        """
        issuer, subject = identity.issuer, identity.subject
        name = _name(admission.name or identity.name)
        known = rows.find_identity(self._database, issuer, subject)
        if known is None:
            user_id = self._first(identity, admission, name)
            if user_id is not None:
                self._audit.emit("user_added", user_id=user_id)
                self._audit.emit("identity_linked", user_id=user_id, issuer=issuer)
                return user_id
            known = rows.find_identity(self._database, issuer, subject)
        if known is None or known.disabled_at is not None:
            return None
        with self._database.write(concurrent=True) as connection:
            rows.note_login(
                connection,
                issuer,
                subject,
                self._clock(),
                user_id=known.user_id,
                name="" if name == known.name else name,
            )
        found: str = known.user_id
        return found

    def _first(self, identity: UpstreamIdentity, admission: Admission, name: str) -> str | None:
        """Return the id of a new account; None if another request has made it meanwhile."""
        issuer, subject = identity.issuer, identity.subject
        with self._database.write() as connection:
            if rows.find_identity(connection, issuer, subject) is not None:
                return None
            user_id = self._added(connection, admission, name)
            now = self._clock()
            rows.add_identity(connection, issuer, subject, user_id, now, last_login_at=now)
        return user_id

    def _added(self, connection: Connection, admission: Admission, name: str) -> str:
        user_id = new_user_id()
        login = user_id
        with suppress(AccountError):  # the operator's function chose no usable name
            wanted = usable_login(admission.login or user_id)
            # Never an account that there is: only an operator links those.
            login = user_id if find_account(connection, wanted) is not None else wanted
        row = {
            "user_id": user_id,
            "login": login,
            "name": name or login,
            "password_hash": None,
            "created_at": self._clock(),
        }
        connection.execute(insert(users).values(row))
        return user_id


def _name(given: str) -> str:
    """Return what pages call a user, "" for a name that no page can show."""
    try:
        return usable_name(given)
    except AccountError:
        return ""
