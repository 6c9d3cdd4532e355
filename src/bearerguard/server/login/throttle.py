"""Login throttling: how many login attempts an account, an address or a known browser has.

Each has a limit that recovers with time (the generic cell rate algorithm: one number per key). An
attempt is charged before its password is checked, so that a hundred requests at once are not a
hundred guesses. The store holds digests, not names and addresses.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, insert, select, update

from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import login_attempts, remove_expired

# An IPv6 site has at least a /64 to choose from (RFC 6177).
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit of login attempts.

    Attributes:
        attempts: how many may be made at once.
        interval: seconds after which one more may be made.
    """

    attempts: int
    interval: float

    @property
    def span(self) -> float:
        """Seconds until a limit that was used up has recovered fully."""
        return self.attempts * self.interval

    def times(self, factor: int) -> RateLimit:
        """Return a limit that is `factor` times as high."""
        return RateLimit(self.attempts * factor, self.interval / factor)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What a login attempt was charged to.

    Attributes:
        wait: 0, or the whole seconds until the next attempt where this one is refused.
        own: the keys of its account or browser, with the seconds that each was charged. A
            success resets them.
        by_address: the same for its address. A success gives back this attempt alone.
    """

    wait: int = 0
    own: tuple[tuple[str, float], ...] = ()
    by_address: tuple[tuple[str, float], ...] = ()


# From one address: ten guesses, then 12 an hour.
PER_ACCOUNT = RateLimit(attempts=10, interval=300)
# Many people may share an address.
PER_ADDRESS = RateLimit(attempts=50, interval=20)
# The limit of an account from all addresses, in limits from one address: one attacker's address
# leaves enough to the owner's.
_ADDRESSES = 3
# The limit that requests without a known address share, in limits of one address.
_UNKNOWN_ADDRESS = 5


class Throttle:
    """Charges login attempts.

    Args:
        database: where the limits' state is stored.
        secret: keys the digests.
        clock: returns Unix seconds.
        per_account: the limit of each login name from one address, whether there is such an
            account or not, and of each known browser. From all addresses together, the limit is
            three times as high.
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
        """Charge an attempt; its `wait` says whether it may be made.

        The address is charged first: an address at its limit charges no account, and adds no rows
        for names that it invents. A known browser is charged alone; at its limit, the attempt is
        charged like any other.
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
        """Give back what an attempt was charged whose password was not checked."""
        with self._database.write() as connection:
            _give_back(connection, (*attempt.own, *attempt.by_address))

    def _by_browser(self, browser: str) -> tuple[str, RateLimit]:
        return self._secret.digest("attempt by browser", browser), self._per_account

    def _charged(self, login: str, address: str) -> list[tuple[str, RateLimit]]:
        """Return what an attempt is charged to, in this order."""
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
    """Charge one key; return 0, or the seconds until its next attempt."""
    whole_at = login_attempts.c.whole_at
    start = case((whole_at > now, whole_at), else_=now)
    known = connection.execute(
        select(whole_at).where(login_attempts.c.digest == digest)
    ).scalar_one_or_none()
    if known is None:
        connection.execute(
            insert(login_attempts).values(digest=digest, whole_at=now + limit.interval)
        )
        return 0
    # One conditional statement decides, however many attempts come at once.
    latest = now + limit.span - limit.interval
    # A later time can only come from a clock that was set back since.
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
    """Return what counts as one address, and whether it may be anybody's.

    A loopback address is that of a proxy or a tunnel on this machine; a Unix socket has none.
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
