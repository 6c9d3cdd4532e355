"""Who is signed in: a random cookie, and a row that can be deleted.

The cookie means nothing by itself; the store holds its keyed digest. A sign-in always makes a
new session and ends the one before, so that nobody can plant one (session fixation).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete, insert, select

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import remove_over, sessions, users

# A working day; then a password again.
LIFETIME = 12 * 3600

_COOKIE = "bearerguard_session"
_KIND = "session"
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who sits before the browser, and since when (Unix seconds; None where unknown)."""

    user_id: str
    name: str
    auth_time: float | None = None


class Sessions:
    """The sessions of one server.

    Args:
        database: where they are kept.
        cookies: how their tokens travel.
        secret: what digests are keyed with.
        clock: the time, in seconds.
        lifetime: seconds until a user must sign in again.
    """

    def __init__(
        self,
        database: Database,
        cookies: Cookies,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        lifetime: int = LIFETIME,
    ) -> None:
        self._database = database
        self._cookies = cookies
        self._secret = secret
        self._clock = clock
        self._lifetime = lifetime

    def signed_in(self, request: Request) -> SignedIn | None:
        """Return who is signed in with this browser, if anybody is, and may still be."""
        digests = self._digests(request)
        if not digests:
            return None
        query = (
            select(users.c.user_id, users.c.name, sessions.c.signed_in_at)
            .join(users, users.c.user_id == sessions.c.user_id)
            .where(
                sessions.c.digest.in_(digests),
                sessions.c.expires_at > self._clock(),
                users.c.disabled_at.is_(None),
            )
        )
        with self._database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else SignedIn(row.user_id, row.name, row.signed_in_at)

    def begin(self, request: Request, user_id: str) -> tuple[str, str]:
        """Start a session and end this browser's earlier one; return the cookie to set."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(
                delete(sessions).where(sessions.c.digest.in_(self._digests(request)))
            )
            remove_over(connection, sessions.c.expires_at, now)
            connection.execute(
                insert(sessions).values(
                    digest=self._secret.digest(_KIND, token),
                    user_id=user_id,
                    signed_in_at=now,
                    expires_at=now + self._lifetime,
                )
            )
        return self._cookies.write(_COOKIE, token, max_age=self._lifetime)

    def end(self, request: Request) -> tuple[str, str]:
        """End this browser's session; return the cookie line that removes its token."""
        with self._database.write() as connection:
            connection.execute(
                delete(sessions).where(sessions.c.digest.in_(self._digests(request)))
            )
        return self._cookies.clear(_COOKIE)

    def _digests(self, request: Request) -> tuple[str, ...]:
        token = self._cookies.read(request, _COOKIE)
        if token is None or not _TOKEN.fullmatch(token):
            return ()
        return self._secret.digests(_KIND, token)
