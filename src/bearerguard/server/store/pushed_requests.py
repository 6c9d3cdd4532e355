"""Queries for authorization requests that clients have pushed (RFC 9126).

A request is used once: one conditional UPDATE decides, and its row count tells.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, Unpack

from sqlalchemy import bindparam, select, update

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    prepared_insert,
)
from bearerguard.server.store.schema import pushed_requests


class PushedRequestRow(TypedDict):
    """The values of a new request's row."""

    digest: str
    client_id: str
    parameters: str
    created_at: float
    expires_at: float


_UNUSED = (
    pushed_requests.c.digest == bindparam("request"),
    pushed_requests.c.used_at.is_(None),
)
_ADD = prepared_insert(pushed_requests, "used_at")
_FIND = Prepared(select(pushed_requests).where(pushed_requests.c.digest == bindparam("digest")))
_KEEP = Prepared(update(pushed_requests).where(*_UNUSED).values(expires_at=bindparam("until")))
_USE = Prepared(update(pushed_requests).where(*_UNUSED).values(used_at=bindparam("now")))


def add(connection: Connection, **values: Unpack[PushedRequestRow]) -> None:
    """Add a request."""
    connection.execute(_ADD, values)


def find(connection: Executes, digests: Iterable[str]) -> Row | None:
    """Return the row of the first digest that has one; None if there is none."""
    for digest in digests:
        row = connection.execute(_FIND, {"digest": digest}).one_or_none()
        if row is not None:
            return row
    return None


def keep(connection: Connection, digest: str, until: float) -> None:
    """Put off when an unused request expires."""
    connection.execute(_KEEP, {"request": digest, "until": until})


def use(connection: Connection, digest: str, now: float) -> bool:
    """Mark a request as used; False if it was before, or is gone."""
    return connection.execute(_USE, {"request": digest, "now": now}).rowcount == 1
