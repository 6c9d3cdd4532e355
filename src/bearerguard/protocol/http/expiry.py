"""Telling a client how long its token lives: response headers, for which no RFC exists.

`Access-Token-Expires-In` counts seconds, so that a skewed client clock does no harm;
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
# The last second that a calendar date can name; tokens may claim to outlive it.
_END_OF_CALENDAR = 253_402_300_799


def structured_date(expires_at: float) -> str:
    """Format Unix seconds as `@1795450000` (RFC 9651)."""
    return f"@{min(int(expires_at), _END_OF_CALENDAR)}"


def utc_text(expires_at: float) -> str:
    """Format Unix seconds as `2021-10-07 19:07:53 UTC`, GitHub's way."""
    moment = datetime.fromtimestamp(min(int(expires_at), _END_OF_CALENDAR), UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC")


@dataclass(frozen=True, slots=True)
class ExpiryHeaders:
    """Which headers tell the expiry, and how; None leaves one out.

    `format_at` takes the token's `exp` in Unix seconds.
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
        """Return the header lines at the moment `now`; leeway never lengthens what they say."""
        lines: list[tuple[str, str]] = []
        if self.expires_in is not None:
            lines.append((self.expires_in, seconds_left(expires_at, now)))
        if self.expires_at is not None:
            lines.append((self.expires_at, self.format_at(expires_at)))
        return tuple(lines)


def seconds_left(expires_at: float, now: float) -> str:
    """Return the whole seconds left, never below 0."""
    return str(max(0, min(int(expires_at - now), _END_OF_CALENDAR)))


GITHUB_EXPIRY = ExpiryHeaders(
    expires_in=None,
    expires_at="GitHub-Authentication-Token-Expiration",
    format_at=utc_text,
)

# What a browser script needs to read; for CORS middleware that is given its own list.
EXPOSED_HEADERS = (
    names.WWW_AUTHENTICATE,
    names.DPOP_NONCE,
    "Access-Token-Expires-In",
    "Access-Token-Expires-At",
    names.RETRY_AFTER,
)
