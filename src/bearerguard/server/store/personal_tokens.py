"""Queries for personal access tokens. A token that has ended has no row."""

from __future__ import annotations

from collections.abc import Collection
from typing import TypedDict, Unpack

from sqlalchemy import ColumnElement, bindparam, delete, exists, func, or_, select, update

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    is_storable,
    prepared_insert,
)
from bearerguard.server.store.people import personal_tokens, users
from bearerguard.server.store.schema import clients, stands


class PersonalTokenRow(TypedDict):
    """The values of a new token's row."""

    token_id: str
    digest: str
    user_id: str
    client_id: str | None
    grant_id: str | None
    name: str
    scope: str
    resource: str
    created_at: float
    expires_at: float


_ITS_OWN = personal_tokens.c.token_id == bindparam("token")
_OF_USER = (personal_tokens.c.user_id == bindparam("user")) & (
    personal_tokens.c.expires_at > bindparam("now")
)
_ADD = prepared_insert(personal_tokens, "last_used_at")
_FIND = Prepared(
    select(
        personal_tokens,
        exists()
        .where(users.c.user_id == personal_tokens.c.user_id, users.c.disabled_at.is_not(None))
        .label("user_is_disabled"),
    ).where(
        personal_tokens.c.digest == bindparam("digest"),
        # The tokens of a client that was removed are removed in slices.
        or_(
            personal_tokens.c.client_id.is_(None),
            exists().where(clients.c.client_id == personal_tokens.c.client_id, stands()),
        ),
    )
)
_LIST = Prepared(
    select(personal_tokens, clients.c.name.label("client_name"))
    .join(clients, clients.c.client_id == personal_tokens.c.client_id, isouter=True)
    .where(_OF_USER)
    .order_by(personal_tokens.c.created_at.desc())
)
_COUNT = Prepared(select(func.count()).select_from(personal_tokens).where(_OF_USER))
_NAMED = Prepared(select(personal_tokens).where(_ITS_OWN))
_NOTE_USE = Prepared(
    update(personal_tokens)
    .where(
        _ITS_OWN,
        or_(
            personal_tokens.c.last_used_at.is_(None),
            personal_tokens.c.last_used_at < bindparam("day"),
        ),
    )
    .values(last_used_at=bindparam("day"))
)
_RENEW = Prepared(update(personal_tokens).where(_ITS_OWN).values(digest=bindparam("newest")))
_END = Prepared(delete(personal_tokens).where(_ITS_OWN))


def add(connection: Connection, **values: Unpack[PersonalTokenRow]) -> None:
    """Add a token."""
    connection.execute(_ADD, values)


def find(connection: Executes, *digests: str) -> Row | None:
    """Return the row of a token by its possible digests, with `user_is_disabled`, or None."""
    for digest in digests:
        row = connection.execute(_FIND, {"digest": digest}).one_or_none()
        if row is not None:
            return row
    return None


def of_user(connection: Executes, user_id: str, now: float) -> list[Row]:
    """Return the rows of a user's tokens that have not expired, the newest first.

    Each has `client_name`, which is None for a token that no client made.
    """
    if not is_storable(user_id):
        return []
    return connection.execute(_LIST, {"user": user_id, "now": now}).all()


def count(connection: Executes, user_id: str, now: float) -> int:
    """Return how many tokens of a user have not expired."""
    counted: int = connection.execute(_COUNT, {"user": user_id, "now": now}).scalar()
    return counted


def named(connection: Executes, token_id: str) -> Row | None:
    """Return the row of a token by its id, or None."""
    if not is_storable(token_id):
        return None
    return connection.execute(_NAMED, {"token": token_id}).one_or_none()


def note_use(connection: Connection, token_id: str, day: float) -> None:
    """Note that a token was used on a day, which is named by its beginning in Unix seconds."""
    connection.execute(_NOTE_USE, {"token": token_id, "day": day})


def renew(connection: Connection, token_id: str, newest: str) -> None:
    """Replace the digest of a token: the key of digests has changed."""
    connection.execute(_RENEW, {"token": token_id, "newest": newest})


def end(connection: Connection, token_id: str) -> bool:
    """Remove a token; False if there is none."""
    return connection.execute(_END, {"token": token_id}).rowcount == 1


def end_all(connection: Connection, user_id: str) -> list[str]:
    """Remove all tokens of a user; return their ids."""
    return _end(connection, personal_tokens.c.user_id == user_id)


def end_of_clients(connection: Connection, user_id: str, client_id: str | None = None) -> list[str]:
    """Remove a user's tokens that a client made, or that any did; return their ids."""
    made_by = personal_tokens.c.client_id
    chosen = made_by.is_not(None) if client_id is None else made_by == client_id
    return _end(connection, personal_tokens.c.user_id == user_id, chosen)


def end_of_grants(connection: Connection, user_id: str, grant_ids: Collection[str]) -> list[str]:
    """Remove a user's tokens that clients made by some grants; return their ids."""
    by_these = personal_tokens.c.grant_id.in_(grant_ids)
    return _end(connection, personal_tokens.c.user_id == user_id, by_these) if grant_ids else []


def end_of_client(connection: Connection, client_id: str, most: int) -> int:
    """Remove at most `most` tokens that a client made; return how many there were."""
    its_own = personal_tokens.c.client_id == client_id
    found = select(personal_tokens.c.token_id).where(its_own).limit(most)
    removing = delete(personal_tokens).where(its_own, personal_tokens.c.token_id.in_(found))
    return connection.execute(removing).rowcount


def _end(connection: Connection, *conditions: ColumnElement[bool]) -> list[str]:
    removing = delete(personal_tokens).where(*conditions)
    return connection.execute(removing.returning(personal_tokens.c.token_id)).scalars()
