"""Queries for clients, their secrets, origins and used assertions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict, Unpack

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from bearerguard.server.store.schema import (
    REMOVED,
    assertions,
    client_origins,
    client_secrets,
    clients,
    codes,
    grants,
    stands,
)


class ClientRow(TypedDict):
    """The values of a client's row."""

    client_id: str
    name: str
    options: NotRequired[str]
    access_lifetime: NotRequired[float | None]
    created_at: float


def find(connection: Connection, client_id: str) -> Row[Any] | None:
    """Return the row of a client; None if there is none."""
    query = select(clients).where(clients.c.client_id == client_id, stands())
    return connection.execute(query).one_or_none()


def all_clients(connection: Connection) -> list[Row[Any]]:
    """Return the rows of all clients, the oldest first."""
    return list(connection.execute(select(clients).where(stands()).order_by(clients.c.created_at)))


def add(connection: Connection, **values: Unpack[ClientRow]) -> None:
    """Add a client."""
    connection.execute(insert(clients).values(**values))


def remove(connection: Connection, client_id: str) -> bool:
    """Mark a client as removed, and delete its secrets and origins; False if there is none.

    Pruning removes its tokens, grants, codes and consents, and then its row, in slices.
    """
    removed = connection.execute(
        update(clients)
        .where(clients.c.client_id == client_id, stands())
        .values(access_lifetime=REMOVED, options="{}")
    )
    for table in (client_secrets, client_origins):
        connection.execute(delete(table).where(table.c.client_id == client_id))
    return removed.rowcount == 1


def is_being_removed(connection: Connection, client_id: str) -> bool:
    """Whether a client with this id was removed and its row is still there."""
    query = select(clients.c.client_id).where(clients.c.client_id == client_id, ~stands())
    return connection.execute(query).first() is not None


def is_user(connection: Connection, subject: str) -> bool:
    """Whether a user with this id has a grant or a code."""
    for table in (grants, codes):
        query = select(table.c.user_id).where(table.c.user_id == subject).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


# Secrets


def secrets_of(connection: Connection, client_id: str, now: float) -> list[str]:
    """Return the digests of a client's valid secrets."""
    query = select(client_secrets.c.digest).where(
        client_secrets.c.client_id == client_id,
        or_(client_secrets.c.expires_at.is_(None), client_secrets.c.expires_at > now),
    )
    return list(connection.execute(query).scalars())


def add_secret(connection: Connection, client_id: str, digest: str, now: float) -> None:
    """Add a secret."""
    connection.execute(
        insert(client_secrets).values(digest=digest, client_id=client_id, created_at=now)
    )


def renew_secret(connection: Connection, digest: str, newest: str) -> None:
    """Replace the digest of a secret: the key of digests has changed."""
    known = select(client_secrets.c.digest).where(client_secrets.c.digest == newest)
    if connection.execute(known).first() is None:  # no concurrent request was first
        connection.execute(
            update(client_secrets).where(client_secrets.c.digest == digest).values(digest=newest)
        )


def end_secrets(connection: Connection, client_id: str, expires_at: float) -> None:
    """Let a client's secrets expire at `expires_at`, except those that expire earlier."""
    connection.execute(
        update(client_secrets)
        .where(
            client_secrets.c.client_id == client_id,
            or_(
                client_secrets.c.expires_at.is_(None),
                client_secrets.c.expires_at > expires_at,
            ),
        )
        .values(expires_at=expires_at)
    )


# Origins


def add_origin(connection: Connection, client_id: str, origin: str) -> None:
    """Add an origin."""
    connection.execute(insert(client_origins).values(client_id=client_id, origin=origin))


def is_origin(connection: Connection, origin: str) -> bool:
    """Whether a client has registered `origin` (RFC 6454)."""
    query = select(client_origins.c.origin).where(client_origins.c.origin == origin).limit(1)
    return connection.execute(query).first() is not None


# Assertions


def use_assertion(connection: Connection, digests: Sequence[str], expires_at: float) -> bool:
    """Record that an assertion was used; False if it was used before.

    Its digest is looked up under every key of the server and recorded under the first, the newest.
    """
    known = select(assertions.c.digest).where(assertions.c.digest.in_(digests))
    if connection.execute(known).first() is not None:
        return False
    connection.execute(insert(assertions).values(digest=digests[0], expires_at=expires_at))
    return True
