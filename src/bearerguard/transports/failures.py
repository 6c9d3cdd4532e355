"""Why a fetch failed (FETCH-01): one kind, and a text that an operator can act on.

An error's own text may quote the request. Only the system's messages about names, addresses and
certificates are repeated.
"""

from __future__ import annotations

import errno
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import httpx2

from bearerguard.errors import quoted
from bearerguard.runtime.messages import FetchKind
from bearerguard.transports.resolver import ResolvingTimedOut

_OWN_AUTHORITY = " (one of your own needs HttpTransport(ssl_context=...))"
# By OpenSSL's verification errors (x509_vfy.h).
_CERTIFICATES = {
    9: "the certificate is not valid yet",
    10: "the certificate has expired",
    18: f"the certificate is self-signed, so no trusted authority signed it{_OWN_AUTHORITY}",
    19: f"the certificate is signed by an authority that is not trusted{_OWN_AUTHORITY}",
    20: f"the certificate is signed by an unknown authority{_OWN_AUTHORITY}",
    23: "the certificate was revoked",
    62: "the certificate is for another host",
    64: "the certificate is for another host",
}
# OpenSSL's reasons where the server speaks plain HTTP; they depend on its version.
_NO_TLS = {"WRONG VERSION NUMBER", "HTTP REQUEST", "PACKET LENGTH TOO LONG", "RECORD LAYER FAILURE"}
_NO_ROUTE = {errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN}
_PASSING = {socket.EAI_AGAIN}


class Failure(NamedTuple):
    """Why a fetch failed, and whether trying again later may help."""

    kind: FetchKind
    words: str
    temporary: bool


_REFUSED = Failure("refused", "the connection was refused", temporary=True)
_RESET = Failure("closed", "the connection was reset", temporary=True)


def failure(error: BaseException, seconds: float) -> Failure:
    """Return the failure that an error means; `seconds` is the timeout."""
    found = system_failure(error, seconds)
    if found is not None:
        return found
    chain = list(_chain(error))
    if any(isinstance(each, httpx2.TimeoutException) for each in chain):
        return timed_out(seconds)
    name = type(error).__name__
    if isinstance(error, httpx2.InvalidURL | httpx2.UnsupportedProtocol | UnicodeError):
        return Failure("invalid_url", f"not a valid URL ({name})", temporary=False)
    if isinstance(error, httpx2.ProxyError):
        return Failure("unreachable", f"the proxy did not connect ({name})", temporary=True)
    if isinstance(error, httpx2.ConnectError):
        return Failure("unreachable", f"the connection failed ({name})", temporary=True)
    words = f"the connection was closed, or no HTTP was spoken ({name})"
    return Failure("closed", words, temporary=True)


def system_failure(error: BaseException, seconds: float) -> Failure | None:
    """Return the failure that the system or TLS reported, None if an error was not theirs."""
    return next(filter(None, (_of_system(each, seconds) for each in _chain(error))), None)


def timed_out(seconds: float) -> Failure:
    """Return the failure of a response that was not complete in time."""
    return Failure("timed_out", f"timed out: no complete response in {seconds:g} s", temporary=True)


def _of_system(error: BaseException, seconds: float) -> Failure | None:
    if isinstance(error, ssl.SSLError):
        return _of_tls(error)
    if isinstance(error, socket.gaierror):
        host = "" if error.filename is None else f" {quoted(error.filename)}"
        words = f"unknown host{host} ({error.strerror})"
        return Failure("unknown_host", words, temporary=error.errno in _PASSING)
    if isinstance(error, ConnectionError):
        return _REFUSED if isinstance(error, ConnectionRefusedError) else _RESET
    if isinstance(error, ResolvingTimedOut):
        words = f"timed out: no address from the resolver in {seconds:g} s"
        return Failure("timed_out", words, temporary=True)
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return Failure("unreachable", "the network or the host is unreachable", temporary=True)
    return None


def _of_tls(error: ssl.SSLError) -> Failure:
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _CERTIFICATES.get(error.verify_code) or f"the certificate: {error.verify_message}"
        return Failure("tls", f"TLS: {words}", temporary=False)
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Failure("closed", "the connection was closed during TLS", temporary=True)
    reason = (getattr(error, "reason", None) or "the handshake failed").replace("_", " ")
    if reason in _NO_TLS:
        reason = f"the server speaks no TLS at this port ({reason})"
    return Failure("tls", f"TLS: {reason}", temporary=False)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and what led to it; a loop or a long tail is cut."""
    current: BaseException | None = error
    for _ in range(10):
        if current is None:
            return
        yield current
        if isinstance(current, BaseExceptionGroup):
            for each in current.exceptions:
                yield from _chain(each)
        current = current.__cause__ or current.__context__
