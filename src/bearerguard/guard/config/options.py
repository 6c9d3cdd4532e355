"""Checks of the options of guards and adapters: each error names the option and the remedy."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.requirement import Requirement
from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.expiry import ExpiryHeaders
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.protocol.jose import jwk
from bearerguard.protocol.names import DPOP_ALGORITHMS

# A field name (RFC 9110 §5.6.2), and fields that are never logged.
_HEADER_NAME = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_SECRET_HEADERS = frozenset({"authorization", "proxy-authorization", "cookie", "dpop", "x-api-key"})
# The modes of `dpop`.
_DPOP = ("off", "allowed", "required")
# The longest window for which used proofs are stored, in seconds.
_MAX_PROOF_AGE = 3600
# Scheme, host, port and path, all printable (RFC 3986 §3).
_PUBLIC_URL = r"https?://[A-Za-z0-9._:\[\]-]+(/[!-~]*)?"
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


def check_dpop(mode: object) -> None:
    """Raise `ConfigurationError` unless this is a mode of DPoP."""
    if mode not in _DPOP:
        raise ConfigurationError(
            f'dpop=: {quoted(mode)} is no mode: pass "off", "allowed" or "required"'
        )


#: Seconds by which the `iat` of a proof may differ from the clock.
DPOP_MAX_AGE = 300.0
# The options that only proofs need, and what they are by default.
_OF_PROOFS = {
    "replay": None,
    "dpop_nonces": None,
    "dpop_content_digest": False,
    "dpop_algorithms": DPOP_ALGORITHMS,
    "dpop_max_age": DPOP_MAX_AGE,
    "public_url": None,
}


def check_dpop_max_age(seconds: object) -> None:
    """Raise `ConfigurationError` unless this is a number of seconds, from 1 to an hour."""
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 1 <= seconds <= _MAX_PROOF_AGE
    ):
        raise ConfigurationError(
            f"dpop_max_age=: pass a number of seconds, from 1 to {_MAX_PROOF_AGE}"
        )


def check_dpop_algorithms(algorithms: object) -> None:
    """Raise `ConfigurationError` unless these are asymmetric signature algorithms."""
    is_list = isinstance(algorithms, list | tuple) and bool(algorithms)
    if not is_list or not all(each in jwk.ASYMMETRIC for each in algorithms):  # type: ignore[attr-defined]
        raise ConfigurationError(
            f"dpop_algorithms=: pass a list of some of {', '.join(jwk.ASYMMETRIC)}"
        )


def check_unused_of_requests(given: Mapping[str, Any], *, reads_header: bool) -> None:
    """Raise `ConfigurationError` for an option about proofs or proxies that has no effect.

    `given` are all options of a guard. `reads_header` says whether the certificates of clients come
    from a header of its proxies.
    """
    is_off = given["dpop"] == "off"
    for name, default in _OF_PROOFS.items():
        if is_off and given[name] != default:
            raise ConfigurationError(
                f'{name}=: it has no effect with dpop="off": pass dpop="allowed" or "required"'
            )
    is_used = reads_header or not (is_off or given["public_url"] is not None)
    if given["trusted_proxies"] and not is_used:
        why = "public_url=" if given["public_url"] is not None else 'dpop="off"'
        raise ConfigurationError(
            f"trusted_proxies=: it has no effect with {why}: leave it out, unless certificates="
            " names a header of your proxies"
        )


def check_certificates(certificates: object) -> None:
    """Raise `ConfigurationError` unless this says where client certificates come from."""
    CertificateSource(certificates, Proxies(["unix"]))  # type: ignore[arg-type] # checked there


def check_public_url(url: object) -> None:
    """Raise `ConfigurationError` unless this is the URL of an API, without query and fragment."""
    if (
        not isinstance(url, str)
        or not re.fullmatch(_PUBLIC_URL, url)
        or not {"?", "#"}.isdisjoint(url)
    ):
        raise ConfigurationError(
            "public_url=: pass the URL by which clients reach this API, such as"
            ' "https://api.example.com", without query and fragment'
        )


def check_streams(grace: object, until_expiry: object) -> None:
    """Raise `ConfigurationError` unless these are `stream_grace` and `stream_until_expiry`."""
    if not isinstance(until_expiry, bool):
        raise ConfigurationError("stream_until_expiry=: pass True or False")
    if isinstance(grace, bool) or not isinstance(grace, int | float) or not 0 <= grace < math.inf:
        raise ConfigurationError("stream_grace=: pass a number of seconds, 0 or more")
    if grace and not until_expiry:
        raise ConfigurationError(
            "stream_grace=: it has no effect with stream_until_expiry=False, by which no stream"
            " ends at the expiry of its token: leave one of them out"
        )
