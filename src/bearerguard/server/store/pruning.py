"""Pruning: removes expired and revoked rows in slices, each in one transaction.

The rows of a slice are found by an index, in a transaction that reads. The transaction that removes
them has a bounded number of rows, dependent rows included, so that it keeps no request waiting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy import (
    Column,
    ColumnElement,
    Table,
    and_,
    delete,
    exists,
    or_,
    select,
    update,
)

from bearerguard.server.store.clients import remove as remove_client
from bearerguard.server.store.connection import Connection, Executes
from bearerguard.server.store.people import (
    consents,
    login_attempts,
    personal_tokens,
    sessions,
)
from bearerguard.server.store.schema import (
    access_tokens,
    assertions,
    client_secrets,
    clients,
    codes,
    device_codes,
    grants,
    pushed_requests,
    refresh_tokens,
    registrations,
    revocations,
    stands,
    upkeep,
)

# Seconds after its expiry for which a replayed code is still recognised, and a device learns that
# its code has expired.
_CODE_MEMORY = 3600.0
# Seconds after its expiry for which a revoked token keeps its row: the clocks of the machines
# differ, and without its row a JWT is valid.
_SLACK = 600.0
# Grants in one slice. The number of their tokens is bounded separately.
_GRANTS = 50
# Seconds until an unused client is looked at again that has a grant: it is kept.
_LOOK_AGAIN = 86_400.0


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows that one transaction removes.

    Attributes:
        remove: removes them and returns their number.
        last: whether no further slice is due now.
    """

    remove: Callable[[Connection], int]
    last: bool


# Called with the time, the refresh grace in seconds and the maximum number of rows; returns the
# next slice, None if nothing is due.
Kind: TypeAlias = Callable[[Executes, float, float, int], Slice | None]
# Called with the time and the refresh grace; returns the condition of the rows that are due.
_Condition: TypeAlias = Callable[[float, float], ColumnElement[bool]]
# Called with the keys of rows, the condition that they must still meet, and the time.
_Action: TypeAlias = Callable[[Connection, Sequence[Any], ColumnElement[bool], float], int]


def _slices(key: Column[Any], at: Column[Any], is_due: _Condition, act: _Action) -> Kind:
    """Return a kind that calls `act` for the rows that are due, the oldest by `at` first."""

    def look(connection: Executes, now: float, grace: float, most: int) -> Slice | None:
        due = is_due(now, grace)
        query = select(key).where(due).order_by(at).limit(most)
        found = connection.execute(query).scalars()
        if not found:
            return None
        return Slice(lambda writing: act(writing, found, due, now), last=len(found) < most)

    return look


def _rows(key: Column[Any], at: Column[Any], is_due: _Condition | None = None) -> Kind:
    """Return a kind that removes the rows that are due; by default those whose `at` has passed."""
    table: Table = key.table

    def remove(
        connection: Connection, keys: Sequence[Any], due: ColumnElement[bool], now: float
    ) -> int:
        # The condition again: a row may have been renewed since it was found.
        removing = delete(table).where(key.in_(keys), due)
        if table not in _TOKENS:
            return connection.execute(removing).rowcount
        grant_ids = connection.execute(removing.returning(table.c.grant_id)).scalars()
        return len(grant_ids) + _remove_empty_grants(connection, grant_ids, now)

    return _slices(key, at, is_due or (lambda now, _: at <= now), remove)


# The tables of a grant's tokens, with their primary keys. A grant that has expired stays until the
# personal tokens end that its client made by it: what revokes the grant ends them, too.
_TOKENS: Mapping[Table, Column[Any]] = {
    refresh_tokens: refresh_tokens.c.digest,
    access_tokens: access_tokens.c.token_key,
    personal_tokens: personal_tokens.c.token_id,
}


def _is_empty(now: float) -> ColumnElement[bool]:
    """Return the condition that a grant has no valid token, so that nothing depends on it."""
    ends = grants.c.access_expires_at
    return and_(
        or_(ends.is_(None), ends <= now),
        *(~exists().where(table.c.grant_id == grants.c.grant_id) for table in _TOKENS),
    )


def _remove_empty_grants(
    connection: Connection, grant_ids: Sequence[str | None], now: float = math.inf
) -> int:
    """Remove those of some grants that have no valid token; JWTs that expire by `now` are none."""
    known = sorted({each for each in grant_ids if each is not None})
    if not known:
        return 0
    removing = delete(grants).where(grants.c.grant_id.in_(known), _is_empty(now))
    return connection.execute(removing).rowcount


def _grants_with_tokens(
    connection: Executes, which: ColumnElement[bool], at: Column[Any], most: int
) -> Slice | None:
    """Return a slice: tokens of some grants, and those of the grants that then have none left."""
    query = select(grants.c.grant_id).where(which).order_by(at).limit(_GRANTS)
    grant_ids = connection.execute(query).scalars()
    if not grant_ids:
        return None
    found: dict[Table, Sequence[Any]] = {}
    for table, key in _TOKENS.items():
        left = most - sum(map(len, found.values()))
        of_grants = select(key).where(table.c.grant_id.in_(grant_ids)).limit(left)
        found[table] = connection.execute(of_grants).scalars()

    def remove(writing: Connection) -> int:
        removed = sum(
            writing.execute(delete(table).where(_TOKENS[table].in_(keys))).rowcount
            for table, keys in found.items()
            if keys
        )
        return removed + _remove_empty_grants(writing, grant_ids)

    return Slice(remove, last=False)


def _revoked_grants(connection: Executes, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove revoked grants with their tokens: a token without a row is refused as unknown."""
    revoked_at = grants.c.revoked_at
    return _grants_with_tokens(connection, revoked_at.is_not(None), revoked_at, most)


def removed_clients(connection: Executes, _now: float, _grace: float, most: int) -> Slice | None:
    """Remove the rows that belong to removed clients, and then the clients' own rows."""
    query = select(clients.c.client_id).where(clients.c.access_lifetime < 0.0)
    client_id = connection.execute(query.limit(1)).scalar()
    if client_id is None:
        return None
    of_client = grants.c.client_id == client_id
    found = _grants_with_tokens(connection, of_client, grants.c.client_id, most)
    if found is not None:
        return found
    for key in (
        access_tokens.c.token_key,
        codes.c.digest,
        device_codes.c.digest,
        consents.c.user_id,
        personal_tokens.c.token_id,
    ):
        table: Table = key.table
        its_own = table.c.client_id == client_id
        keys = connection.execute(select(key).where(its_own).limit(most)).scalars()
        if keys:
            removing = delete(table).where(its_own, key.in_(keys))
            break
    else:
        # Rows that a concurrent request has added are removed by the cascade.
        removing = delete(clients).where(clients.c.client_id == client_id, ~stands())
    return Slice(lambda writing: writing.execute(removing).rowcount, last=False)


def _remove_unused_clients(
    connection: Connection, client_ids: Sequence[Any], due: ColumnElement[bool], now: float
) -> int:
    """Remove clients that nobody uses; look again in a day at those that still have a grant."""
    its_own = registrations.c.client_id
    using = (grants, codes, device_codes, personal_tokens)
    used = or_(*(exists().where(table.c.client_id == its_own) for table in using))
    chosen = its_own.in_(client_ids)
    connection.execute(
        update(registrations).where(chosen, due, used).values(expires_at=now + _LOOK_AGAIN)
    )
    unused = connection.execute(select(its_own).where(chosen, due)).scalars()
    for client_id in unused:
        remove_client(connection, client_id)
    if unused:
        connection.execute(delete(registrations).where(its_own.in_(unused)))
    return 0  # pruning counts the rows when it removes them


def _remove_attempts(
    connection: Connection, digests: Sequence[Any], due: ColumnElement[bool], _now: float
) -> int:
    """Remove limits that have recovered; those that an attempt is charged to at the moment stay.

    An attempt locks several, in an order of its own: who waited for one could wait for ever.
    """
    digest = login_attempts.c.digest
    free = select(digest).where(digest.in_(digests), due).with_for_update(skip_locked=True)
    return connection.execute(delete(login_attempts).where(digest.in_(free))).rowcount


def _forget_successors(
    connection: Connection, keys: Sequence[Any], due: ColumnElement[bool], _now: float
) -> int:
    """Remove the sealed successors of refresh tokens whose rows stay."""
    forgetting = update(refresh_tokens).where(refresh_tokens.c.digest.in_(keys), due)
    connection.execute(forgetting.values(sealed_successor=None))
    return 0


# The order matters: a grant is removed with its last token.
KINDS: Mapping[str, Kind] = {
    "removed clients": removed_clients,
    "codes": _rows(
        codes.c.digest, codes.c.expires_at, lambda now, _: codes.c.expires_at <= now - _CODE_MEMORY
    ),
    "pushed requests": _rows(pushed_requests.c.digest, pushed_requests.c.expires_at),
    "device codes": _rows(
        device_codes.c.digest,
        device_codes.c.expires_at,
        lambda now, _: device_codes.c.expires_at <= now - _CODE_MEMORY,
    ),
    "access tokens": _rows(
        access_tokens.c.token_key,
        access_tokens.c.expires_at,
        lambda now, _: (
            (access_tokens.c.expires_at <= now)
            & (access_tokens.c.revoked_at.is_(None) | (access_tokens.c.expires_at <= now - _SLACK))
        ),
    ),
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
    # For refresh tokens of earlier versions, which do not contain their generation.
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
    # Expired grants whose tokens were removed before them.
    "empty grants": _slices(
        grants.c.grant_id,
        grants.c.expires_at,
        lambda now, _: (grants.c.expires_at <= now) & _is_empty(now),
        lambda connection, grant_ids, _, now: _remove_empty_grants(connection, grant_ids, now),
    ),
    "assertions": _rows(assertions.c.digest, assertions.c.expires_at),
    "client secrets": _rows(client_secrets.c.digest, client_secrets.c.expires_at),
    "revocations": _rows(revocations.c.position, revocations.c.expires_at),
    "sessions": _rows(sessions.c.digest, sessions.c.expires_at),
    "personal tokens": _rows(personal_tokens.c.token_id, personal_tokens.c.expires_at),
    "login attempts": _slices(
        login_attempts.c.digest,
        login_attempts.c.whole_at,
        lambda now, _: login_attempts.c.whole_at <= now,
        _remove_attempts,
    ),
    # After the grants and the codes: the rows of these clients are removed the next time.
    "unused clients": _slices(
        registrations.c.client_id,
        registrations.c.expires_at,
        lambda now, _: registrations.c.expires_at <= now,
        _remove_unused_clients,
    ),
}


def take_task(connection: Connection, now: float, seconds: float) -> bool:
    """Take the task of pruning for `seconds`; False while another process has it."""
    until = upkeep.c.taken_until
    taken = connection.execute(
        update(upkeep)
        # An end beyond `now + seconds` means that the clock was set back since.
        .where(upkeep.c.task == "prune", (until <= now) | (until > now + seconds))
        .values(taken_until=now + seconds)
    )
    return taken.rowcount == 1


def keep_task(connection: Connection, now: float, seconds: float) -> None:
    """Keep the task of pruning for `seconds` from now."""
    keeping = update(upkeep).where(upkeep.c.task == "prune")
    connection.execute(keeping.values(taken_until=now + seconds))
