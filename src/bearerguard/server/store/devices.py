"""Queries for device codes (RFC 8628).

A change that must happen once is one conditional UPDATE; its row count tells whether it happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict, Unpack

from sqlalchemy import Double, bindparam, case, exists, or_, select, update

from bearerguard.server.store.connection import (
    Connection,
    Executes,
    Prepared,
    Row,
    prepared_insert,
)
from bearerguard.server.store.schema import clients, device_codes, stands


class DeviceCodeRow(TypedDict):
    """The values of a new device code's row."""

    digest: str
    user_code: str
    client_id: str
    scope: str
    resources: str
    created_at: float
    expires_at: float
    poll_interval: float


_THIS = device_codes.c.digest == bindparam("code")
_NOW = bindparam("now", type_=Double)
_ADD = prepared_insert(
    device_codes,
    *("polled_at", "decided_at", "user_id", "auth_time", "acr", "amr", "upstream", "upstream_sid"),
    "redeemed_at",
    unless_known=True,
)
_FIND = Prepared(select(device_codes).where(device_codes.c.digest == bindparam("digest")))
_FIND_USER_CODE = Prepared(
    select(device_codes).where(
        device_codes.c.user_code == bindparam("digest"),
        device_codes.c.decided_at.is_(None),
        device_codes.c.expires_at > _NOW,
    )
)
_MORE, _MOST = bindparam("more", type_=Double), bindparam("most", type_=Double)
_LATEST = bindparam("latest", type_=Double)
_POLLED_AT = device_codes.c.polled_at
_POLL = Prepared(
    update(device_codes)
    .where(
        _THIS,
        or_(
            _POLLED_AT.is_(None),
            _POLLED_AT + device_codes.c.poll_interval <= _LATEST,
            # By a machine whose clock is ahead, or before the clock was set back.
            _POLLED_AT > _LATEST,
        ),
    )
    .values(polled_at=_NOW)
)
_SLOW_DOWN = Prepared(
    update(device_codes)
    .where(_THIS, device_codes.c.poll_interval < _MOST)
    .values(
        poll_interval=case(
            (device_codes.c.poll_interval + _MORE > _MOST, _MOST),
            else_=device_codes.c.poll_interval + _MORE,
        )
    )
)
_DECIDE = Prepared(
    update(device_codes)
    .where(_THIS, device_codes.c.decided_at.is_(None), device_codes.c.expires_at > _NOW)
    .values(
        decided_at=_NOW,
        user_id=bindparam("user"),
        auth_time=bindparam("since", type_=Double),
        acr=bindparam("context", type_=device_codes.c.acr.type),
        amr=bindparam("methods", type_=device_codes.c.amr.type),
        upstream=bindparam("issuer", type_=device_codes.c.upstream.type),
        upstream_sid=bindparam("sid", type_=device_codes.c.upstream_sid.type),
    )
)
_REDEEM = Prepared(
    update(device_codes)
    .where(
        _THIS,
        device_codes.c.user_id.is_not(None),
        device_codes.c.redeemed_at.is_(None),
        device_codes.c.expires_at > _NOW,
        exists().where(clients.c.client_id == device_codes.c.client_id, stands()),
    )
    .values(redeemed_at=_NOW)
)


def add(connection: Connection, **values: Unpack[DeviceCodeRow]) -> bool:
    """Add a device code; False, without a change, if another has the same user code."""
    return connection.execute(_ADD, values).rowcount == 1


def find(connection: Executes, digests: Iterable[str]) -> Row | None:
    """Return the row of the first digest of a device code that has one, or None."""
    for digest in digests:
        row = connection.execute(_FIND, {"digest": digest}).one_or_none()
        if row is not None:
            return row
    return None


def find_undecided(connection: Executes, user_codes: Iterable[str], now: float) -> Row | None:
    """Return the row of a user code about which somebody may decide, by its digests; or None."""
    for digest in user_codes:
        row = connection.execute(_FIND_USER_CODE, {"digest": digest, "now": now}).one_or_none()
        if row is not None:
            return row
    return None


def poll(
    connection: Connection, digest: str, now: float, *, tolerance: float, more: float, most: float
) -> bool:
    """Note a poll.

    Returns False if it came more than `tolerance` seconds too soon after the last that did not.
    Then the interval between two polls is `more` seconds longer, and `most` at the most.
    """
    values = {"code": digest, "now": now, "latest": now + tolerance}
    if connection.execute(_POLL, values).rowcount:
        return True
    connection.execute(_SLOW_DOWN, {"code": digest, "more": more, "most": most})
    return False


def decide(
    connection: Connection,
    digest: str,
    now: float,
    *,
    user_id: str | None = None,
    auth_time: float | None = None,
    acr: str | None = None,
    amr: str | None = None,
    upstream: str | None = None,
    upstream_sid: str | None = None,
) -> bool:
    """Store who has allowed it, nobody if it is refused; False if it was decided or has expired."""
    values = {
        "code": digest,
        "now": now,
        "user": user_id,
        "since": auth_time,
        "context": acr,
        "methods": amr,
        "issuer": upstream,
        "sid": upstream_sid,
    }
    return connection.execute(_DECIDE, values).rowcount == 1


def redeem(connection: Connection, digest: str, now: float) -> bool:
    """Mark an allowed code as redeemed.

    Returns False if it was already, is not allowed, has expired, or its client was removed.
    """
    return connection.execute(_REDEEM, {"code": digest, "now": now}).rowcount == 1


def end_of_user(connection: Connection, user_id: str, client_id: str | None = None) -> None:
    """Let what a user has allowed devices expire, unless it is redeemed: for one client, or all.

    For machines whose clocks differ, too: the codes expire at 0, and not at this machine's time.
    """
    ending = update(device_codes).where(
        device_codes.c.user_id == user_id, device_codes.c.redeemed_at.is_(None)
    )
    if client_id is not None:
        ending = ending.where(device_codes.c.client_id == client_id)
    connection.execute(ending.values(expires_at=0.0))
