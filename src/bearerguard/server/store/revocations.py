"""The rows of the log of revocations.

A position is given inside the transaction that holds the write lock: whoever has read up to
one misses nothing that is committed later.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from bearerguard.server.store.schema import revocations


def add(connection: Connection, entries: Sequence[Mapping[str, Any]]) -> None:
    """Append entries."""
    if entries:
        connection.execute(insert(revocations), [dict(each) for each in entries])


def after(connection: Connection, position: int, most: int) -> list[Row[Any]]:
    """Return what follows a position, in order, `most` at most."""
    query = (
        select(revocations)
        .where(revocations.c.position > position)
        .order_by(revocations.c.position)
        .limit(most)
    )
    return list(connection.execute(query))
