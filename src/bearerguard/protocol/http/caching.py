"""For how long a response is fresh, and how it is validated again (RFC 9111, RFC 9110 §13)."""

from __future__ import annotations

import re
from contextlib import suppress
from email.utils import parsedate_to_datetime

from bearerguard.runtime.messages import Response

# The quoted form is allowed too (RFC 9111 §5.2).
_MAX_AGE = re.compile(r'(?:^|[,\s])max-age="?([0-9]{1,10})"?', re.IGNORECASE)
_NOT_STORED = re.compile(r"(?:^|[,\s])no-(?:store|cache)(?:$|[,\s=])", re.IGNORECASE)


def max_age(response: Response) -> float | None:
    """Return the `max-age` of a response in seconds, None without one (RFC 9111 §5.2.2.1)."""
    found = _MAX_AGE.search(response.header("cache-control") or "")
    return float(found[1]) if found else None


def freshness(response: Response) -> float | None:
    """Return for how many seconds a response is fresh, None if it does not say (§4.2.1).

    A response that may not be stored, or only be used after validation, is not fresh: 0.
    """
    if _NOT_STORED.search(response.header("cache-control") or ""):
        return 0.0
    seconds = max_age(response)
    if seconds is not None:
        age = response.header("age") or ""
        return max(0.0, seconds - (float(age) if re.fullmatch(r"[0-9]{1,10}", age) else 0.0))
    expires, date = response.header("expires"), response.header("date")
    if expires is None:
        return None
    with suppress(ValueError, TypeError, OverflowError):
        until = parsedate_to_datetime(expires)
        return max(0.0, (until - parsedate_to_datetime(date or "")).total_seconds())
    return 0.0  # an invalid date is in the past (§5.3)


def validators(response: Response) -> tuple[tuple[str, str], ...]:
    """Return the header fields of a request that asks whether a response is still current.

    Empty if the response has neither an `ETag` nor a `Last-Modified` (RFC 9110 §13.1).
    """
    fields = (("if-none-match", "etag"), ("if-modified-since", "last-modified"))
    found = ((name, response.header(of)) for name, of in fields)
    return tuple((name, value) for name, value in found if value and value.isascii())
