"""Removing what is over: a little at a time, by index."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Table, delete, exists, select, update

from bearerguard.server.store.schema import (
    access_tokens,
    assertions,
    client_secrets,
    codes,
    grants,
    refresh_tokens,
    revocations,
)

# A transaction must not keep others waiting.
_BATCH = 500
# A replayed code is recognised for so long after its time.
_CODE_MEMORY = 3600.0


def prune(connection: Connection, now: float, grace: float) -> int:
    """Remove one batch of what is over at `now`; return how many rows went.

    Successors are forgotten `grace` seconds after they were handed out.
    """
    removed = sum(
        _remove(connection, table, key, table.c.expires_at <= before)
        for table, key, before in (
            (codes, codes.c.digest, now - _CODE_MEMORY),
            (access_tokens, access_tokens.c.token_key, now),
            (refresh_tokens, refresh_tokens.c.digest, now),
            (assertions, assertions.c.digest, now),
            (client_secrets, client_secrets.c.digest, now),
            (revocations, revocations.c.position, now),
        )
    )
    living = exists().where(access_tokens.c.grant_id == grants.c.grant_id)
    removed += _remove(
        connection, grants, grants.c.grant_id, (grants.c.expires_at <= now) & ~living
    )
    forgotten = (
        select(refresh_tokens.c.digest)
        .where(
            refresh_tokens.c.sealed_successor.is_not(None), refresh_tokens.c.used_at <= now - grace
        )
        .limit(_BATCH)
    )
    connection.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.digest.in_(forgotten))
        .values(sealed_successor=None)
    )
    return removed


def _remove(
    connection: Connection, table: Table, key: Column[Any], is_over: ColumnElement[bool]
) -> int:
    over = select(key).where(is_over).limit(_BATCH)
    return connection.execute(delete(table).where(key.in_(over))).rowcount
