"""Grants by the million, written as rows: what a server has that has been used for long.

Each has its refresh token, and an access token that is stored.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass

import psycopg

_DAY = 86400
_SQLITE_CACHE_KB = 400_000


@dataclass(frozen=True)
class _Table:
    name: str
    columns: tuple[str, ...]
    row: Callable[[int, float], tuple[object, ...]]


def _grant_id(number: int) -> str:
    # As random as those of the server, so that indexes are as well.
    return hashlib.sha256(b"grant %d" % number).hexdigest()[:32]


def _grant(number: int, now: float) -> tuple[object, ...]:
    user, ends = f"user-{number}", now + 90 * _DAY
    return (_grant_id(number), "app", user, "read write", "[]", now, ends, 1)


def _refresh_token(number: int, now: float) -> tuple[object, ...]:
    digest = hashlib.sha256(b"refresh %d" % number).hexdigest()
    return (digest, _grant_id(number), now, now + 30 * _DAY, 1)


def _access_token(number: int, now: float) -> tuple[object, ...]:
    digest = hashlib.sha256(b"access %d" % number).hexdigest()
    user = f"user-{number}"
    return (digest, "app", _grant_id(number), user, "read write", "[]", now, now + _DAY)


_TABLES = (
    _Table(
        "grants",
        (
            "grant_id",
            "client_id",
            "user_id",
            "scope",
            "resources",
            "created_at",
            "expires_at",
            "generation",
        ),
        _grant,
    ),
    _Table(
        "refresh_tokens",
        ("digest", "grant_id", "created_at", "expires_at", "generation"),
        _refresh_token,
    ),
    _Table(
        "access_tokens",
        (
            "token_key",
            "client_id",
            "grant_id",
            "subject",
            "scope",
            "audience",
            "issued_at",
            "expires_at",
        ),
        _access_token,
    ),
)


def fill(url: str, count: int) -> None:
    """Add grants of the client `app` to a store that no server uses yet."""
    if url.startswith("sqlite:"):
        _fill_sqlite(url.removeprefix("sqlite:///"), count)
    else:
        _fill_postgresql(url, count)


def _rows(table: _Table, count: int) -> Iterator[tuple[object, ...]]:
    now = time.time()
    return (table.row(number, now) for number in range(count))


def _fill_sqlite(path: str, count: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA cache_size = -{_SQLITE_CACHE_KB}")
        connection.execute("PRAGMA synchronous = OFF")
        for table in _TABLES:
            marks = ", ".join("?" * len(table.columns))
            insert = f"INSERT INTO {table.name} ({', '.join(table.columns)}) VALUES ({marks})"  # noqa: S608
            connection.executemany(insert, _rows(table, count))
            connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _fill_postgresql(url: str, count: int) -> None:
    with closing(psycopg.connect(url, autocommit=True)) as connection:
        # The rows refer to each other rightly: nothing need be looked up.
        connection.execute("SET session_replication_role = replica")
        for table in _TABLES:
            statement = f"COPY {table.name} ({', '.join(table.columns)}) FROM STDIN"
            with connection.cursor().copy(statement) as copy:  # type: ignore[arg-type, unused-ignore]
                for row in _rows(table, count):
                    copy.write_row(row)
        # As autovacuum does within a minute.
        names = ", ".join(table.name for table in _TABLES)
        connection.execute(f"VACUUM ANALYZE {names}")  # type: ignore[arg-type, unused-ignore]
