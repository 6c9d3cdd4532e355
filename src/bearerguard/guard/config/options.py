"""Checks of the options of guards and adapters: each error names the option and the remedy."""

from __future__ import annotations

import re

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.protocol.http.expiry import ExpiryHeaders

# A field name (RFC 9110 §5.6.2), and fields that are never logged.
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "dpop", "x-api-key"})
# The bounds of `max_token_bytes`.
_SHORTEST, _LONGEST = 1024, 2**20


def check_realm(realm: object) -> None:
    """Raise `ConfigurationError` unless a realm fits a quoted-string (RFC 9110 §5.6.4)."""
    if not isinstance(realm, str) or not re.fullmatch(r"[ -~]+", realm):
        raise ConfigurationError("realm=: pass a name in printable ASCII")


def check_requirement(requirement: object) -> None:
    """Raise `ConfigurationError` unless this is a requirement or None."""
    if requirement is not None and not isinstance(requirement, Requirement):
        raise ConfigurationError('require=: pass a requirement, such as scopes("read")')


def check_expiry_headers(expiry_headers: object) -> None:
    """Raise `ConfigurationError` unless this is `ExpiryHeaders` or None."""
    if expiry_headers is not None and not isinstance(expiry_headers, ExpiryHeaders):
        raise ConfigurationError("expiry_headers=: pass ExpiryHeaders(...), or None for none")


def check_cache_control(value: object) -> None:
    """Raise `ConfigurationError` unless this is a `Cache-Control` value (RFC 9110 §5.5) or None."""
    if value is not None and not (
        isinstance(value, str) and re.fullmatch(r"[!-~]+( [!-~]+)*", value)
    ):
        raise ConfigurationError(
            'cache_control=: pass directives such as "private" or "no-store", or None for none'
        )


def checked_request_id_headers(names: object) -> tuple[str, ...]:
    """Return these header names in lower case; raise `ConfigurationError` for anything else."""
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and re.fullmatch(_HEADER_NAME, name) for name in names
    ):
        raise ConfigurationError(
            'request_id_headers=: pass a list of header names such as ("X-Request-ID",)'
        )
    lowered = tuple(name.lower() for name in names)
    secret = [name for name in lowered if name in _SECRET_HEADERS]
    if secret:
        raise ConfigurationError(
            f"request_id_headers=: {secret[0]} holds secrets, and this header is logged: name one"
            " that holds the id of a request"
        )
    return lowered


def check_cache_size(size: object) -> None:
    """Raise `ConfigurationError` unless this is a positive int."""
    if not isinstance(size, int) or size < 1:
        raise ConfigurationError("cache_size=: pass a number of tokens, at least 1")


def check_max_token_bytes(size: object) -> None:
    """Raise `ConfigurationError` unless this is an int of bytes from 1 KiB to 1 MiB."""
    if not isinstance(size, int) or isinstance(size, bool) or not _SHORTEST <= size <= _LONGEST:
        raise ConfigurationError(
            f"max_token_bytes=: pass a number of bytes, from {_SHORTEST} to {_LONGEST}: servers"
            " admit header fields of 8 to 64 KiB"
        )
