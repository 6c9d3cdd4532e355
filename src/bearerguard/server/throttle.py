"""How often somebody may try to sign in: per account, and per address they come from.

Each has an allowance that fills up again with time (the generic cell rate algorithm: one number
per key). An attempt is charged before the password is looked at, so that a hundred at once are
not a hundred guesses. The store holds digests, not names and addresses.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable
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


# Ten guesses, then 12 an hour: an account's owner is locked out for minutes, not for good.
PER_ACCOUNT = Allowance(attempts=10, interval=300)
# Many people may share an address.
PER_ADDRESS = Allowance(attempts=50, interval=20)


class Throttle:
    """Charges attempts to sign in.

    Args:
        database: where the allowances are kept.
        secret: what digests are keyed with.
        clock: the time, in seconds.
        per_account: the allowance of each login name, whether it exists or not.
        per_address: the allowance of each address; an IPv6 /64 is one.
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

    def charge(self, login: str, address: str) -> int:
        """Charge an attempt; return 0, or after how many whole seconds another may be made.

        The address comes first: one that has used its allowance up takes nobody else's, and
        leaves no rows of names that it makes up.
        """
        now = self._clock()
        with self._database.write() as connection:
            remove_over(connection, login_attempts.c.whole_at, now)
            for digest, allowance in reversed(self._charged(login, address)):
                wait = _charge(connection, digest, allowance, now)
                if wait:
                    return math.ceil(wait)
        return 0

    def forgive(self, login: str, address: str) -> None:
        """Give back what a successful attempt was charged, and the account's earlier failures."""
        account, *rest = self._charged(login, address)
        with self._database.write() as connection:
            connection.execute(delete(login_attempts).where(login_attempts.c.digest == account[0]))
            for digest, allowance in rest:
                connection.execute(
                    update(login_attempts)
                    .where(login_attempts.c.digest == digest)
                    .values(whole_at=login_attempts.c.whole_at - allowance.interval)
                )

    def _charged(self, login: str, address: str) -> list[tuple[str, Allowance]]:
        digest = self._secret.digest
        charged = [(digest("attempt by account", login), self._per_account)]
        if address:
            charged.append((digest("attempt by address", _site(address)), self._per_address))
        return charged


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


def _site(address: str) -> str:
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, _IPV6_PREFIX), strict=False))
    return str(parsed)
