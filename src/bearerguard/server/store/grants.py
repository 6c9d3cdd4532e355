"""Queries for codes, grants, refresh tokens and access tokens.

A change that must happen once is one conditional UPDATE; its row count tells whether it happened.
Whoever finds a token does so by its digests, one for each secret of the server, the newest first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NotRequired, TypedDict, Unpack

from sqlalchemy import (
    ColumnElement,
    Table,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    literal,
    or_,
    select,
    tuple_,
    update,
)

from bearerguard.server.store import devices
from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    prepared_insert,
)
from bearerguard.server.store.people import sessions, users
from bearerguard.server.store.schema import (
    access_tokens,
    clients,
    codes,
    device_codes,
    grants,
    refresh_tokens,
    stands,
)


def _first(connection: Executes, query: Prepared, digests: Iterable[str]) -> Row | None:
    """Return the row of the first digest that has one."""
    for digest in digests:
        row = connection.execute(query, {"digest": digest}).one_or_none()
        if row is not None:
            return row
    return None


# Codes


class CodeRow(TypedDict):
    """The values of a new code's row."""

    digest: str
    client_id: str
    user_id: str
    redirect_uri: str
    challenge: str | None
    scope: str
    resources: str
    auth_time: float | None
    acr: str | None
    created_at: float
    expires_at: float
    dpop_jkt: NotRequired[str | None]
    amr: NotRequired[str | None]
    upstream: NotRequired[str | None]
    upstream_sid: NotRequired[str | None]


# What rows say of a login by which nothing is known but that it was here.
_HERE = {"amr": None, "upstream": None, "upstream_sid": None}
_ADD_CODE = prepared_insert(codes, "redeemed_at", "grant_id")
_FIND_CODE = Prepared(
    select(
        codes,
        # Disabling a user ends the codes that are stored; one may be stored after that.
        exists()
        .where(users.c.user_id == codes.c.user_id, users.c.disabled_at.is_not(None))
        .label("user_is_disabled"),
    ).where(codes.c.digest == bindparam("digest"))
)
_REDEEM_CODE = Prepared(
    update(codes)
    .where(
        codes.c.digest == bindparam("code"),
        codes.c.redeemed_at.is_(None),
        codes.c.expires_at > bindparam("now"),
        exists().where(clients.c.client_id == codes.c.client_id, stands()),
    )
    .values(redeemed_at=bindparam("now"), grant_id=bindparam("grant"))
)


def add_code(connection: Connection, **values: Unpack[CodeRow]) -> None:
    """Add a code."""
    connection.execute(_ADD_CODE, {"dpop_jkt": None, **_HERE, **values})


def find_code(connection: Executes, *digests: str) -> Row | None:
    """Return the row of a code, with `user_is_disabled`; None if there is none."""
    return _first(connection, _FIND_CODE, digests)


def redeem_code(connection: Connection, digest: str, grant_id: str, now: float) -> bool:
    """Mark a code as redeemed; False if it was already, has expired, or its client was removed."""
    values = {"code": digest, "grant": grant_id, "now": now}
    return connection.execute(_REDEEM_CODE, values).rowcount == 1


# Grants


class GrantRow(TypedDict):
    """The values of a new grant's row."""

    grant_id: str
    client_id: str
    user_id: str
    scope: str
    resources: str
    auth_time: float | None
    acr: str | None
    created_at: float
    expires_at: float
    access_expires_at: float | None
    cnf: NotRequired[str | None]
    amr: NotRequired[str | None]
    upstream: NotRequired[str | None]
    upstream_sid: NotRequired[str | None]


_ADD_GRANT = prepared_insert(grants, "revoked_at", "generation")
_FIND_GRANT = Prepared(select(grants).where(grants.c.grant_id == bindparam("grant")))
_REVOKE_GRANT = Prepared(
    update(grants)
    .where(grants.c.grant_id == bindparam("grant"), grants.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


def add_grant(connection: Connection, **values: Unpack[GrantRow]) -> None:
    """Add a grant."""
    connection.execute(_ADD_GRANT, {"cnf": None, **_HERE, **values})


def find_grant(connection: Executes, grant_id: str) -> Row | None:
    """Return the row of a grant; None if there is none."""
    return connection.execute(_FIND_GRANT, {"grant": grant_id}).one_or_none()


_FIND_ALLOWED = Prepared(
    select(grants.c.scope, grants.c.resources).where(
        grants.c.user_id == bindparam("user"),
        grants.c.client_id == bindparam("client"),
        grants.c.revoked_at.is_(None),
        grants.c.expires_at > bindparam("now"),
    )
)


def find_allowed(connection: Executes, user_id: str, client_id: str, now: float) -> list[Row]:
    """Return `scope` and `resources` of the grants that a client has from a user now."""
    values = {"user": user_id, "client": client_id, "now": now}
    return list(connection.execute(_FIND_ALLOWED, values))


def revoke_grant(connection: Connection, grant_id: str, now: float) -> bool:
    """Revoke a grant with all its tokens; False if it was revoked before, or there is none."""
    return connection.execute(_REVOKE_GRANT, {"grant": grant_id, "now": now}).rowcount == 1


def revoke_grants_of_user(
    connection: Connection, user_id: str, now: float, client_id: str | None = None
) -> tuple[list[str], float]:
    """Revoke the active grants of a user: to one client, or to all if `client_id` is None.

    Returns the grant ids, the oldest first, and the expiry of the last access token in Unix
    seconds, 0 if there is none.
    """
    standing = and_(grants.c.user_id == user_id, grants.c.revoked_at.is_(None))
    if client_id is not None:
        standing = and_(standing, grants.c.client_id == client_id)
    return _revoke_grants(connection, standing, now)


def _revoke_grants(
    connection: Connection, standing: ColumnElement[bool], now: float
) -> tuple[list[str], float]:
    query = select(grants.c.grant_id, grants.c.access_expires_at).where(standing)
    found = connection.execute(query.order_by(grants.c.created_at)).all()
    ends = (
        select(func.max(access_tokens.c.expires_at))
        .join(grants, grants.c.grant_id == access_tokens.c.grant_id)
        .where(standing)
    )
    last = [connection.execute(ends).scalar(), *(row.access_expires_at for row in found)]
    until = max((each for each in last if each is not None), default=0.0)
    connection.execute(update(grants).where(standing).values(revoked_at=now))
    return [row.grant_id for row in found], until


def revoke_grants_of_client(
    connection: Connection,
    client_id: str,
    place: tuple[float, str],
    *,
    now: float,
    until: float,
    most: int,
) -> tuple[int, tuple[float, str]]:
    """Revoke the next `most` active grants to a client that were made by `until`, the oldest first.

    `place` is where the slice before has ended: a time and a grant id. Returns how many were
    revoked, and where this slice ends.
    """
    created = tuple_(grants.c.created_at, grants.c.grant_id)
    found = connection.execute(
        select(grants.c.created_at, grants.c.grant_id)
        .where(
            grants.c.client_id == client_id,
            created > tuple_(literal(place[0]), literal(place[1])),
            grants.c.created_at <= until,
            grants.c.revoked_at.is_(None),
        )
        .order_by(grants.c.created_at, grants.c.grant_id)
        .limit(most)
    ).all()
    if not found:
        return 0, place
    chosen = grants.c.grant_id.in_([row.grant_id for row in found])
    connection.execute(update(grants).where(chosen).values(revoked_at=now))
    return len(found), (found[-1].created_at, found[-1].grant_id)


def end_codes_of_client(connection: Connection, client_id: str) -> None:
    """Let the unredeemed codes of a client expire, as `end_codes_of_user` does."""
    for table in (codes, device_codes):
        ending = update(table).where(table.c.client_id == client_id, table.c.redeemed_at.is_(None))
        connection.execute(ending.values(expires_at=0.0))


def revoke_grants_of_login(
    connection: Connection, user_id: str, now: float, upstream: str, sid: str | None
) -> tuple[list[str], float]:
    """Revoke the active grants of a user who logged in elsewhere; end the unredeemed codes.

    `upstream` is the issuer there, and `sid` its session, None for all of them. Returns the same as
    `revoke_grants_of_user`.
    """
    standing = and_(
        grants.c.user_id == user_id, grants.c.revoked_at.is_(None), grants.c.upstream == upstream
    )
    for table in (codes, device_codes):
        pending = and_(
            table.c.user_id == user_id, table.c.redeemed_at.is_(None), table.c.upstream == upstream
        )
        if sid is not None:
            pending = and_(pending, _is_of_session(table, sid))
        connection.execute(update(table).where(pending).values(expires_at=0.0))
    if sid is not None:
        standing = and_(standing, _is_of_session(grants, sid))
    return _revoke_grants(connection, standing, now)


def _is_of_session(table: Table, sid: str) -> ColumnElement[bool]:
    """Return the condition of a login by a session, or by one that its ID token did not name."""
    return or_(table.c.upstream_sid == sid, table.c.upstream_sid.is_(None))


def users_of_session(connection: Executes, upstream: str, sid: str) -> list[str]:
    """Return the ids of the users who have logged in by a session of an issuer elsewhere.

    What is left of a login may be a code alone, which nobody has redeemed yet.
    """
    return [
        each
        for query in _USERS_OF_SID
        for each in connection.execute(query, {"upstream": upstream, "sid": sid}).scalars()
    ]


_USERS_OF_SID = [
    Prepared(
        select(table.c.user_id)
        .where(table.c.upstream_sid == bindparam("sid"), table.c.upstream == bindparam("upstream"))
        .distinct()
    )
    for table in (sessions, codes, device_codes, grants)
]


def end_codes_of_user(connection: Connection, user_id: str, client_id: str | None = None) -> None:
    """Let the unredeemed codes of a user expire, those of devices too: for one client, or for all.

    For machines whose clocks differ, too: the codes expire at 0, and not at this machine's time.
    """
    ending = update(codes).where(codes.c.user_id == user_id, codes.c.redeemed_at.is_(None))
    if client_id is not None:
        ending = ending.where(codes.c.client_id == client_id)
    connection.execute(ending.values(expires_at=0.0))
    devices.end_of_user(connection, user_id, client_id)


# Refresh tokens


class RefreshTokenRow(TypedDict):
    """The values of a new refresh token's row."""

    digest: str
    grant_id: str
    created_at: float
    expires_at: float
    generation: int


_ADD_REFRESH_TOKEN = prepared_insert(refresh_tokens, "used_at", "successor", "sealed_successor")
_FIND_REFRESH_TOKEN = Prepared(
    select(
        refresh_tokens,
        grants.c.client_id,
        grants.c.user_id,
        grants.c.scope,
        grants.c.resources,
        grants.c.auth_time,
        grants.c.acr,
        grants.c.amr,
        grants.c.revoked_at,
        grants.c.cnf,
        grants.c.expires_at.label("granted_until"),
        grants.c.generation.label("last_generation"),
        # Disabling a user revokes the grants in a second transaction, which may have failed.
        exists()
        .where(users.c.user_id == grants.c.user_id, users.c.disabled_at.is_not(None))
        .label("user_is_disabled"),
    )
    .join(grants, grants.c.grant_id == refresh_tokens.c.grant_id)
    .join(clients, clients.c.client_id == grants.c.client_id)
    .where(refresh_tokens.c.digest == bindparam("digest"), stands())
)
_USE = (
    update(refresh_tokens)
    .where(
        refresh_tokens.c.digest == bindparam("token"),
        refresh_tokens.c.used_at.is_(None),
        exists().where(
            grants.c.grant_id == refresh_tokens.c.grant_id,
            grants.c.revoked_at.is_(None),
            clients.c.client_id == grants.c.client_id,
            stands(),
        ),
    )
    .values(
        used_at=bindparam("created_at"),
        successor=bindparam("digest"),
        sealed_successor=bindparam("sealed"),
    )
)
_COUNT = (
    update(grants)
    .where(grants.c.grant_id == bindparam("grant_id"))
    .values(
        generation=bindparam("generation"),
        # Refresh tokens that are bound stay bound to the same key.
        cnf=func.coalesce(grants.c.cnf, bindparam("cnf", type_=grants.c.cnf.type)),
        access_expires_at=case(
            (grants.c.access_expires_at > bindparam("until"), grants.c.access_expires_at),
            else_=bindparam("until"),
        ),
    )
)
# All refresh tokens of a family but the last two.
_FORGET = delete(refresh_tokens).where(
    refresh_tokens.c.grant_id == bindparam("grant_id"),
    refresh_tokens.c.generation < bindparam("oldest"),
)


def _rotation() -> Prepared:
    """Return the use of a refresh token, with what follows from it, as one statement."""
    used = _USE.returning(refresh_tokens.c.grant_id).cte("used")
    was_used = exists().select_from(used)
    new = [refresh_tokens.c[name] for name in RefreshTokenRow.__annotations__]
    values = select(*(bindparam(each.name, type_=each.type) for each in new)).where(was_used)
    return Prepared(
        select(func.count())
        .select_from(used)
        .add_cte(
            insert(refresh_tokens).from_select(new, values).cte("added"),
            _COUNT.where(was_used).cte("counted"),
            _FORGET.where(was_used).cte("forgotten"),
        )
    )


_ROTATE = _rotation()
_USE_REFRESH_TOKEN, _COUNT_REFRESH, _FORGET_USED = map(Prepared, (_USE, _COUNT, _FORGET))


def add_refresh_token(connection: Connection, **values: Unpack[RefreshTokenRow]) -> None:
    """Add a refresh token."""
    connection.execute(_ADD_REFRESH_TOKEN, values)


def find_refresh_token(connection: Executes, *digests: str) -> Row | None:
    """Return the row of a refresh token, joined with its grant.

    The grant's expiry is `granted_until`; its last generation is `last_generation`. There is
    `user_is_disabled`, too. Returns None if there is no such token, or if its client was removed.
    """
    return _first(connection, _FIND_REFRESH_TOKEN, digests)


def rotate_refresh_token(
    connection: Connection,
    digest: str,
    successor: RefreshTokenRow,
    *,
    sealed: bytes | None,
    access_expires_at: float,
    cnf: str | None = None,
) -> bool:
    """Mark a refresh token as used and add its successor, of the next generation.

    `cnf` binds the family to a key, unless it is bound to one already.

    Of the family, the newest generation is stored, when its last access token expires, and the
    last two refresh tokens.

    Returns False, without a change, if the token was used before, or if its grant was revoked or
    its client removed.
    """
    values = {
        **successor,
        "token": digest,
        "sealed": sealed,
        "until": access_expires_at,
        "oldest": successor["generation"] - 1,
        "cnf": cnf,
    }
    if connection.dialect.name == "postgresql":
        # SQLite has no such statement, and needs no message for each of several.
        return bool(connection.execute(_ROTATE, values).scalar())
    if connection.execute(_USE_REFRESH_TOKEN, values).rowcount != 1:
        return False
    for statement in (_ADD_REFRESH_TOKEN, _COUNT_REFRESH, _FORGET_USED):
        connection.execute(statement, values)
    return True


# Access tokens


class AccessTokenRow(TypedDict):
    """The values of a new access token's row."""

    token_key: str
    client_id: str
    grant_id: str | None
    subject: str
    scope: str
    audience: str
    auth_time: NotRequired[float | None]
    acr: NotRequired[str | None]
    act: NotRequired[str | None]
    cnf: NotRequired[str | None]
    amr: NotRequired[str | None]
    issued_at: float
    expires_at: float


# What a row may leave out.
_OPTIONAL = dict.fromkeys(("auth_time", "acr", "act", "cnf", "amr"))
_ADD_ACCESS_TOKEN = prepared_insert(access_tokens, "revoked_at")
_KEEP_ACCESS_TOKEN = prepared_insert(access_tokens, "revoked_at", unless_known=True)
_FIND_ACCESS_TOKEN = Prepared(
    select(access_tokens, grants.c.revoked_at.label("grant_revoked_at"))
    .join(grants, grants.c.grant_id == access_tokens.c.grant_id, isouter=True)
    .where(access_tokens.c.token_key == bindparam("digest"))
)
_JWT_STATE = Prepared(
    select(
        exists()
        .where(
            access_tokens.c.token_key == bindparam("token"), access_tokens.c.revoked_at.is_not(None)
        )
        .label("revoked"),
        exists()
        .where(grants.c.grant_id == bindparam("grant"), grants.c.revoked_at.is_(None))
        .label("granted"),
    )
)
_END_OF_ACCESS = Prepared(
    select(
        grants.c.access_expires_at,
        select(func.max(access_tokens.c.expires_at))
        .where(access_tokens.c.grant_id == grants.c.grant_id)
        .scalar_subquery()
        .label("stored"),
    ).where(grants.c.grant_id == bindparam("grant"))
)
_REVOKE_ACCESS_TOKEN = Prepared(
    update(access_tokens)
    .where(access_tokens.c.token_key == bindparam("token"), access_tokens.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


def add_access_token(connection: Connection, **values: Unpack[AccessTokenRow]) -> None:
    """Add an access token."""
    connection.execute(_ADD_ACCESS_TOKEN, {**_OPTIONAL, **values})


def keep_access_token(connection: Connection, **values: Unpack[AccessTokenRow]) -> None:
    """Add an access token unless it has a row already."""
    connection.execute(_KEEP_ACCESS_TOKEN, {**_OPTIONAL, **values})


def find_access_token(connection: Executes, *token_keys: str) -> Row | None:
    """Return the row of an access token, by its possible keys, with `grant_revoked_at`.

    The keys are the `jti` of a JWT, or the digests of an opaque token. None if there is no row.
    """
    return _first(connection, _FIND_ACCESS_TOKEN, token_keys)


def jwt_state(connection: Executes, token_id: str, grant_id: str | None) -> tuple[bool, bool]:
    """Return whether a JWT was revoked by itself, and whether its grant is valid."""
    values = {"token": token_id, "grant": grant_id}
    revoked, granted = connection.execute(_JWT_STATE, values).all()[0]
    return bool(revoked), bool(granted)


def end_of_access_tokens(connection: Connection, grant_id: str) -> float:
    """Return the expiry of a grant's last access token in Unix seconds; 0 if there is none."""
    row = connection.execute(_END_OF_ACCESS, {"grant": grant_id}).first()
    return 0.0 if row is None else max(row.access_expires_at or 0.0, row.stored or 0.0)


def revoke_access_token(connection: Connection, token_key: str, now: float) -> bool:
    """Revoke an access token that has a row; False if it was revoked before, or has no row."""
    return connection.execute(_REVOKE_ACCESS_TOKEN, {"token": token_key, "now": now}).rowcount == 1
