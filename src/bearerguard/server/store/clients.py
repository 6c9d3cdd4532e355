"""Queries for clients, their secrets, origins and used assertions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import bindparam, delete, insert, or_, select, update

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    is_storable,
    prepared_insert,
)
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


_FIND = Prepared(select(clients).where(clients.c.client_id == bindparam("client_id"), stands()))
_ALL = Prepared(select(clients).where(stands()).order_by(clients.c.created_at))


def find(connection: Executes, client_id: str) -> Row | None:
    """Return the row of a client; None if there is none."""
    if not is_storable(client_id):
        return None
    return connection.execute(_FIND, {"client_id": client_id}).one_or_none()


def all_clients(connection: Executes) -> list[Row]:
    """Return the rows of all clients, the oldest first."""
    return connection.execute(_ALL).all()


def add(connection: Connection, **values: Unpack[ClientRow]) -> None:
    """Add a client."""
    connection.execute(insert(clients), values)


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


_SECRETS = Prepared(
    select(client_secrets.c.digest, client_secrets.c.expires_at).where(
        client_secrets.c.client_id == bindparam("client_id")
    )
)


def secrets_of(connection: Executes, client_id: str) -> list[Row]:
    """Return the digests of a client's secrets, with the times at which they expire, or None."""
    return connection.execute(_SECRETS, {"client_id": client_id}).all()


def add_secret(connection: Connection, client_id: str, digest: str, now: float) -> None:
    """Add a secret."""
    values = {"digest": digest, "client_id": client_id, "created_at": now}
    connection.execute(insert(client_secrets), values)


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
    connection.execute(insert(client_origins), {"client_id": client_id, "origin": origin})


_IS_ORIGIN = Prepared(
    select(client_origins.c.origin).where(client_origins.c.origin == bindparam("origin")).limit(1)
)


def is_origin(connection: Executes, origin: str) -> bool:
    """Whether a client has registered `origin` (RFC 6454)."""
    if not is_storable(origin):
        return False
    return connection.execute(_IS_ORIGIN, {"origin": origin}).first() is not None


# Assertions

_IS_USED = Prepared(select(assertions.c.digest).where(assertions.c.digest == bindparam("digest")))
_USE = prepared_insert(assertions, unless_known=True)


def use_assertion(connection: Connection, digests: Sequence[str], expires_at: float) -> bool:
    """Record that an assertion was used; False if it was used before.

    Its digest is looked up under every key of the server and recorded under the first, the newest.
    """
    for older in digests[1:]:
        if connection.execute(_IS_USED, {"digest": older}).first() is not None:
            return False
    used = connection.execute(_USE, {"digest": digests[0], "expires_at": expires_at})
    return used.rowcount == 1
