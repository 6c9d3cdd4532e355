"""Login sessions: a random cookie, and a row in the store that can be deleted.

The store contains a keyed digest of the cookie. A login always begins a new session and ends the
browser's earlier one, against session fixation.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, select

from bearerguard.runtime.messages import Request
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.connection import Connection, Prepared, Row, prepared_insert
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import is_disabled, remove_expired, sessions, users

# Seconds: a working day.
LIFETIME = 12 * 3600

_COOKIE = "bearerguard_session"
_KIND = "session"
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)


_FIND = Prepared(
    select(
        users.c.user_id,
        users.c.name,
        sessions.c.signed_in_at,
        sessions.c.auth_time,
        sessions.c.acr,
        sessions.c.amr,
        sessions.c.upstream,
        sessions.c.upstream_sid,
    )
    .join(users, users.c.user_id == sessions.c.user_id)
    .where(
        sessions.c.digest == bindparam("digest"),
        sessions.c.expires_at > bindparam("now"),
        users.c.disabled_at.is_(None),
    )
)
_ADD = prepared_insert(sessions)
_STANDS = Prepared(
    select(users.c.user_id).where(
        users.c.user_id == bindparam("user"),
        users.c.password_hash == bindparam("hash"),
        users.c.disabled_at.is_(None),
    )
)
_REMOVE = Prepared(delete(sessions).where(sessions.c.digest == bindparam("session")))


# How a password is called (RFC 8176 §2).
PASSWORD_AMR = ("pwd",)


@dataclass(frozen=True, slots=True)
class Method:
    """How a user logged in.

    Attributes:
        acr: the authentication context, None if unknown.
        amr: the authentication methods (RFC 8176), empty if unknown.
        upstream: the issuer where the user logged in, None for here.
        upstream_sid: that issuer's session, None if it names none.
        auth_time: when the user was authenticated there, in Unix seconds; None if unknown. A
            login here is authenticated when it begins.
    """

    acr: str | None = None
    amr: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_sid: str | None = field(default=None, repr=False)
    auth_time: float | None = None


@dataclass(frozen=True, slots=True)
class SignedIn:
    """The user who is signed in; `auth_time` (Unix seconds) and `acr` are None if unknown.

    `amr` is empty if unknown. `upstream` is the issuer where the user logged in, and `upstream_sid`
    its session; both are None for a login here.
    """

    user_id: str
    name: str
    auth_time: float | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_sid: str | None = field(default=None, repr=False)


class Sessions:
    """The sessions of one server.

    Args:
        database: stores the sessions.
        cookies: reads and writes the session cookie.
        secret: derives the key of the digests.
        clock: returns Unix seconds.
        lifetime: seconds until a user must log in again.
        acr: the authentication context of every login by password, None for none.
    """

    def __init__(
        self,
        database: Database,
        cookies: Cookies,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        lifetime: int = LIFETIME,
        acr: str | None = None,
    ) -> None:
        self._database = database
        self._cookies = cookies
        self._secret = secret
        self._clock = clock
        self._lifetime = lifetime
        self._acr = acr

    def signed_in(self, request: Request) -> SignedIn | None:
        """Return the user who is signed in with this browser; None if nobody is, or is disabled."""
        for digest in self._digests(request):
            found = self._database.execute(_FIND, {"digest": digest, "now": self._clock()}).first()
            if found is not None:
                return self._of(found)
        return None

    @property
    def by_password(self) -> Method:
        """How a user logs in with a password."""
        return Method(self._acr, PASSWORD_AMR)

    def begin(
        self,
        request: Request,
        user_id: str,
        password_hash: str | None = None,
        *,
        method: Method | None = None,
    ) -> tuple[str, str] | None:
        """Begin a session and end the browser's earlier one; return the Set-Cookie field.

        `method` is how the user logged in, by default with a password. Returns None if the user
        was disabled, or got another password, since `password_hash` was checked: the sessions have
        ended by that, and this one would remain.
        """
        method = method or self.by_password
        token = secrets.token_urlsafe(32)
        now = self._clock()
        with self._database.write(concurrent=True) as connection:
            # A change of the user runs alone: it is seen here, or ends this session.
            if password_hash is not None:
                values = {"user": user_id, "hash": password_hash}
                if connection.execute(_STANDS, values).first() is None:
                    return None
            elif is_disabled(connection, user_id):
                return None
            self._remove(connection, request)
            remove_expired(connection, sessions.c.expires_at, now)
            connection.execute(
                _ADD,
                {
                    "digest": self._secret.digest(_KIND, token),
                    "user_id": user_id,
                    "signed_in_at": now,
                    "expires_at": now + self._lifetime,
                    "auth_time": method.auth_time,
                    "acr": method.acr,
                    "amr": json.dumps(method.amr),
                    "upstream": method.upstream,
                    "upstream_sid": method.upstream_sid,
                },
            )
        return self._cookies.write(_COOKIE, token, max_age=self._lifetime)

    def end(self, request: Request) -> tuple[str, str]:
        """End this browser's session; return the Set-Cookie field that removes the cookie."""
        with self._database.write(concurrent=True) as connection:
            self._remove(connection, request)
        return self._cookies.clear(_COOKIE)

    def _of(self, row: Row) -> SignedIn:
        is_elsewhere = row.upstream is not None
        # Earlier versions stored nothing, and knew passwords alone.
        amr = PASSWORD_AMR if row.amr is None else tuple(json.loads(row.amr))
        return SignedIn(
            row.user_id,
            row.name,
            row.auth_time if is_elsewhere else row.signed_in_at,
            row.acr if is_elsewhere or row.acr is not None else self._acr,
            amr,
            row.upstream,
            row.upstream_sid,
        )

    def _remove(self, connection: Connection, request: Request) -> None:
        for digest in self._digests(request):
            connection.execute(_REMOVE, {"session": digest})

    def _digests(self, request: Request) -> tuple[str, ...]:
        token = self._cookies.read(request, _COOKIE)
        if token is None or not _TOKEN.fullmatch(token):
            return ()
        return self._secret.digests(_KIND, token)
