"""The header fields that an operator adds to every request: `HttpTransport(headers=...)`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias, cast

from bearerguard.errors import ConfigurationError, quoted

GivenHeaders: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]
HeaderFields: TypeAlias = tuple[tuple[str, str], ...]

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,256}")  # RFC 9110 §5.6.2, token
# Only US-ASCII means the same to all recipients (RFC 9110 §5.5).
_VALUE = re.compile(r"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?")
# Set by HTTP itself, and by each request for its body.
_FRAMING = frozenset(
    {
        *("host", "connection", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"),
        *("content-length", "content-encoding", "content-type", "transfer-encoding", "expect"),
        "accept-encoding",
    }
)
# They would be sent to every server that is fetched from, whoever named it.
_CREDENTIALS = frozenset({"authorization", "proxy-authorization", "dpop", "cookie"})


def checked_headers(given: GivenHeaders | None, option: str = "headers=") -> HeaderFields:
    """Return the header fields; raises `ConfigurationError` naming the field, not its value."""
    if given is None:
        return ()
    pairs = given.items() if isinstance(given, Mapping) else given
    try:
        fields = [(name, value) for name, value in cast("Iterable[tuple[object, object]]", pairs)]
    except (TypeError, ValueError):
        raise ConfigurationError(f"{option} pass a dict of names and values") from None
    return tuple(_checked(option, name, value) for name, value in fields)


def _checked(option: str, name: object, value: object) -> tuple[str, str]:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(f"{option} {quoted(name)} is no name of a header field")
    if name.lower() in _FRAMING:
        raise ConfigurationError(f"{option} {name} is set by each request: leave it out")
    if name.lower() in _CREDENTIALS:
        raise ConfigurationError(
            f"{option} {name} would go to every server that is asked: credentials have options of"
            " their own, such as KeyPolicy(token=)"
        )
    if not isinstance(value, str) or not _VALUE.fullmatch(value):
        raise ConfigurationError(
            f"{option} the value of {name} cannot be sent: pass ASCII text without line ends,"
            " control characters, or white space around it"
        )
    return name, value
