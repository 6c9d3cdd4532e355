"""Queries for codes, grants, refresh tokens and access tokens.

A change that must happen once is one conditional UPDATE; its row count tells whether it happened.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict, Unpack

from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, select, update

from bearerguard.server.store.schema import (
    access_tokens,
    clients,
    codes,
    grants,
    refresh_tokens,
    stands,
)

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
    created_at: float
    expires_at: float


def add_code(connection: Connection, **values: Unpack[CodeRow]) -> None:
    """Add a code."""
    connection.execute(insert(codes).values(**values))


def find_code(connection: Connection, *digests: str) -> Row[Any] | None:
    """Return the row of a code, by its digests under each key; None if there is none."""
    return connection.execute(select(codes).where(codes.c.digest.in_(digests))).one_or_none()


def redeem_code(connection: Connection, digest: str, grant_id: str, now: float) -> bool:
    """Mark a code as redeemed; False if it was already, has expired, or its client was removed."""
    redeemed = connection.execute(
        update(codes)
        .where(
            codes.c.digest == digest,
            codes.c.redeemed_at.is_(None),
            codes.c.expires_at > now,
            exists().where(clients.c.client_id == codes.c.client_id, stands()),
        )
        .values(redeemed_at=now, grant_id=grant_id)
    )
    return redeemed.rowcount == 1


# Grants


class GrantRow(TypedDict):
    """The values of a new grant's row."""

    grant_id: str
    client_id: str
    user_id: str
    scope: str
    resources: str
    auth_time: float | None
    created_at: float
    expires_at: float


def add_grant(connection: Connection, **values: Unpack[GrantRow]) -> None:
    """Add a grant."""
    connection.execute(insert(grants).values(**values))


def find_grant(connection: Connection, grant_id: str) -> Row[Any] | None:
    """Return the row of a grant; None if there is none."""
    return connection.execute(select(grants).where(grants.c.grant_id == grant_id)).one_or_none()


def revoke_grant(connection: Connection, grant_id: str, now: float) -> bool:
    """Revoke a grant with all its tokens; False if it was revoked before, or there is none."""
    revoked = connection.execute(
        update(grants)
        .where(grants.c.grant_id == grant_id, grants.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return revoked.rowcount == 1


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
    query = select(grants.c.grant_id).where(standing).order_by(grants.c.created_at)
    found = list(connection.execute(query).scalars())
    ends = (
        select(func.max(access_tokens.c.expires_at))
        .join(grants, grants.c.grant_id == access_tokens.c.grant_id)
        .where(standing)
    )
    until: float = connection.execute(ends).scalar() or 0.0
    connection.execute(update(grants).where(standing).values(revoked_at=now))
    return found, until


def end_codes_of_user(
    connection: Connection, user_id: str, now: float, client_id: str | None = None
) -> None:
    """Let the unredeemed codes of a user expire now: for one client, or for all."""
    ending = update(codes).where(
        codes.c.user_id == user_id, codes.c.redeemed_at.is_(None), codes.c.expires_at > now
    )
    if client_id is not None:
        ending = ending.where(codes.c.client_id == client_id)
    connection.execute(ending.values(expires_at=now))


# Refresh tokens


class RefreshTokenRow(TypedDict):
    """The values of a new refresh token's row."""

    digest: str
    grant_id: str
    created_at: float
    expires_at: float
    generation: int


def add_refresh_token(connection: Connection, **values: Unpack[RefreshTokenRow]) -> None:
    """Add a refresh token."""
    connection.execute(insert(refresh_tokens).values(**values))


def find_refresh_token(connection: Connection, *digests: str) -> Row[Any] | None:
    """Return the row of a refresh token, by its digests under each key, joined with its grant.

    The grant's expiry is `granted_until`; its last generation is `last_generation`. Returns None
    if there is no such token, or if its client was removed.
    """
    query = (
        select(
            refresh_tokens,
            grants.c.client_id,
            grants.c.user_id,
            grants.c.scope,
            grants.c.resources,
            grants.c.auth_time,
            grants.c.revoked_at,
            grants.c.expires_at.label("granted_until"),
            grants.c.generation.label("last_generation"),
        )
        .join(grants, grants.c.grant_id == refresh_tokens.c.grant_id)
        .join(clients, clients.c.client_id == grants.c.client_id)
        .where(refresh_tokens.c.digest.in_(digests), stands())
    )
    return connection.execute(query).one_or_none()


def use_refresh_token(
    connection: Connection, digest: str, *, successor: str, sealed: bytes | None, now: float
) -> bool:
    """Mark a refresh token as used; False if it was used before."""
    used = connection.execute(
        update(refresh_tokens)
        .where(refresh_tokens.c.digest == digest, refresh_tokens.c.used_at.is_(None))
        .values(used_at=now, successor=successor, sealed_successor=sealed)
    )
    return used.rowcount == 1


def count_refresh(connection: Connection, grant_id: str, generation: int) -> None:
    """Store the generation of the newest token of a family; remove all but the last two."""
    connection.execute(
        update(grants).where(grants.c.grant_id == grant_id).values(generation=generation)
    )
    connection.execute(
        delete(refresh_tokens).where(
            refresh_tokens.c.grant_id == grant_id, refresh_tokens.c.generation < generation - 1
        )
    )


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
    issued_at: float
    expires_at: float


def add_access_token(connection: Connection, **values: Unpack[AccessTokenRow]) -> None:
    """Add an access token."""
    connection.execute(insert(access_tokens).values(**values))


def find_access_token(connection: Connection, *token_keys: str) -> Row[Any] | None:
    """Return the row of an access token, by its possible keys, with `grant_revoked_at`.

    The keys are the `jti` of a JWT, or the digests of an opaque token. None if there is no row.
    """
    query = (
        select(access_tokens, grants.c.revoked_at.label("grant_revoked_at"))
        .join(grants, and_(grants.c.grant_id == access_tokens.c.grant_id), isouter=True)
        .where(access_tokens.c.token_key.in_(token_keys))
    )
    return connection.execute(query).one_or_none()


def end_of_access_tokens(connection: Connection, grant_id: str) -> float:
    """Return the expiry of a grant's last access token in Unix seconds; 0 if there is none."""
    query = select(func.max(access_tokens.c.expires_at)).where(access_tokens.c.grant_id == grant_id)
    return connection.execute(query).scalar() or 0.0


def revoke_access_token(connection: Connection, token_key: str, now: float) -> bool:
    """Revoke an access token that has a row; False if it was revoked before, or has no row."""
    revoked = connection.execute(
        update(access_tokens)
        .where(access_tokens.c.token_key == token_key, access_tokens.c.revoked_at.is_(None))
        .values(revoked_at=now)
    )
    return revoked.rowcount == 1
