"""The tables of the login: users, sessions, stored consent, login attempts.

Times are Unix seconds. A session's token and an attempt's name or address are keyed digests, in
hexadecimal; a password is an argon2id hash.
"""

from __future__ import annotations

from sqlalchemy import (
    Column,
    Connection,
    Double,
    ForeignKey,
    Index,
    String,
    Table,
    Text,
    delete,
    select,
)

from bearerguard.server.store.schema import metadata

_DIGEST = String(64)
_ID = String(255)
# A login adds three rows at most, and removes a few more; the pruning does the rest.
_FEW = 5

users: Table = Table(
    "users",
    metadata,
    Column("user_id", _ID, primary_key=True),
    # Normalized (NFKC) and case-folded, as names are compared.
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
    Index(None, "user_id"),
    Index(None, "expires_at"),
)

# An app's own users give consent too, so `user_id` need not be in `users`.
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
    # A JSON object: for each resource, a list of scopes. Earlier versions wrote scopes alone.
    Column("scope", Text, nullable=False),
    Column("given_at", Double, nullable=False),
    Index(None, "client_id"),
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
    """Remove a few expired rows of a table, by its time column `at`: more than a login adds."""
    table: Table = at.table
    (digest,) = table.primary_key.columns
    expired = select(digest).where(at <= now).order_by(at).limit(_FEW)
    connection.execute(delete(table).where(digest.in_(expired)))


def is_disabled(connection: Connection, user_id: str) -> bool:
    """Whether there is a disabled account of this id; an app's own users have no account."""
    query = select(users.c.user_id).where(
        users.c.user_id == user_id, users.c.disabled_at.is_not(None)
    )
    return connection.execute(query).first() is not None
