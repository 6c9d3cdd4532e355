"""Removing what is over: a little at a time, by index.

What is to go is looked up without the write lock; that is taken for the removal alone, which is
bounded in rows, those that hang on them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    Delete,
    Table,
    and_,
    delete,
    exists,
    select,
    update,
)

from bearerguard.server.store.people import consents, login_attempts, sessions
from bearerguard.server.store.schema import (
    access_tokens,
    assertions,
    client_secrets,
    clients,
    codes,
    grants,
    refresh_tokens,
    revocations,
    stands,
    upkeep,
)

# A replayed code is recognised for so long after its time.
_CODE_MEMORY = 3600.0
# What may be removed with each grant is bounded; so many grants are looked at together.
_GRANTS = 50

Removal: TypeAlias = Callable[[Connection], int]


@dataclass(frozen=True, slots=True)
class Slice:
    """What a transaction is to remove, returning how many rows went; whether that is the last."""

    remove: Removal
    last: bool


Kind: TypeAlias = Callable[[Connection, float, float, int], Slice | None]


def _rows(
    key: Column[Any], at: Column[Any], is_over: Callable[[float, float], ColumnElement[bool]]
) -> Kind:
    """Return how the rows of one table are removed that are over."""
    table: Table = key.table

    def look(connection: Connection, now: float, grace: float, most: int) -> Slice | None:
        over = is_over(now, grace)
        belongs = table.c.grant_id if table in {access_tokens, refresh_tokens} else key
        query = select(key, belongs.label("belongs")).where(over).order_by(at).limit(most)
        found = connection.execute(query).all()
        if not found:
            return None
        keys, owners = [row[0] for row in found], {row[1] for row in found}

        def remove(connection: Connection) -> int:
            # Whatever was renewed since it was looked up stays.
            removed = connection.execute(delete(table).where(key.in_(keys), over)).rowcount
            if belongs is not key:
                removed += _remove_empty(connection, owners)
            return removed

        return Slice(remove, last=len(found) < most)

    return look


def _empty() -> ColumnElement[bool]:
    """Return that no token of a grant is left: nothing can come of it any more."""
    return and_(
        *(
            ~exists().where(table.c.grant_id == grants.c.grant_id)
            for table in (refresh_tokens, access_tokens)
        )
    )


def _remove_empty(connection: Connection, grant_ids: set[str]) -> int:
    return connection.execute(
        delete(grants).where(grants.c.grant_id.in_(grant_ids), _empty())
    ).rowcount


def _revoked_grants(connection: Connection, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove grants that were revoked: without their rows, their tokens are unknown."""
    query = select(grants.c.grant_id).where(grants.c.revoked_at.is_not(None))
    found = list(connection.execute(query.order_by(grants.c.revoked_at).limit(_GRANTS)).scalars())
    return _with_tokens(connection, found, most) if found else None


def _with_tokens(connection: Connection, found: list[str], most: int) -> Slice:
    """Remove tokens of grants, and the grants that have none left."""
    tokens: list[tuple[Column[Any], list[Any]]] = []
    for key in (refresh_tokens.c.digest, access_tokens.c.token_key):
        left = most - sum(len(keys) for _, keys in tokens)
        query = select(key).where(key.table.c.grant_id.in_(found)).limit(left)
        tokens.append((key, list(connection.execute(query).scalars())))

    def remove(connection: Connection) -> int:
        removed = sum(
            connection.execute(delete(key.table).where(key.in_(keys))).rowcount
            for key, keys in tokens
            if keys
        )
        return removed + _remove_empty(connection, set(found))

    return Slice(remove, last=False)


def removed_clients(connection: Connection, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove what clients that were removed were given, and then their rows."""
    query = select(clients.c.client_id).where(clients.c.access_lifetime < 0.0)
    client_id = connection.execute(query.limit(1)).scalar()
    if client_id is None:
        return None
    query = select(grants.c.grant_id).where(grants.c.client_id == client_id).limit(_GRANTS)
    found = list(connection.execute(query).scalars())
    if found:
        return _with_tokens(connection, found, most)
    for key in (access_tokens.c.token_key, codes.c.digest, consents.c.user_id):
        its_own = key.table.c.client_id == client_id
        found = list(connection.execute(select(key).where(its_own).limit(most)).scalars())
        if found:
            return _deleting(delete(key.table).where(its_own, key.in_(found)))
    # What a request that was under way has added meanwhile goes with it.
    return _deleting(delete(clients).where(clients.c.client_id == client_id, ~stands()))


def _deleting(statement: Delete) -> Slice:
    return Slice(lambda connection: connection.execute(statement).rowcount, last=False)


def _empty_grants(connection: Connection, now: float, _grace: float, most: int) -> Slice | None:
    """Remove what earlier versions left: grants that are over, and whose tokens are gone."""
    over = (grants.c.expires_at <= now) & _empty()
    query = select(grants.c.grant_id).where(over).order_by(grants.c.expires_at).limit(most)
    found = set(connection.execute(query).scalars())
    if not found:
        return None
    return Slice(lambda connection: _remove_empty(connection, found), last=len(found) < most)


def _successors(connection: Connection, now: float, grace: float, most: int) -> Slice | None:
    """Forget the successors of tokens whose rows stay, for they do not say whose they are."""
    over = refresh_tokens.c.sealed_successor.is_not(None) & (
        refresh_tokens.c.used_at <= now - grace
    )
    key = refresh_tokens.c.digest
    found = list(
        connection.execute(
            select(key).where(over).order_by(refresh_tokens.c.used_at).limit(most)
        ).scalars()
    )
    if not found:
        return None

    def forget(connection: Connection) -> int:
        forgetting = update(refresh_tokens).where(key.in_(found), over)
        connection.execute(forgetting.values(sealed_successor=None))
        return 0

    return Slice(forget, last=len(found) < most)


# In this order: with the last token of a grant goes the grant.
KINDS: Mapping[str, Kind] = {
    "removed clients": removed_clients,
    "codes": _rows(
        codes.c.digest, codes.c.expires_at, lambda now, _: codes.c.expires_at <= now - _CODE_MEMORY
    ),
    "access tokens": _rows(
        access_tokens.c.token_key,
        access_tokens.c.expires_at,
        lambda now, _: access_tokens.c.expires_at <= now,
    ),
    "refresh tokens": _rows(
        refresh_tokens.c.digest,
        refresh_tokens.c.expires_at,
        lambda now, _: refresh_tokens.c.expires_at <= now,
    ),
    "used refresh tokens": _rows(
        refresh_tokens.c.digest,
        refresh_tokens.c.used_at,
        lambda now, grace: (
            refresh_tokens.c.used_at.is_not(None)
            & refresh_tokens.c.generation.is_not(None)
            & (refresh_tokens.c.used_at <= now - grace)
        ),
    ),
    "successors": _successors,
    "revoked grants": _revoked_grants,
    "empty grants": _empty_grants,
    "assertions": _rows(
        assertions.c.digest, assertions.c.expires_at, lambda now, _: assertions.c.expires_at <= now
    ),
    "client secrets": _rows(
        client_secrets.c.digest,
        client_secrets.c.expires_at,
        lambda now, _: client_secrets.c.expires_at <= now,
    ),
    "revocations": _rows(
        revocations.c.position,
        revocations.c.expires_at,
        lambda now, _: revocations.c.expires_at <= now,
    ),
    "sessions": _rows(
        sessions.c.digest, sessions.c.expires_at, lambda now, _: sessions.c.expires_at <= now
    ),
    "login attempts": _rows(
        login_attempts.c.digest,
        login_attempts.c.whole_at,
        lambda now, _: login_attempts.c.whole_at <= now,
    ),
}


def take_turn(connection: Connection, now: float, seconds: float) -> bool:
    """Take the pruning over for so many seconds; False while another process has it."""
    until = upkeep.c.taken_until
    taken = connection.execute(
        update(upkeep)
        # A turn that lasts longer than any does was taken before the clock was set back.
        .where(upkeep.c.task == "prune", (until <= now) | (until > now + seconds))
        .values(taken_until=now + seconds)
    )
    return taken.rowcount == 1


def keep_turn(connection: Connection, now: float, seconds: float) -> None:
    """Keep the pruning for so many seconds more."""
    keeping = update(upkeep).where(upkeep.c.task == "prune")
    connection.execute(keeping.values(taken_until=now + seconds))
