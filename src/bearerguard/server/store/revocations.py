"""Queries for the revocation log.

Positions are assigned under a lock, so entries are committed in the order of their positions. A
reader that continues after the last position that it has read misses none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import bindparam, select

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    prepared_insert,
)
from bearerguard.server.store.schema import revocations

_ADD = prepared_insert(revocations, "position")
_AFTER = Prepared(
    select(
        revocations.c.position,
        revocations.c.kind,
        revocations.c.issuer,
        revocations.c.value,
        revocations.c.before,
        revocations.c.expires_at,
    )
    .where(revocations.c.position > bindparam("after"))
    .order_by(revocations.c.position)
    .limit(bindparam("most"))
)


def add(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append entries."""
    if entries:
        connection.lock_log()
        connection.execute(_ADD, [dict(each) for each in entries])


def after(connection: Executes, position: int, most: int) -> list[Row]:
    """Return at most `most` entries after a position, in order.

    The columns are the position, kind, issuer (None: this server), value, "issued before" and
    expiry.
    """
    return connection.execute(_AFTER, {"after": position, "most": most}).all()
