"""The rows of clients, their secrets and their origins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, or_, select, update

from bearerguard.server.store.schema import (
    assertions,
    client_origins,
    client_secrets,
    clients,
    codes,
    grants,
)


def find(connection: Connection, client_id: str) -> Row[Any] | None:
    """Return a client's row, if there is one."""
    return connection.execute(select(clients).where(clients.c.client_id == client_id)).one_or_none()


def all_clients(connection: Connection) -> list[Row[Any]]:
    """Return every client, the oldest first."""
    return list(connection.execute(select(clients).order_by(clients.c.created_at)))


def add(connection: Connection, **values: Any) -> None:
    """Add a client."""
    connection.execute(insert(clients).values(**values))


def remove(connection: Connection, client_id: str) -> bool:
    """Remove a client with all that it was given; False if there is none."""
    removed = connection.execute(delete(clients).where(clients.c.client_id == client_id))
    return removed.rowcount == 1


def is_user(connection: Connection, subject: str) -> bool:
    """Whether a user of this id has ever allowed a client anything."""
    for table in (grants, codes):
        query = select(table.c.user_id).where(table.c.user_id == subject).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


# Secrets


def secrets_of(connection: Connection, client_id: str, now: float) -> list[str]:
    """Return the digests of the secrets that a client may use."""
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
    """Keep a secret under another digest."""
    known = select(client_secrets.c.digest).where(client_secrets.c.digest == newest)
    if connection.execute(known).first() is None:  # another request was not faster
        connection.execute(
            update(client_secrets).where(client_secrets.c.digest == digest).values(digest=newest)
        )


def end_secrets(connection: Connection, client_id: str, expires_at: float) -> None:
    """Let a client's secrets end, none later than it would have anyway."""
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


def origins_of(connection: Connection, client_id: str) -> list[str]:
    """Return the origins of a client's pages."""
    query = select(client_origins.c.origin).where(client_origins.c.client_id == client_id)
    return list(connection.execute(query).scalars())


def add_origin(connection: Connection, client_id: str, origin: str) -> None:
    """Add an origin."""
    connection.execute(insert(client_origins).values(client_id=client_id, origin=origin))


def is_origin(connection: Connection, origin: str) -> bool:
    """Whether some client's pages come from `origin`."""
    query = select(client_origins.c.origin).where(client_origins.c.origin == origin).limit(1)
    return connection.execute(query).first() is not None


# Assertions


def use_assertion(connection: Connection, digests: Sequence[str], expires_at: float) -> bool:
    """Record that an assertion was used, under its first digest; False when it was before."""
    known = select(assertions.c.digest).where(assertions.c.digest.in_(digests))
    if connection.execute(known).first() is not None:
        return False
    connection.execute(insert(assertions).values(digest=digests[0], expires_at=expires_at))
    return True
