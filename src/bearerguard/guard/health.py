"""What `Guard.health` says of an issuer's keys and status lists, and of a source's last failure.

Apart from what it describes, since few requests ask for it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LastError:
    """The last failure.

    Attributes:
        kind: why, as in `FetchRecord.error`.
        at: when, in Unix seconds.
    """

    kind: str
    at: float


@dataclass(frozen=True, slots=True)
class KeysHealth:
    """The state of an issuer's keys.

    Attributes:
        status: `static`, `absent` (not fetched yet), `fresh`, `stale` (the last fetch failed, or is
            overdue), `dead` (too old), or `unused` (all tokens are introspected).
        ready: whether tokens can be validated with them now: not `absent` or `dead`.
        fresh: whether they are as new as they should be: not `stale` either.
        keys: how many keys there are.
        age: the seconds since they were fetched, None for static or absent ones.
        failures: how many fetches in a row have failed.
        last_success: when they were last fetched, in Unix seconds; None if they never were.
        last_error: why and when a fetch last failed, also if one succeeded later.
        latencies: how many seconds the last five fetches took, the newest first.
        tenant_of: the url of the pattern that it is a tenant of, else None.
    """

    status: str
    ready: bool
    fresh: bool
    keys: int = 0
    age: float | None = None
    failures: int = 0
    last_success: float | None = None
    last_error: LastError | None = None
    latencies: tuple[float, ...] = ()
    tenant_of: str | None = None


@dataclass(frozen=True, slots=True)
class StatusListHealth:
    """The state of a status list that tokens have named.

    Attributes:
        issuer: the url of its issuer.
        status: `fresh`, `stale` (the last fetch failed, and the former list is used still), `dead`
            (it cannot be fetched, and its tokens get 503), or `unused` (no token names it now, so
            that it is not fetched).
        ready: whether its tokens can be checked, as far as is known: it is not `dead`.
        fresh: whether no fetch of it fails.
        statuses: how many statuses it has, 0 if none may be used.
        age: the seconds since it was fetched, None if it is not used.
        failures: how many fetches in a row have failed.
        last_success: when it was last fetched, in Unix seconds; None if it never was.
        last_error: why and when a fetch last failed, also if one succeeded later.
        latencies: how many seconds the last five fetches took, the newest first.
    """

    issuer: str
    status: str
    ready: bool
    fresh: bool
    statuses: int
    age: float | None
    failures: int
    last_success: float | None
    last_error: LastError | None
    latencies: tuple[float, ...]
