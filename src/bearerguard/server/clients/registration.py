"""Dynamic client registration (RFC 7591): the operator's options, and the limits of strangers.

Off by default: whoever may register can have any name on the consent page, and each request may
leave a row. Requests are limited by address and in all, and a client that nobody uses is removed.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field

from bearerguard.errors import ConfigurationError
from bearerguard.runtime.rate_limits import RateLimit
from bearerguard.server.settings import DAY, check_lifetime, checked_scopes

_MIN_TOKEN = 32
# Seconds for which a new client is kept until a user has allowed it something.
FIRST_USE = DAY
# Twenty, and then 20 an hour; in all 9 000 in the first day, the most that can be abandoned.
PER_ADDRESS = RateLimit(attempts=20, interval=180)
IN_ALL = RateLimit(attempts=500, interval=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """Let clients register themselves at `registration_endpoint` (RFC 7591).

    Args:
        initial_access_token: a token of at least 32 characters without which nobody can register
            (RFC 7591 §3); several, the newest first, while it is renewed. By default anybody can.
        scopes: the scopes that these clients may have; by default all of the server's.
        per_address: the limit of registrations from one address; an IPv6 /64 counts as one,
            and the limits of its /56 and /48 are 4 and 16 times as high. Requests without a known
            address share a limit that is five times as high.
        in_all: the limit of registrations from all addresses together.
        unused_lifetime: seconds after which a client is removed that has no grant left. One that
            has never been used is removed after a day at most.

    Raises:
        ConfigurationError: an option is not valid.
    """

    initial_access_token: str | Sequence[str] | None = field(default=None, repr=False)
    scopes: Sequence[str] | None = None
    per_address: RateLimit = PER_ADDRESS
    in_all: RateLimit = IN_ALL
    unused_lifetime: float = 90 * DAY

    def __post_init__(self) -> None:
        given: object = self.initial_access_token
        tokens = (given,) if isinstance(given, str) else given
        if tokens is not None and (
            not isinstance(tokens, Sequence)
            or not tokens
            or not all(
                isinstance(each, str)
                and len(each) >= _MIN_TOKEN
                and all("!" <= letter <= "~" for letter in each)
                for each in tokens
            )
        ):
            raise ConfigurationError(
                "Registration(initial_access_token=): pass a token that nobody can guess, of at"
                f" least {_MIN_TOKEN} printable ASCII characters without spaces, or a list of them"
            )
        checked_scopes("Registration(scopes=)", self.scopes)
        for name in ("per_address", "in_all"):
            limit: object = getattr(self, name)
            if not isinstance(limit, RateLimit) or limit.attempts < 1 or limit.interval <= 0:
                raise ConfigurationError(
                    f"Registration({name}=): pass RateLimit(attempts=, interval=) with positive"
                    " numbers"
                )
        check_lifetime("Registration(unused_lifetime=)", self.unused_lifetime)

    @property
    def needs_token(self) -> bool:
        """Whether a request needs an initial access token."""
        return self.initial_access_token is not None

    def admits(self, token: bytes) -> bool:
        """Whether a token is an initial access token; takes as long for each."""
        given = self.initial_access_token
        known = () if given is None else (given,) if isinstance(given, str) else given
        found = False
        for each in known:  # all of them
            found |= hmac.compare_digest(token, each.encode())
        return found
