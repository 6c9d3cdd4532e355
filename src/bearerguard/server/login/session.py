"""Login sessions: a random cookie, and a row in the store that can be deleted.

The store contains a keyed digest of the cookie. A login always begins a new session and ends the
browser's earlier one, against session fixation.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import bindparam, delete, select

from bearerguard.runtime.messages import Request
from bearerguard.server.http.browsers import Browser, browser_of
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.connection import Connection, Prepared, Row, prepared_insert
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import has_account, remove_expired, sessions, users

# Seconds: a working day.
LIFETIME = 12 * 3600

_COOKIE = "bearerguard_session"
_KIND = "session"
_TOKEN = re.compile(r"[\w-]{43}", re.ASCII)
# An address is shorter, with the zone of IPv6; a proxy may name anything.
_MAX_ADDRESS = 64
# Sessions that a list has at most. Each ends by itself within its lifetime.
MOST_LISTED = 100

_FIND = Prepared(
    select(
        sessions.c.digest,
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
# The lock keeps others from ending the session before this transaction has ended. SQLite has no
# locks of rows: there each transaction that writes runs alone.
_HOLD = Prepared(
    select(sessions.c.digest)
    .where(sessions.c.digest == bindparam("digest"))
    .with_for_update(read=True, key_share=True)
)
_ADD = prepared_insert(sessions)
_REMOVE = Prepared(delete(sessions).where(sessions.c.digest == bindparam("session")))
_OF_USER = Prepared(
    select(sessions)
    .where(sessions.c.user_id == bindparam("user"), sessions.c.expires_at > bindparam("now"))
    .order_by(sessions.c.signed_in_at.desc(), sessions.c.digest)
    .limit(MOST_LISTED)
)
# Of a user: a session's digest alone is no proof that it is this user's.
_REMOVE_OWN = Prepared(
    delete(sessions).where(
        sessions.c.user_id == bindparam("user"), sessions.c.digest == bindparam("session")
    )
)
_REMOVE_OTHERS = Prepared(
    delete(sessions).where(
        sessions.c.user_id == bindparam("user"), sessions.c.digest != bindparam("session")
    )
)


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
    its session; both are None for a login here. `session` names the row of the session; it is None
    for a user of an app's own login, who has none.
    """

    user_id: str
    name: str
    auth_time: float | None = None
    acr: str | None = None
    amr: tuple[str, ...] = ()
    upstream: str | None = None
    upstream_sid: str | None = field(default=None, repr=False)
    session: str | None = field(default=None, repr=False)


class ProofLapsed(Exception):
    """What proved who the user is counts no more: no session may begin by it.

    `reason` names why, for the log.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionEnded(Exception):
    """A session has ended since it was read: what would be written for it must be undone."""


@dataclass(frozen=True, slots=True)
class Session:
    """A session of a user, as the user sees it.

    Attributes:
        session_id: names it, and is no secret.
        browser: the browser that began it.
        address: the address that it was begun from; "" if unknown.
        signed_in_at: when it was begun, in Unix seconds.
        is_this: whether the request that asked belongs to it.
    """

    session_id: str
    browser: Browser
    address: str
    signed_in_at: float
    is_this: bool


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

    def is_valid(self, connection: Connection, signed_in: SignedIn) -> bool:
        """Whether a session has not ended since it was read; then it is valid until the commit.

        A logout, here or elsewhere, and a change of the account end what is stored by then. What
        another request writes for the session after that would remain.
        """
        held = connection.execute(_HOLD, {"digest": signed_in.session})
        return held.first() is not None

    @property
    def by_password(self) -> Method:
        """How a user logs in with a password."""
        return Method(self._acr, PASSWORD_AMR)

    def begin(
        self,
        request: Request,
        user_id: str,
        *,
        method: Method | None = None,
        check: Callable[[Connection], object] | None = None,
    ) -> tuple[str, str]:
        """Begin a session and end the browser's earlier one; return the Set-Cookie field.

        `method` is how the user logged in, by default with a password. `check` is done in the
        transaction; what it raises undoes that.

        Raises:
            ProofLapsed: the user was disabled meanwhile: the sessions have ended by that, and this
                one would remain.
        """
        method = method or self.by_password
        token, browser = secrets.token_urlsafe(32), browser_of(request)
        now = self._clock()
        with self._database.write(concurrent=True) as connection:
            # A change of the user runs alone: it is seen here, or ends this session.
            if not has_account(connection, user_id):
                raise ProofLapsed("user_disabled")
            if check is not None:
                check(connection)
            self._remove(connection, request)
            remove_expired(connection, sessions.c.expires_at, now)
            connection.execute(
                _ADD,
                {
                    "digest": self._secret.digest(_KIND, token),
                    "user_id": user_id,
                    "signed_in_at": now,
                    "expires_at": now + self._lifetime,
                    "browser": browser.name,
                    "system": browser.system,
                    "address": request.peer[:_MAX_ADDRESS] or None,
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

    def of_user(self, request: Request, user_id: str) -> list[Session]:
        """Return the user's sessions, that of the request first, then the newest.

        There are at most `MOST_LISTED`, the newest; then the request's may be missing.
        """
        here = self._digests(request)
        found = [
            Session(
                _session_id(row.digest),
                Browser(row.browser, row.system),
                row.address or "",
                row.signed_in_at,
                row.digest in here,
            )
            for row in self._rows(user_id)
        ]
        return sorted(found, key=lambda each: not each.is_this)

    def end_one(self, user_id: str, session_id: str) -> int:
        """End the session of this user that has an id; return how many, 0 if there is none."""
        digests = [each.digest for each in self._rows(user_id)]
        chosen = [each for each in digests if _session_id(each) == session_id]
        with self._database.write(concurrent=True) as connection:
            return sum(
                connection.execute(_REMOVE_OWN, {"user": user_id, "session": each}).rowcount
                for each in chosen
            )

    def end_others(self, request: Request, user_id: str) -> int:
        """End all sessions of a user except that of the request; return how many."""
        now, kept = self._clock(), ""
        with self._database.write(concurrent=True) as connection:
            for digest in self._digests(request):
                if connection.execute(_FIND, {"digest": digest, "now": now}).first() is not None:
                    kept = digest
            return connection.execute(_REMOVE_OTHERS, {"user": user_id, "session": kept}).rowcount

    def _rows(self, user_id: str) -> list[Row]:
        return self._database.execute(_OF_USER, {"user": user_id, "now": self._clock()}).all()

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
            row.digest,
        )

    def _remove(self, connection: Connection, request: Request) -> None:
        for digest in self._digests(request):
            connection.execute(_REMOVE, {"session": digest})

    def _digests(self, request: Request) -> tuple[str, ...]:
        token = self._cookies.read(request, _COOKIE)
        if token is None or not _TOKEN.fullmatch(token):
            return ()
        return self._secret.digests(_KIND, token)


def _session_id(digest: str) -> str:
    """Return a session's id. Sessions that an earlier version began have one, too.

    It is made of the digest, which is keyed: neither says anything about the cookie.
    """
    return hashlib.sha256(digest.encode()).hexdigest()[:32]
