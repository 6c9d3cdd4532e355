"""Login throttling: limits of login attempts for each account, address and known browser.

A limit recovers with time (the generic cell rate algorithm: one number for each key). An attempt is
charged before its password is checked, so that concurrent requests cannot exceed the limit. The
store contains keyed digests instead of names and addresses.
"""

from __future__ import annotations

import ipaddress
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Double, bindparam, case, delete, select, update
from sqlalchemy.dialects import postgresql

from bearerguard.runtime.messages import StoreFailed
from bearerguard.runtime.rate_limits import Charge, RateLimit, ThrottleStore
from bearerguard.runtime.reporting.outage import Outage
from bearerguard.server.audit import Audit
from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.connection import Connection, Prepared
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import login_attempts, remove_expired

# The IPv6 networks that a site may have as a whole (RFC 6177), with their limits as multiples of
# that of one address. An attacker may choose any address of them.
_IPV6_NETWORKS = {64: 1, 56: 4, 48: 16}
# What a translator to IPv6 puts before the IPv4 address of a client (RFC 6052 §2.1).
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login attempt: whether it may be made, and the limits that it was charged to.

    Attributes:
        wait: 0 if it may be made, otherwise the whole seconds until the next attempt.
        store: the store that charged it, which alone can undo that.
        own: the charges for its account or browser; `forgive` resets these limits. Of an attempt
            that names no login, all of its charges: others share these limits, and only
            `take_back` may undo them.
        by_address: the charges of a login for its address; `forgive` gives back this attempt alone.
    """

    wait: int
    store: ThrottleStore
    own: tuple[Charge, ...] = ()
    by_address: tuple[Charge, ...] = ()


# From one address: ten guesses, then 12 an hour.
PER_ACCOUNT = RateLimit(attempts=10, interval=300)
# Many people may share an address.
PER_ADDRESS = RateLimit(attempts=50, interval=20)
# The limit of an account from all addresses together, as a multiple of that from one address: one
# attacker's address cannot use up the owner's attempts.
_ADDRESSES = 3
# Seconds by which the clocks of machines over one database may differ.
_SKEW = 600.0
# The limit that requests without a known address share, as a multiple of that of one address.
_UNKNOWN_ADDRESS = 5


class Throttle:
    """Charges login attempts to their limits.

    With a shared store, such as Redis, that store is used; while it fails, the database is. Each
    has a state of its own: an attacker gets the allowance of a limit once more in an outage, and
    nobody is locked out by it.

    Args:
        database: where the limits' state is stored if there is no other store, or it fails.
        secret: derives the key of the digests.
        clock: returns Unix seconds.
        audit: receives the events about the shared store.
        shared: the shared store.
        per_account: the limit of each login name from one address, and of each known browser.
            It applies to names without an account too. From all addresses together, the limit
            is three times as high.
        per_address: the limit of each address; an IPv6 /64 counts as one, and the limits of its
            /56 and /48 are 4 and 16 times as high. Requests without a known address (loopback, a
            Unix socket) share a limit that is five times as high.
    """

    def __init__(
        self,
        database: Database,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        audit: Audit,
        shared: ThrottleStore | None = None,
        per_account: RateLimit = PER_ACCOUNT,
        per_address: RateLimit = PER_ADDRESS,
    ) -> None:
        self._secret = secret
        self._audit = audit
        self._shared = shared
        self._database = DatabaseThrottle(database, clock)
        self._outage = Outage(time.monotonic)
        self._per_account = per_account
        self._per_address = per_address

    def charge(self, login: str, address: str, browser: str = "") -> Attempt:
        """Charge an attempt; the result's `wait` is 0 if it may be made.

        An attempt that is refused is charged to nothing, and adds no rows. A known browser has a
        limit of its own; when that is used up, the attempt is charged like any other.
        """
        if self._shared is not None:
            try:
                attempt = self._charge(self._shared, login, address, browser)
            except StoreFailed as error:
                self._failed(error)
            else:
                self._succeeded()
                return attempt
        return self._charge(self._database, login, address, browser)

    def charge_address(self, purpose: str, address: str) -> Attempt:
        """Charge an attempt that names no account, such as a login elsewhere, to its address.

        Attempts of another purpose, and those with passwords, have limits of their own. The
        result's `wait` is 0 if it may be made; `take_back` undoes its charges.
        """
        return self._charged(*self._by_address(purpose, sites_of(address), self._per_address))

    def charge_site(
        self,
        purpose: str,
        address: str,
        *,
        by_address: RateLimit,
        in_all: RateLimit,
        whose: str = "",
    ) -> int:
        """Charge what is no login to the limit of its address, and to that of all addresses.

        The latter is one for each `whose`, such as a client: a flood for one leaves the others
        theirs. Returns 0, or the whole seconds until the next attempt.
        """
        return self._charged(
            *self._by_address(purpose, sites_of(address), by_address),
            Charge(self._secret.digest(f"{purpose} in all", whose), in_all),
        ).wait

    def charge_one(self, purpose: str, who: str, limit: RateLimit) -> int:
        """Charge what is no login to one limit; return 0, or the seconds to the next attempt."""
        return self._charged(Charge(self._secret.digest(purpose, who), limit)).wait

    def charge_guess(
        self,
        purpose: str,
        user_id: str,
        address: str,
        *,
        by_user: RateLimit,
        by_address: RateLimit,
        in_all: RateLimit,
    ) -> Attempt:
        """Charge what a user may have guessed to the limits of the user, the address and all.

        The result's `wait` is 0 if it may be checked; `take_back` undoes the charges of one that
        was right.
        """
        digest = self._secret.digest
        return self._charged(
            Charge(digest(f"{purpose} by user", user_id), by_user),
            *self._by_address(purpose, sites_of(address), by_address),
            Charge(digest(f"{purpose} in all", ""), in_all),
        )

    def _charged(self, *charges: Charge) -> Attempt:
        """Charge all limits or none, in the shared store or else in the database."""
        if self._shared is not None:
            try:
                wait = self._shared.charge(charges)
            except StoreFailed as error:
                self._failed(error)
            else:
                self._succeeded()
                return Attempt(math.ceil(wait), self._shared, own=charges)
        wait = self._database.charge(charges)
        return Attempt(math.ceil(wait), self._database, own=charges)

    def forgive(self, attempt: Attempt) -> None:
        """Reset the limits of a successful attempt's account or browser."""
        self._release(
            attempt, reset=[each.key for each in attempt.own], give_back=attempt.by_address
        )

    def take_back(self, attempt: Attempt) -> None:
        """Undo the charges of an attempt whose password was not checked."""
        self._release(attempt, give_back=(*attempt.by_address, *attempt.own))

    def _release(
        self, attempt: Attempt, *, reset: Sequence[str] = (), give_back: Sequence[Charge]
    ) -> None:
        try:
            attempt.store.release(reset=reset, give_back=give_back)
        except StoreFailed as error:
            self._failed(error)  # what stays charged recovers with time

    def _succeeded(self) -> None:
        if restored := self._outage.succeeded():
            self._audit.emit("throttle_restored", outage=restored)

    def _failed(self, error: StoreFailed) -> None:
        self._outage.failed()
        self._audit.emit("throttle_unavailable", cause=str(error))

    def _charge(self, store: ThrottleStore, login: str, address: str, browser: str) -> Attempt:
        if browser:
            key = self._secret.digest("attempt by browser", browser)
            of_browser = (Charge(key, self._per_account),)
            if not store.charge(of_browser):
                return Attempt(0, store, own=of_browser)
        sites = sites_of(address)
        by_address = self._by_address("attempt", sites, self._per_address)
        own = self._own(login, sites)
        wait = store.charge((*by_address, *own))
        if wait:
            return Attempt(math.ceil(wait), store)
        return Attempt(0, store, own=own, by_address=by_address)

    def _own(self, login: str, sites: Sites) -> tuple[Charge, ...]:
        """Return what an attempt for a login name is charged to."""
        digest = self._secret.digest
        everywhere = Charge(
            digest("attempt by account", login), self._per_account.times(_ADDRESSES)
        )
        if sites.are_shared:
            return (everywhere,)
        here = digest("attempt by account and address", f"{sites.networks[0]} {login}")
        return (Charge(here, self._per_account), everywhere)

    def _by_address(self, purpose: str, sites: Sites, limit: RateLimit) -> tuple[Charge, ...]:
        """Return the charges of an address, the smallest network first."""
        return tuple(
            Charge(self._secret.digest(f"{purpose} by address", network), limit.times(factor))
            for network, factor in zip(sites.networks, sites.factors, strict=True)
        )


class DatabaseThrottle:
    """The state of limits in the server's database."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def charge(self, charges: Sequence[Charge]) -> float:
        """Charge all keys, or none if the limit of one is used up; see `ThrottleStore`."""
        now = self._clock()
        try:
            with self._database.write(concurrent=True) as connection:
                for each in charges:
                    _charge(connection, each.key, each.limit, now)
                # At the end: it waits for no row that another attempt has charged.
                remove_expired(connection, login_attempts.c.whole_at, now)
        except _UsedUp as used_up:
            return used_up.wait
        return 0.0

    def release(self, *, reset: Sequence[str] = (), give_back: Sequence[Charge] = ()) -> None:
        """Let the limits of the keys `reset` recover fully, and undo the charges `give_back`."""
        # In the order in which attempts are charged, so that PostgreSQL sees no deadlock.
        with self._database.write(concurrent=True) as connection:
            for each in give_back:
                values = {"key": each.key, "interval": each.limit.interval}
                connection.execute(_GIVE_BACK, values)
            for key in reset:
                connection.execute(_RESET, {"key": key})

    def close(self) -> None:
        """Do nothing: the database belongs to the server."""


_WHOLE_AT = login_attempts.c.whole_at
_THIS = login_attempts.c.digest == bindparam("key")
_FIND = Prepared(select(_WHOLE_AT).where(_THIS))
_RESET = Prepared(delete(login_attempts).where(_THIS))
_GIVE_BACK = Prepared(
    update(login_attempts).where(_THIS).values(whole_at=_WHOLE_AT - bindparam("interval"))
)
# One statement decides, so that concurrent attempts cannot exceed the limit. A stored time beyond
# the limit's span is of a machine whose clock is ahead, and counts; beyond what clocks may differ
# by, it means that the clock was set back since. SQLite has the same clause.
_NOW, _LATEST, _INTERVAL = (bindparam(name, type_=Double) for name in ("now", "latest", "interval"))
_CHARGE = Prepared(
    postgresql.insert(login_attempts)
    .values(digest=bindparam("key"), whole_at=_NOW + _INTERVAL)
    .on_conflict_do_update(
        index_elements=["digest"],
        set_={
            "whole_at": case(
                (_WHOLE_AT > _LATEST, _LATEST), (_WHOLE_AT > _NOW, _WHOLE_AT), else_=_NOW
            )
            + _INTERVAL
        },
        where=(_WHOLE_AT <= _LATEST) | (_WHOLE_AT > _LATEST + _INTERVAL + _SKEW),
    )
)


class _UsedUp(Exception):
    """Rolls a transaction back: a limit is used up for `wait` seconds."""

    def __init__(self, wait: float) -> None:
        super().__init__()
        self.wait = wait


def _charge(connection: Connection, key: str, limit: RateLimit, now: float) -> None:
    """Charge one key; raises `_UsedUp`."""
    latest = now + limit.span - limit.interval
    values = {"key": key, "now": now, "latest": latest, "interval": limit.interval}
    while not connection.execute(_CHARGE, values).rowcount:
        whole_at = connection.execute(_FIND, {"key": key}).scalar()
        if whole_at is not None and whole_at > latest:
            raise _UsedUp(float(whole_at - latest))


@dataclass(frozen=True, slots=True)
class Sites:
    """What an address is limited as.

    Attributes:
        networks: the address, or the IPv6 networks that contain it, the smallest first.
        factors: their limits, as multiples of that of one address.
        are_shared: whether many clients may have this address: the loopback address of a proxy or
            a tunnel on this machine, or the missing address of a Unix socket.
    """

    networks: Sequence[str]
    factors: Sequence[int] = (1,)
    are_shared: bool = False


def sites_of(address: str) -> Sites:
    """Return what an address is limited as."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return Sites((address,), (_UNKNOWN_ADDRESS,), are_shared=True)
    if isinstance(parsed, ipaddress.IPv6Address):
        parsed = _ipv4_of(parsed) or parsed
    if parsed.is_loopback:
        return Sites((str(parsed),), (_UNKNOWN_ADDRESS,), are_shared=True)
    if isinstance(parsed, ipaddress.IPv4Address):
        return Sites((str(parsed),))
    networks = (ipaddress.ip_network((parsed, each), strict=False) for each in _IPV6_NETWORKS)
    return Sites(tuple(map(str, networks)), tuple(_IPV6_NETWORKS.values()))


def _ipv4_of(address: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """Return the IPv4 address that is mapped or translated to an IPv6 address, or None."""
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(address.packed[-4:])
    return address.ipv4_mapped
