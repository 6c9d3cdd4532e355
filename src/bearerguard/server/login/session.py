"""Login sessions: a random cookie, and a row in the store that can be deleted.

The store contains a keyed digest of the cookie. A login always begins a new session and ends the
browser's earlier one, against session fixation.
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
from bearerguard.server.store.people import remove_expired, sessions, users

# Seconds: a working day.
LIFETIME = 12 * 3600

_COOKIE = "bearerguard_session"
_KIND = "session"
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The user who is signed in; `auth_time` is in Unix seconds, None if unknown."""

    user_id: str
    name: str
    auth_time: float | None = None


class Sessions:
    """The sessions of one server.

    Args:
        database: stores the sessions.
        cookies: reads and writes the session cookie.
        secret: derives the key of the digests.
        clock: returns Unix seconds.
        lifetime: seconds until a user must log in again.
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
        """Return the user who is signed in with this browser; None if nobody is, or is disabled."""
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
        """Begin a session and end the browser's earlier one; return the Set-Cookie field."""
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.write() as connection:
            connection.execute(
                delete(sessions).where(sessions.c.digest.in_(self._digests(request)))
            )
            remove_expired(connection, sessions.c.expires_at, now)
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
        """End this browser's session; return the Set-Cookie field that removes the cookie."""
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
