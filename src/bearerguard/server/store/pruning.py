"""Pruning: removing rows that have expired or were revoked, a slice at a time, by index.

The rows of a slice are looked up without the write lock. Removing them takes the lock, for a
number of rows that is bounded, dependent rows included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
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

# Seconds after its expiry for which a replayed code is still recognised.
_CODE_MEMORY = 3600.0
# So many grants are examined at once; how many of their tokens go with them is bounded too.
_GRANTS = 50


@dataclass(frozen=True, slots=True)
class Slice:
    """What one transaction removes, returning the number of rows; whether more may follow."""

    remove: Callable[[Connection], int]
    last: bool


# From the time, the refresh grace in seconds and the largest number of rows: the next slice.
Kind: TypeAlias = Callable[[Connection, float, float, int], Slice | None]
# From the time and the refresh grace: which rows are to go.
_Condition: TypeAlias = Callable[[float, float], ColumnElement[bool]]
_Action: TypeAlias = Callable[[Connection, Sequence[Any], ColumnElement[bool]], int]


def _slices(key: Column[Any], at: Column[Any], is_due: _Condition, act: _Action) -> Kind:
    """Return a kind that acts on the rows that are due, the oldest by `at` first."""

    def look(connection: Connection, now: float, grace: float, most: int) -> Slice | None:
        due = is_due(now, grace)
        query = select(key).where(due).order_by(at).limit(most)
        found = connection.execute(query).scalars().all()
        if not found:
            return None
        return Slice(lambda writing: act(writing, found, due), last=len(found) < most)

    return look


def _rows(key: Column[Any], at: Column[Any], is_due: _Condition | None = None) -> Kind:
    """Return a kind that removes rows: those whose time `at` has come, by default."""
    table: Table = key.table

    def remove(connection: Connection, keys: Sequence[Any], due: ColumnElement[bool]) -> int:
        # A row that was renewed since it was looked up stays.
        removing = delete(table).where(key.in_(keys), due)
        if table not in _TOKENS:
            return connection.execute(removing).rowcount
        grant_ids = connection.execute(removing.returning(table.c.grant_id)).scalars().all()
        return len(grant_ids) + _remove_empty_grants(connection, grant_ids)

    return _slices(key, at, is_due or (lambda now, _: at <= now), remove)


# The tables of a grant's tokens, with their keys.
_TOKENS: Mapping[Table, Column[Any]] = {
    refresh_tokens: refresh_tokens.c.digest,
    access_tokens: access_tokens.c.token_key,
}


def _is_empty() -> ColumnElement[bool]:
    """Return the condition that a grant has no token left, so that no other can come of it."""
    return and_(
        *(~exists().where(table.c.grant_id == grants.c.grant_id) for table in _TOKENS),
    )


def _remove_empty_grants(connection: Connection, grant_ids: Sequence[str | None]) -> int:
    removing = delete(grants).where(grants.c.grant_id.in_(set(grant_ids)), _is_empty())
    return connection.execute(removing).rowcount


def _grants_with_tokens(
    connection: Connection, which: ColumnElement[bool], at: Column[Any], most: int
) -> Slice | None:
    """Return a slice with tokens of grants, and the grants that have no token left then."""
    query = select(grants.c.grant_id).where(which).order_by(at).limit(_GRANTS)
    grant_ids = connection.execute(query).scalars().all()
    if not grant_ids:
        return None
    found: dict[Table, Sequence[Any]] = {}
    for table, key in _TOKENS.items():
        left = most - sum(map(len, found.values()))
        of_grants = select(key).where(table.c.grant_id.in_(grant_ids)).limit(left)
        found[table] = connection.execute(of_grants).scalars().all()

    def remove(writing: Connection) -> int:
        removed = sum(
            writing.execute(delete(table).where(_TOKENS[table].in_(keys))).rowcount
            for table, keys in found.items()
            if keys
        )
        return removed + _remove_empty_grants(writing, grant_ids)

    return Slice(remove, last=False)


def _revoked_grants(connection: Connection, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove grants that were revoked: a token without its row is unknown."""
    revoked_at = grants.c.revoked_at
    return _grants_with_tokens(connection, revoked_at.is_not(None), revoked_at, most)


def removed_clients(connection: Connection, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove what belonged to clients that were removed, and then their rows."""
    query = select(clients.c.client_id).where(clients.c.access_lifetime < 0.0)
    client_id = connection.execute(query.limit(1)).scalar()
    if client_id is None:
        return None
    of_client = grants.c.client_id == client_id
    found = _grants_with_tokens(connection, of_client, grants.c.client_id, most)
    if found is not None:
        return found
    for key in (access_tokens.c.token_key, codes.c.digest, consents.c.user_id):
        table: Table = key.table
        its_own = table.c.client_id == client_id
        keys = connection.execute(select(key).where(its_own).limit(most)).scalars().all()
        if keys:
            removing = delete(table).where(its_own, key.in_(keys))
            break
    else:
        # What a request in progress has added meanwhile goes with it.
        removing = delete(clients).where(clients.c.client_id == client_id, ~stands())
    return Slice(lambda writing: writing.execute(removing).rowcount, last=False)


def _forget_successors(
    connection: Connection, keys: Sequence[Any], due: ColumnElement[bool]
) -> int:
    """Forget the successors of refresh tokens whose rows stay."""
    forgetting = update(refresh_tokens).where(refresh_tokens.c.digest.in_(keys), due)
    connection.execute(forgetting.values(sealed_successor=None))
    return 0


# In this order: a grant goes with the last of its tokens.
KINDS: Mapping[str, Kind] = {
    "removed clients": removed_clients,
    "codes": _rows(
        codes.c.digest, codes.c.expires_at, lambda now, _: codes.c.expires_at <= now - _CODE_MEMORY
    ),
    "access tokens": _rows(access_tokens.c.token_key, access_tokens.c.expires_at),
    "refresh tokens": _rows(refresh_tokens.c.digest, refresh_tokens.c.expires_at),
    "used refresh tokens": _rows(
        refresh_tokens.c.digest,
        refresh_tokens.c.used_at,
        lambda now, grace: (
            refresh_tokens.c.used_at.is_not(None)
            & refresh_tokens.c.generation.is_not(None)
            & (refresh_tokens.c.used_at <= now - grace)
        ),
    ),
    # Of tokens that do not say themselves to which family they belong.
    "successors": _slices(
        refresh_tokens.c.digest,
        refresh_tokens.c.used_at,
        lambda now, grace: (
            refresh_tokens.c.sealed_successor.is_not(None)
            & (refresh_tokens.c.used_at <= now - grace)
        ),
        _forget_successors,
    ),
    "revoked grants": _revoked_grants,
    # Grants that have expired without a token that expired with them.
    "empty grants": _slices(
        grants.c.grant_id,
        grants.c.expires_at,
        lambda now, _: (grants.c.expires_at <= now) & _is_empty(),
        lambda connection, grant_ids, _: _remove_empty_grants(connection, grant_ids),
    ),
    "assertions": _rows(assertions.c.digest, assertions.c.expires_at),
    "client secrets": _rows(client_secrets.c.digest, client_secrets.c.expires_at),
    "revocations": _rows(revocations.c.position, revocations.c.expires_at),
    "sessions": _rows(sessions.c.digest, sessions.c.expires_at),
    "login attempts": _rows(login_attempts.c.digest, login_attempts.c.whole_at),
}


def take_turn(connection: Connection, now: float, seconds: float) -> bool:
    """Let this process prune for so many seconds; False while another process does."""
    until = upkeep.c.taken_until
    taken = connection.execute(
        update(upkeep)
        # A turn that ends later than any can was taken before the clock was set back.
        .where(upkeep.c.task == "prune", (until <= now) | (until > now + seconds))
        .values(taken_until=now + seconds)
    )
    return taken.rowcount == 1


def keep_turn(connection: Connection, now: float, seconds: float) -> None:
    """Let this process prune for so many seconds more."""
    keeping = update(upkeep).where(upkeep.c.task == "prune")
    connection.execute(keeping.values(taken_until=now + seconds))
