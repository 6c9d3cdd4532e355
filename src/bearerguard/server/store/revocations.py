"""Queries for the revocation log.

Positions are assigned under the write lock, so entries are committed in the order of their
positions. A reader that continues after the last position that it has read misses none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import Connection, Row, insert, select

from bearerguard.server.store.schema import revocations

# Position, kind, issuer (None: this server), value, "issued before" and expiry.
LogRow: TypeAlias = Row[int, Any, str | None, str, float | None, float]


def add(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append entries."""
    if entries:
        connection.execute(insert(revocations), [dict(each) for each in entries])


def after(connection: Connection, position: int, most: int) -> Sequence[LogRow]:
    """Return at most `most` entries after a position, in order."""
    columns = revocations.c
    query = (
        select(
            columns.position,
            columns.kind,
            columns.issuer,
            columns.value,
            columns.before,
            columns.expires_at,
        )
        .where(revocations.c.position > position)
        .order_by(revocations.c.position)
        .limit(most)
    )
    return connection.execute(query).all()
