"""Login throttling: limits of login attempts for each account, address and known browser.

A limit recovers with time (the generic cell rate algorithm: one number for each key). An attempt is
charged before its password is checked, so that concurrent requests cannot exceed the limit. The
store contains keyed digests instead of names and addresses.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import case, delete, insert, select, update

from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.connection import Connection
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import login_attempts, remove_expired

# Each IPv6 site has at least a /64, from which an attacker may choose any address (RFC 6177).
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit of login attempts.

    Attributes:
        attempts: how many attempts may be made in a burst.
        interval: seconds after which one more attempt may be made.
    """

    attempts: int
    interval: float

    @property
    def span(self) -> float:
        """Seconds until a used-up limit has recovered fully."""
        return self.attempts * self.interval

    def times(self, factor: int) -> RateLimit:
        """Return a limit that is `factor` times as high."""
        return RateLimit(self.attempts * factor, self.interval / factor)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A login attempt: whether it may be made, and the limits that it was charged to.

    Attributes:
        wait: 0 if it may be made, otherwise the whole seconds until the next attempt.
        own: pairs of a key and the charged seconds, for its account or browser. A success resets
            these limits.
        by_address: the same for its address. A success gives back only this attempt.
    """

    wait: int = 0
    own: tuple[tuple[str, float], ...] = ()
    by_address: tuple[tuple[str, float], ...] = ()


# From one address: ten guesses, then 12 an hour.
PER_ACCOUNT = RateLimit(attempts=10, interval=300)
# Many people may share an address.
PER_ADDRESS = RateLimit(attempts=50, interval=20)
# The limit of an account from all addresses together, as a multiple of that from one address: one
# attacker's address cannot use up the owner's attempts.
_ADDRESSES = 3
# The limit that requests without a known address share, as a multiple of that of one address.
_UNKNOWN_ADDRESS = 5


class Throttle:
    """Charges login attempts to their limits.

    Args:
        database: where the limits' state is stored.
        secret: derives the key of the digests.
        clock: returns Unix seconds.
        per_account: the limit of each login name from one address, and of each known browser.
            It applies to names without an account too. From all addresses together, the limit
            is three times as high.
        per_address: the limit of each address; an IPv6 /64 counts as one. Requests without a
            known address (loopback, a Unix socket) share a limit that is five times as high.
    """

    def __init__(
        self,
        database: Database,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        per_account: RateLimit = PER_ACCOUNT,
        per_address: RateLimit = PER_ADDRESS,
    ) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock
        self._per_account = per_account
        self._per_address = per_address

    def charge(self, login: str, address: str, browser: str = "") -> Attempt:
        """Charge an attempt; the result's `wait` is 0 if it may be made.

        The address is charged first: an address at its limit charges no account and adds no rows
        for invented names. A known browser has a limit of its own; when that is used up, the
        attempt is charged like any other.
        """
        now = self._clock()
        with self._database.write() as connection:
            remove_expired(connection, login_attempts.c.whole_at, now)
            if browser:
                digest, limit = self._by_browser(browser)
                if not _charge(connection, digest, limit, now):
                    return Attempt(own=((digest, limit.interval),))
            charged = self._charged(login, address)
            for digest, limit in charged:
                wait = _charge(connection, digest, limit, now)
                if wait:
                    return Attempt(math.ceil(wait))
        charges = tuple((digest, limit.interval) for digest, limit in charged)
        return Attempt(0, own=charges[1:], by_address=charges[:1])

    def forgive(self, attempt: Attempt) -> None:
        """Reset the limits of a successful attempt's account or browser."""
        own = [digest for digest, _ in attempt.own]
        with self._database.write() as connection:
            connection.execute(delete(login_attempts).where(login_attempts.c.digest.in_(own)))
            _give_back(connection, attempt.by_address)

    def take_back(self, attempt: Attempt) -> None:
        """Undo the charges of an attempt whose password was not checked."""
        with self._database.write() as connection:
            _give_back(connection, (*attempt.own, *attempt.by_address))

    def _by_browser(self, browser: str) -> tuple[str, RateLimit]:
        return self._secret.digest("attempt by browser", browser), self._per_account

    def _charged(self, login: str, address: str) -> list[tuple[str, RateLimit]]:
        """Return the limits that an attempt is charged to, in order, with their keys."""
        digest, (site, shared) = self._secret.digest, _site(address)
        everywhere = (digest("attempt by account", login), self._per_account.times(_ADDRESSES))
        if shared:
            limit = self._per_address.times(_UNKNOWN_ADDRESS)
            return [(digest("attempt by address", site), limit), everywhere]
        return [
            (digest("attempt by address", site), self._per_address),
            (digest("attempt by account and address", f"{site} {login}"), self._per_account),
            everywhere,
        ]


def _give_back(connection: Connection, charges: Iterable[tuple[str, float]]) -> None:
    whole_at = login_attempts.c.whole_at
    for digest, seconds in charges:
        connection.execute(
            update(login_attempts)
            .where(login_attempts.c.digest == digest)
            .values(whole_at=whole_at - seconds)
        )


def _charge(connection: Connection, digest: str, limit: RateLimit, now: float) -> float:
    """Charge one key; return 0, or the seconds until the next attempt if the limit is used up."""
    whole_at = login_attempts.c.whole_at
    start = case((whole_at > now, whole_at), else_=now)
    known = connection.execute(select(whole_at).where(login_attempts.c.digest == digest)).scalar()
    if known is None:
        connection.execute(
            insert(login_attempts).values(digest=digest, whole_at=now + limit.interval)
        )
        return 0
    # One conditional UPDATE decides, so that concurrent attempts cannot exceed the limit.
    latest = now + limit.span - limit.interval
    # A stored time beyond the limit's span means that the clock was set back since.
    charged = connection.execute(
        update(login_attempts)
        .where(
            login_attempts.c.digest == digest,
            (whole_at <= latest) | (whole_at > now + limit.span),
        )
        .values(whole_at=case((whole_at > latest, latest), else_=start) + limit.interval)
    )
    return 0 if charged.rowcount else known - latest


def _site(address: str) -> tuple[str, bool]:
    """Return the address or IPv6 /64 that is limited as one, and whether clients may share it.

    Clients share the loopback address of a proxy or a tunnel on this machine, and the missing
    address of a Unix socket.
    """
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address, True
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            site = ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False)
            return str(site), parsed.is_loopback
        parsed = parsed.ipv4_mapped
    return str(parsed), parsed.is_loopback
