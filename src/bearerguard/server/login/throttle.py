"""How often somebody may try to sign in: per account, address, and device known to an account.

Each has an allowance that fills up again with time (the generic cell rate algorithm: one number
per key). An attempt is charged before the password is looked at, so that a hundred at once are
not a hundred guesses. The store holds digests, not names and addresses.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from sqlalchemy import Connection, case, delete, insert, select, update

from bearerguard.server.secret import ServerSecret
from bearerguard.server.store.database import Database
from bearerguard.server.store.people import login_attempts, remove_over

# An IPv6 site has at least a /64 to choose from (RFC 6177).
_IPV6_PREFIX = 64


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many attempts at once, and one more every `interval` seconds."""

    attempts: int
    interval: float

    @property
    def span(self) -> float:
        """How long an allowance that was used up takes to be whole again."""
        return self.attempts * self.interval

    def times(self, factor: int) -> Allowance:
        """Return the allowance of so many who share one."""
        return Allowance(self.attempts * factor, self.interval / factor)


@dataclass(frozen=True, slots=True)
class Attempt:
    """What an attempt was charged to.

    Attributes:
        wait: after how many whole seconds another may be made, if this one may not; else 0.
        own: the keys of its account or device, which a success makes whole, and in seconds what
            each was charged.
        by_address: that of its address, to which a success gives back this attempt alone.
    """

    wait: int = 0
    own: tuple[tuple[str, float], ...] = ()
    by_address: tuple[tuple[str, float], ...] = ()


# From one address: ten guesses, then 12 an hour.
PER_ACCOUNT = Allowance(attempts=10, interval=300)
# Many people may share an address.
PER_ADDRESS = Allowance(attempts=50, interval=20)
# One address that uses up what it has of an account leaves enough to the owner's: an account may
# be tried from all addresses together so many times as often.
_ADDRESSES = 3
# How many addresses' worth those have of whom no address is known.
_PEOPLE = 5


class Throttle:
    """Charges attempts to sign in.

    Args:
        database: where the allowances are kept.
        secret: what digests are keyed with.
        clock: the time, in seconds.
        per_account: the allowance of each login name, whether it exists or not, from one
            address, and that of a device on which its user signed in before; from all
            addresses together it is three times as much.
        per_address: the allowance of each address; an IPv6 /64 is one. Where no address is
            known (loopback, a Unix socket), all together have five times as much.
    """

    def __init__(
        self,
        database: Database,
        secret: ServerSecret,
        clock: Callable[[], float],
        *,
        per_account: Allowance = PER_ACCOUNT,
        per_address: Allowance = PER_ADDRESS,
    ) -> None:
        self._database = database
        self._secret = secret
        self._clock = clock
        self._per_account = per_account
        self._per_address = per_address

    def charge(self, login: str, address: str, device: str = "") -> Attempt:
        """Charge an attempt, and say whether it may be made.

        The address comes first: one that has used its allowance up takes nobody else's, and
        leaves no rows of names that it makes up. A device of the account's own is charged alone,
        and as any other when that is used up.
        """
        now = self._clock()
        with self._database.write() as connection:
            remove_over(connection, login_attempts.c.whole_at, now)
            if device:
                digest, allowance = self._by_device(device)
                if not _charge(connection, digest, allowance, now):
                    return Attempt(own=((digest, allowance.interval),))
            charged = self._charged(login, address)
            for digest, allowance in charged:
                wait = _charge(connection, digest, allowance, now)
                if wait:
                    return Attempt(math.ceil(wait))
        charges = tuple((digest, allowance.interval) for digest, allowance in charged)
        return Attempt(0, own=charges[1:], by_address=charges[:1])

    def forgive(self, attempt: Attempt) -> None:
        """Give back what a successful attempt was charged, and the account's earlier failures."""
        own = [digest for digest, _ in attempt.own]
        with self._database.write() as connection:
            connection.execute(delete(login_attempts).where(login_attempts.c.digest.in_(own)))
            _give_back(connection, attempt.by_address)

    def take_back(self, attempt: Attempt) -> None:
        """Give back what an attempt was charged that was not made."""
        with self._database.write() as connection:
            _give_back(connection, (*attempt.own, *attempt.by_address))

    def _by_device(self, device: str) -> tuple[str, Allowance]:
        return self._secret.digest("attempt by device", device), self._per_account

    def _charged(self, login: str, address: str) -> list[tuple[str, Allowance]]:
        """Return what an attempt is charged to, in this order."""
        digest, (site, shared) = self._secret.digest, _site(address)
        everywhere = (digest("attempt by account", login), self._per_account.times(_ADDRESSES))
        if shared:
            allowance = self._per_address.times(_PEOPLE)
            return [(digest("attempt by address", site), allowance), everywhere]
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


def _charge(connection: Connection, digest: str, allowance: Allowance, now: float) -> float:
    """Charge one key; return 0, or the seconds until it has an attempt again."""
    whole_at = login_attempts.c.whole_at
    start = case((whole_at > now, whole_at), else_=now)
    known = connection.execute(
        select(whole_at).where(login_attempts.c.digest == digest)
    ).scalar_one_or_none()
    if known is None:
        connection.execute(
            insert(login_attempts).values(digest=digest, whole_at=now + allowance.interval)
        )
        return 0
    # One conditional statement decides, however many attempts come at once.
    latest = now + allowance.span - allowance.interval
    # Nothing is whole later than this, unless the clock was set back meanwhile.
    charged = connection.execute(
        update(login_attempts)
        .where(
            login_attempts.c.digest == digest,
            (whole_at <= latest) | (whole_at > now + allowance.span),
        )
        .values(whole_at=case((whole_at > latest, latest), else_=start) + allowance.interval)
    )
    return 0 if charged.rowcount else known - latest


def _site(address: str) -> tuple[str, bool]:
    """Return what counts as one address, and whether it stands for whoever there is.

    That of loopback is a proxy's on this machine, or a tunnel's; a Unix socket has none.
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
