"""The tables of the login: users, sessions, stored consent, personal tokens, login attempts.

Times are Unix seconds. Session tokens, personal access tokens, and the names and addresses of login
attempts, are keyed digests in hexadecimal. Passwords are argon2id hashes.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Double,
    ForeignKey,
    Index,
    String,
    Table,
    Text,
    bindparam,
    delete,
    or_,
    select,
    text,
    update,
)

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    is_storable,
    prepared_insert,
)
from bearerguard.server.store.schema import MAX_ID, login_columns, metadata, sid_index

_DIGEST = String(64)
_ID = String(MAX_ID)
# Personal tokens that a client made.
_HAS_CLIENT, _HAS_GRANT = text("client_id IS NOT NULL"), text("grant_id IS NOT NULL")
# Expired rows that a login removes. It adds at most three, so tables do not grow without pruning.
_FEW = 5
# What `is_user_id` demands.
USER_ID = (
    f"at most {MAX_ID} characters, none of them NUL or a lone surrogate, such as a digest of a"
    " longer id"
)


def is_user_id(text: str) -> bool:
    """Whether a text fits the columns for users' ids."""
    return 0 < len(text) <= MAX_ID and is_storable(text)


users: Table = Table(
    "users",
    metadata,
    Column("user_id", _ID, primary_key=True),
    # In canonical form: NFKC, case-folded.
    Column("login", _ID, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("password_hash", Text),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
)

sessions: Table = Table(
    "sessions",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False),
    Column("signed_in_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    # What the account page shows of it; NULL where it is unknown, or an earlier version began it.
    Column("browser", String(32)),
    Column("system", String(32)),
    Column("address", String(64)),
    # Of a login elsewhere: when the user was authenticated there, NULL if that is unknown.
    Column("auth_time", Double),
    # NULL in rows of earlier versions, which knew passwords alone.
    Column("acr", Text),
    *login_columns(),
    Index(None, "user_id"),
    Index(None, "expires_at"),
    sid_index("sessions"),
)

# Whom users are elsewhere. Only this links a login there to an account, never an e-mail address.
identities: Table = Table(
    "identities",
    metadata,
    Column("issuer", _ID, primary_key=True),
    Column("subject", _ID, primary_key=True),
    Column("user_id", _ID, ForeignKey("users.user_id", ondelete="CASCADE"), nullable=False),
    Column("linked_at", Double, nullable=False),
    Column("last_login_at", Double),
    Index(None, "user_id"),
)

# Users of an app's own login give consent too, so `user_id` need not be in `users`.
consents: Table = Table(
    "consents",
    metadata,
    Column("user_id", _ID, primary_key=True),
    Column(
        "client_id",
        _ID,
        ForeignKey("clients.client_id", ondelete="CASCADE"),
        primary_key=True,
    ),
    # A JSON object: resource to list of scopes. Earlier versions stored only the scopes.
    Column("scope", Text, nullable=False),
    Column("given_at", Double, nullable=False),
    Index(None, "client_id"),
)

# Users of an app's own login have them too, so `user_id` need not be in `users`.
personal_tokens: Table = Table(
    "personal_tokens",
    metadata,
    # What lists name a token by, and the `jti` of its claims.
    Column("token_id", _ID, primary_key=True),
    Column("digest", _DIGEST, nullable=False, unique=True),
    Column("user_id", _ID, nullable=False),
    # The client that made it by API, and its grant; NULL if the user made it without one.
    Column("client_id", _ID, ForeignKey("clients.client_id", ondelete="CASCADE")),
    Column("grant_id", _ID),
    Column("name", Text, nullable=False),
    Column("scope", Text, nullable=False),
    # The API that it is for.
    Column("resource", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    # The beginning of the day (UTC) of its last use, so that a use rarely writes; NULL for none.
    Column("last_used_at", Double),
    Index(None, "user_id"),
    Index(None, "client_id", sqlite_where=_HAS_CLIENT, postgresql_where=_HAS_CLIENT),
    Index(None, "grant_id", sqlite_where=_HAS_GRANT, postgresql_where=_HAS_GRANT),
    Index(None, "expires_at"),
)

login_attempts: Table = Table(
    "login_attempts",
    metadata,
    Column("digest", _DIGEST, primary_key=True),
    # When the limit has recovered fully; each attempt adds to it.
    Column("whole_at", Double, nullable=False),
    Index(None, "whole_at"),
)


def remove_expired(connection: Connection, at: Column[float], now: float) -> None:
    """Remove a few expired rows of the table whose expiry column is `at`."""
    table: Table = at.table
    (digest,) = table.primary_key.columns
    # Rows that another transaction has are its own to remove. SQLite has no locks of rows.
    expired = select(digest).where(at <= now).order_by(at).limit(_FEW)
    expired = expired.with_for_update(skip_locked=True)
    connection.execute(delete(table).where(digest.in_(expired)))


def end_sessions_of_login(
    connection: Connection, user_id: str, upstream: str, sid: str | None
) -> int:
    """End a user's sessions that began elsewhere, in one of its sessions or in any."""
    ending = delete(sessions).where(sessions.c.user_id == user_id, sessions.c.upstream == upstream)
    if sid is not None:
        # The ID token of a login need not have named its session.
        ending = ending.where(
            or_(sessions.c.upstream_sid == sid, sessions.c.upstream_sid.is_(None))
        )
    return connection.execute(ending).rowcount


_FIND_IDENTITY = Prepared(
    select(users)
    .join(identities, identities.c.user_id == users.c.user_id)
    .where(
        identities.c.issuer == bindparam("issuer"),
        identities.c.subject == bindparam("subject"),
    )
)
_ADD_IDENTITY = prepared_insert(identities)
_NOTE_LOGIN = Prepared(
    update(identities)
    .where(
        identities.c.issuer == bindparam("by_issuer"),
        identities.c.subject == bindparam("by_subject"),
    )
    .values(last_login_at=bindparam("now"))
)
_RENAME = Prepared(
    update(users).where(users.c.user_id == bindparam("user")).values(name=bindparam("shown"))
)


def find_identity(connection: Executes, issuer: str, subject: str) -> Row | None:
    """Return the row of the user who is `subject` elsewhere, None if nobody is linked."""
    if not is_storable(issuer + subject):
        return None
    values = {"issuer": issuer, "subject": subject}
    return connection.execute(_FIND_IDENTITY, values).one_or_none()


def add_identity(
    connection: Connection,
    issuer: str,
    subject: str,
    user_id: str,
    now: float,
    *,
    last_login_at: float | None = None,
) -> None:
    """Link a user to an identity elsewhere that nobody is linked to."""
    connection.execute(
        _ADD_IDENTITY,
        {
            "issuer": issuer,
            "subject": subject,
            "user_id": user_id,
            "linked_at": now,
            "last_login_at": last_login_at,
        },
    )


def note_login(
    connection: Connection, issuer: str, subject: str, now: float, *, user_id: str, name: str
) -> None:
    """Store when a user logged in elsewhere, and what pages call the user; "" for no change."""
    values = {"by_issuer": issuer, "by_subject": subject, "now": now}
    connection.execute(_NOTE_LOGIN, values)
    if name:
        connection.execute(_RENAME, {"user": user_id, "shown": name})


_IS_DISABLED = Prepared(
    select(users.c.user_id).where(
        users.c.user_id == bindparam("user"), users.c.disabled_at.is_not(None)
    )
)


def is_disabled(connection: Executes, user_id: str) -> bool:
    """Whether a user's account is disabled; False for users of an app's own login."""
    return connection.execute(_IS_DISABLED, {"user": user_id}).first() is not None


_STANDS = Prepared(
    select(users.c.user_id).where(
        users.c.user_id == bindparam("user"), users.c.disabled_at.is_(None)
    )
)


def has_account(connection: Executes, user_id: str) -> bool:
    """Whether there is an account of this user, which is not disabled."""
    return connection.execute(_STANDS, {"user": user_id}).first() is not None


def forget_consents_of_client(connection: Connection, client_id: str, most: int) -> int:
    """Remove at most `most` consents to a client; return how many there were."""
    its_own = consents.c.client_id == client_id
    found = select(consents.c.user_id).where(its_own).limit(most)
    removing = delete(consents).where(its_own, consents.c.user_id.in_(found))
    return connection.execute(removing).rowcount
