"""What a TLS handshake shows of a server: the version, and its certificate. Sends no request."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

from bearerguard.runtime.messages import FetchFailed


@dataclass(frozen=True, slots=True)
class TlsPeer:
    """A server, as its TLS handshake shows it.

    Attributes:
        version: the negotiated version, such as "TLSv1.3".
        expires_at: when its certificate expires, in Unix seconds.
        names: the host names of the certificate.
    """

    version: str
    expires_at: float
    names: tuple[str, ...]


def tls_peer(host: str, port: int, *, context: ssl.SSLContext, timeout: float) -> TlsPeer:
    """Connect to a host, and return what its handshake shows.

    `timeout` is in seconds. Raises `FetchFailed` if it cannot be reached, or has no valid
    certificate.
    """
    from bearerguard.transports.failures import failure  # noqa: PLC0415 - imports httpx2

    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=host) as connection,
        ):
            certificate = connection.getpeercert() or {}
            version = connection.version() or ""
    except (OSError, ValueError) as error:
        found = failure(error, timeout)
        raise FetchFailed(
            f"{host}:{port}: {found.words}", kind=found.kind, temporary=found.temporary
        ) from error
    names = certificate.get("subjectAltName", ())
    return TlsPeer(
        version,
        ssl.cert_time_to_seconds(str(certificate["notAfter"])),
        tuple(str(each[1]) for each in names if each[0] == "DNS"),
    )
