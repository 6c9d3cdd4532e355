"""Expiry headers: response headers that say when the token expires. No RFC has them.

`Access-Token-Expires-In` is in seconds, so that a client's wrong clock does no harm;
`Access-Token-Expires-At` is a Structured Fields Date (RFC 9651 §3.3.7).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol import names

_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# The last second that a calendar date can have; the expiry of a token may be later.
_END_OF_CALENDAR = 253_402_300_799


def structured_date(expires_at: float) -> str:
    """Format Unix seconds as `@1795450000` (RFC 9651)."""
    return f"@{min(int(expires_at), _END_OF_CALENDAR)}"


def utc_text(expires_at: float) -> str:
    """Format Unix seconds as GitHub does: `2021-10-07 19:07:53 UTC`."""
    moment = datetime.fromtimestamp(min(int(expires_at), _END_OF_CALENDAR), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class ExpiryHeaders:
    """The names and the format of the expiry headers.

    Args:
        expires_in: the name of the header with the seconds left, None for none.
        expires_at: the name of the header with the time of expiry, None for none.
        format_at: returns the value of `expires_at` for the token's `exp` in Unix seconds.

    Raises:
        ConfigurationError: a name is no header field name.
    """

    expires_in: str | None = "Access-Token-Expires-In"
    expires_at: str | None = "Access-Token-Expires-At"
    format_at: Callable[[float], str] = structured_date

    def __post_init__(self) -> None:
        for name in self.names():
            if not isinstance(name, str) or not _FIELD_NAME.fullmatch(name):
                raise ConfigurationError(
                    f"ExpiryHeaders({quoted(name)}): pass a header field name (RFC 9110 §5.1)"
                )

    def names(self) -> tuple[str, ...]:
        """Return the header names in use."""
        return tuple(filter(None, (self.expires_in, self.expires_at)))

    def fields(self, expires_at: float, now: float) -> tuple[tuple[str, str], ...]:
        """Return the headers at `now`, in Unix seconds; the leeway is not counted."""
        headers: list[tuple[str, str]] = []
        if self.expires_in is not None:
            headers.append((self.expires_in, seconds_left(expires_at, now)))
        if self.expires_at is not None:
            headers.append((self.expires_at, self.format_at(expires_at)))
        return tuple(headers)


def seconds_left(expires_at: float, now: float) -> str:
    """Return the whole seconds left, never below 0."""
    return str(max(0, min(int(expires_at - now), _END_OF_CALENDAR)))


GITHUB_EXPIRY = ExpiryHeaders(
    expires_in=None,
    expires_at="GitHub-Authentication-Token-Expiration",
    format_at=utc_text,
)

# Response headers that a script in a browser may need: for the options of CORS middleware.
EXPOSED_HEADERS = (
    names.WWW_AUTHENTICATE,
    names.DPOP_NONCE,
    "Access-Token-Expires-In",
    "Access-Token-Expires-At",
    names.RETRY_AFTER,
)
