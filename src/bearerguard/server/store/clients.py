"""Queries for clients, their secrets, origins and used assertions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import bindparam, case, delete, insert, or_, select, update
from sqlalchemy.dialects import postgresql

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    is_storable,
    prepared_insert,
)
from bearerguard.server.store.people import personal_tokens
from bearerguard.server.store.schema import (
    REMOVED,
    assertions,
    client_origins,
    client_secrets,
    clients,
    codes,
    device_codes,
    grants,
    registrations,
    stands,
)


class ClientRow(TypedDict):
    """The values of a client's row."""

    client_id: str
    name: str
    options: str
    access_lifetime: NotRequired[float | None]
    created_at: float


_CLIENTS = select(clients, registrations.c.registered_by).join(
    registrations, registrations.c.client_id == clients.c.client_id, isouter=True
)
_FIND = Prepared(_CLIENTS.where(clients.c.client_id == bindparam("client_id"), stands()))
_ALL = Prepared(_CLIENTS.where(stands()).order_by(clients.c.created_at))


def find(connection: Executes, client_id: str) -> Row | None:
    """Return the row of a client, with `registered_by`; None if there is none."""
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

    Pruning removes its tokens, grants, codes, consents and the personal tokens that it made, and
    then its row, in slices.
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
    """Whether a user with this id has a grant, a code or a personal token."""
    for table in (grants, codes, device_codes, personal_tokens):
        query = select(table.c.user_id).where(table.c.user_id == subject).limit(1)
        if connection.execute(query).first() is not None:
            return True
    return False


# Clients that no operator registered

_ADD_UNLESS_KNOWN = prepared_insert(clients, unless_known=True)
_CHANGE = Prepared(
    update(clients)
    .where(clients.c.client_id == bindparam("client"), stands())
    .values(name=bindparam("named"), options=bindparam("chosen"))
)
# SQLite has the same clause.
_REGISTER = Prepared(
    (_new := postgresql.insert(registrations))
    .values(
        client_id=bindparam("client_id"),
        registered_by=bindparam("registered_by"),
        expires_at=bindparam("expires_at"),
    )
    .on_conflict_do_update(
        index_elements=["client_id"],
        set_={
            "expires_at": case(
                (registrations.c.expires_at > _new.excluded.expires_at, registrations.c.expires_at),
                else_=_new.excluded.expires_at,
            )
        },
    )
)


def register(connection: Connection, client_id: str, registered_by: str, expires_at: float) -> None:
    """Record who registered a client, or that it was used: keep it until `expires_at`."""
    values = {"client_id": client_id, "registered_by": registered_by, "expires_at": expires_at}
    connection.execute(_REGISTER, values)


def keep(
    connection: Connection,
    row: ClientRow,
    origins: Sequence[str],
    *,
    registered_by: str,
    expires_at: float,
) -> bool:
    """Add a client, or change it to what `row` has, unless an operator registered it.

    Returns False while a client of its id is being removed.
    """
    client_id = row["client_id"]
    is_new = connection.execute(_ADD_UNLESS_KNOWN, row).rowcount == 1
    known = find(connection, client_id)
    if known is None:
        return False
    if known.registered_by is None and not is_new:
        return True
    register(connection, client_id, registered_by, expires_at)
    if (known.name, known.options) != (row["name"], row["options"]):
        connection.execute(
            _CHANGE, {"client": client_id, "named": row["name"], "chosen": row["options"]}
        )
    _set_origins(connection, client_id, origins)
    return True


def change(connection: Connection, row: ClientRow, origins: Sequence[str]) -> None:
    """Change a client to what `row` has; nothing happens if it was removed in between."""
    lifetime = row.get("access_lifetime")
    values: dict[str, object] = {"name": row["name"], "options": row["options"]}
    if lifetime is not None:
        # Never less than before: tokens of the longer lifetime may be valid still, and a revocation
        # is kept for as long as the longest that there is.
        known = clients.c.access_lifetime
        values["access_lifetime"] = case((known > lifetime, known), else_=lifetime)
    changing = update(clients).where(clients.c.client_id == row["client_id"], stands())
    if connection.execute(changing.values(**values)).rowcount:
        _set_origins(connection, row["client_id"], origins)


def remove_secrets(connection: Connection, client_id: str) -> None:
    """Remove all secrets of a client, which has another way to authenticate."""
    connection.execute(delete(client_secrets).where(client_secrets.c.client_id == client_id))


def _set_origins(connection: Connection, client_id: str, origins: Sequence[str]) -> None:
    registered = set(connection.execute(_ORIGINS, {"client": client_id}).scalars())
    for origin in registered - set(origins):
        connection.execute(_REMOVE_ORIGIN, {"client": client_id, "gone": origin})
    for origin in set(origins) - registered:
        connection.execute(_ADD_ORIGIN, {"client_id": client_id, "origin": origin})


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


_ORIGINS = Prepared(
    select(client_origins.c.origin).where(client_origins.c.client_id == bindparam("client"))
)
_REMOVE_ORIGIN = Prepared(
    delete(client_origins).where(
        client_origins.c.client_id == bindparam("client"),
        client_origins.c.origin == bindparam("gone"),
    )
)
_ADD_ORIGIN = prepared_insert(client_origins, unless_known=True)


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


# What is used once, or remembered for a while: assertions, proofs, logins, logouts and forms

_IS_USED = Prepared(select(assertions.c.digest).where(assertions.c.digest == bindparam("digest")))
_USE = prepared_insert(assertions, unless_known=True)


def use_once(connection: Connection, digests: Sequence[str], expires_at: float) -> bool:
    """Record that something was used, such as an assertion; False if it was used before.

    Its digest is looked up under every key of the server and recorded under the first, the newest.
    """
    if is_used(connection, digests[1:]):
        return False
    used = connection.execute(_USE, {"digest": digests[0], "expires_at": expires_at})
    return used.rowcount == 1


def is_used(connection: Executes, digests: Sequence[str]) -> bool:
    """Whether something was used; its digests are those under every key of the server."""
    found = (connection.execute(_IS_USED, {"digest": each}).first() for each in digests)
    return any(each is not None for each in found)


_REMEMBERED_UNTIL = Prepared(
    select(assertions.c.expires_at).where(assertions.c.digest == bindparam("digest"))
)
_REMEMBER = Prepared(
    (_new := postgresql.insert(assertions))
    .values(digest=bindparam("digest"), expires_at=bindparam("expires_at"))
    .on_conflict_do_update(
        index_elements=["digest"],
        set_={"expires_at": _new.excluded.expires_at},
        where=assertions.c.expires_at < _new.excluded.expires_at,
    )
)


def remember_until(connection: Connection, digest: str, expires_at: float) -> None:
    """Remember something until a time, or until a later one that is recorded already."""
    connection.execute(_REMEMBER, {"digest": digest, "expires_at": expires_at})


def remembered_until(connection: Executes, digests: Sequence[str]) -> float:
    """Return until when something is remembered; 0 if it is not.

    Its digests are those under every key of the server.
    """
    found = (connection.execute(_REMEMBERED_UNTIL, {"digest": each}).scalar() for each in digests)
    return max(each or 0.0 for each in found)
