"""Queries for signing keys."""

from __future__ import annotations

from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import delete, func, insert, select, update

from bearerguard.server.store.connection import Connection, Executes, Prepared, Row
from bearerguard.server.store.schema import clients, signing_keys


class NewKey(TypedDict):
    """A new key; its private key is sealed."""

    kid: str
    algorithm: str
    public_jwk: str
    sealed_private: bytes


class KeyRow(NewKey):
    """The values of a key's row."""

    created_at: float
    active_at: float
    retires_at: NotRequired[float | None]


_ALL = Prepared(select(signing_keys).order_by(signing_keys.c.active_at, signing_keys.c.created_at))


def all_keys(connection: Executes) -> list[Row]:
    """Return the rows of all keys, in the order in which they sign."""
    return connection.execute(_ALL).all()


def add(connection: Connection, **values: Unpack[KeyRow]) -> None:
    """Add a key."""
    connection.execute(insert(signing_keys), values)


def seal(connection: Connection, kid: str, sealed: bytes) -> None:
    """Replace the sealed private key of a key."""
    connection.execute(
        update(signing_keys).where(signing_keys.c.kid == kid).values(sealed_private=sealed)
    )


def retire(connection: Connection, *, active_before: float, retires_at: float) -> None:
    """Set the time at which keys that were active before `active_before` leave the JWKS.

    A time that is already set stays.
    """
    connection.execute(
        update(signing_keys)
        .where(signing_keys.c.retires_at.is_(None), signing_keys.c.active_at < active_before)
        .values(retires_at=retires_at)
    )


def retire_never(connection: Connection, kid: str) -> None:
    """Clear the time at which a key leaves the JWKS."""
    connection.execute(
        update(signing_keys).where(signing_keys.c.kid == kid).values(retires_at=None)
    )


def remove(connection: Connection, kid: str) -> None:
    """Remove a key with its private key."""
    connection.execute(delete(signing_keys).where(signing_keys.c.kid == kid))


def is_any_retired(connection: Connection, now: float) -> bool:
    """Whether a key has left the JWKS."""
    query = select(signing_keys.c.kid).where(signing_keys.c.retires_at <= now).limit(1)
    return connection.execute(query).first() is not None


def remove_retired(connection: Connection, now: float) -> list[str]:
    """Remove the keys that have left the JWKS; return their ids."""
    retired = delete(signing_keys).where(signing_keys.c.retires_at <= now)
    return connection.execute(retired.returning(signing_keys.c.kid)).scalars()


_LONGEST = Prepared(select(func.max(clients.c.access_lifetime)))


def longest_access_lifetime(connection: Connection) -> float:
    """Return the longest `access_token_lifetime` of all clients in seconds; 0 if none has one."""
    return connection.execute(_LONGEST).scalar() or 0.0
