"""Queries that list grants, the newest first, in pages that cost the same wherever they begin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    ScalarSelect,
    bindparam,
    func,
    literal_column,
    or_,
    select,
    tuple_,
)

from bearerguard.server.store.connection import Executes, Prepared, Row
from bearerguard.server.store.people import consents
from bearerguard.server.store.schema import access_tokens, clients, grants, refresh_tokens, stands

# Rows of one query. It is part of the statement: PostgreSQL plans by it.
MOST_IN_PAGE = 200
# Grants, and remembered consents, that the page of one user is made of.
MOST_OF_USER = 1000


def _newest(column: ColumnElement[Any]) -> ScalarSelect[Any]:
    """Return the maximum of a column of a grant's tokens."""
    table: Any = column.table
    return select(func.max(column)).where(table.c.grant_id == grants.c.grant_id).scalar_subquery()


def _is_live() -> ColumnElement[bool]:
    """Return the condition that a grant has a valid token, so that it is an access at all."""
    now: BindParameter[float] = bindparam("now")
    return or_(
        grants.c.access_expires_at > now,
        _newest(refresh_tokens.c.expires_at) > now,
        _newest(access_tokens.c.expires_at) > now,
    )


def _listed(most: int, *conditions: ColumnElement[bool]) -> Prepared:
    place = tuple_(grants.c.created_at, grants.c.grant_id)
    return Prepared(
        select(
            grants.c.grant_id,
            grants.c.client_id,
            clients.c.name.label("client_name"),
            grants.c.user_id,
            grants.c.scope,
            grants.c.resources,
            grants.c.created_at,
            grants.c.expires_at,
            # Each refresh makes a token: nothing more has to be written to know it.
            _newest(refresh_tokens.c.created_at).label("refreshed_at"),
        )
        .join(clients, clients.c.client_id == grants.c.client_id)
        .where(
            *conditions,
            place < tuple_(bindparam("created_at"), bindparam("grant")),
            grants.c.revoked_at.is_(None),
            stands(),
            _is_live(),
        )
        .order_by(grants.c.created_at.desc(), grants.c.grant_id.desc())
        .limit(literal_column(str(most)))
    )


_OF_USER = grants.c.user_id == bindparam("user")
_OF_CLIENT = grants.c.client_id == bindparam("client")
_ALL = _listed(MOST_IN_PAGE)
_USERS = _listed(MOST_IN_PAGE, _OF_USER)
_CLIENTS = _listed(MOST_IN_PAGE, _OF_CLIENT)
_USERS_TO_CLIENT = _listed(MOST_IN_PAGE, _OF_USER, _OF_CLIENT)
# One more than is shown tells whether there are more.
_FOR_PAGE = _listed(MOST_OF_USER + 1, _OF_USER)
_REMEMBERED = Prepared(
    select(consents.c.client_id, clients.c.name.label("client_name"))
    .join(clients, clients.c.client_id == consents.c.client_id)
    .where(consents.c.user_id == bindparam("user"), stands())
    .order_by(consents.c.client_id)
    .limit(literal_column(str(MOST_OF_USER)))
)
# Before every grant: no time is as late.
START: tuple[float, str] = (1e18, "")


def grants_after(
    connection: Executes,
    place: tuple[float, str],
    *,
    now: float,
    user_id: str | None,
    client_id: str | None,
) -> list[Row]:
    """Return at most `MOST_IN_PAGE` live grants that follow a place in the order of the list."""
    values: Mapping[str, Any] = {
        **_at(place, now),
        **({} if user_id is None else {"user": user_id}),
        **({} if client_id is None else {"client": client_id}),
    }
    if user_id is None:
        statement = _ALL if client_id is None else _CLIENTS
    else:
        statement = _USERS if client_id is None else _USERS_TO_CLIENT
    return connection.execute(statement, values).all()


def grants_of_user(connection: Executes, user_id: str, now: float) -> list[Row]:
    """Return the newest live grants of a user: one more than `MOST_OF_USER` at most."""
    return connection.execute(_FOR_PAGE, {**_at(START, now), "user": user_id}).all()


def remembered(connection: Executes, user_id: str) -> list[Row]:
    """Return the clients, with their names, whose consent a user has let the server remember."""
    return connection.execute(_REMEMBERED, {"user": user_id}).all()


def _at(place: tuple[float, str], now: float) -> dict[str, Any]:
    return {"created_at": place[0], "grant": place[1], "now": now}
