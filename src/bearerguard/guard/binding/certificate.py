"""Tokens that are bound to a client certificate (RFC 8705 §3): the check of `x5t#S256`."""

from __future__ import annotations

from functools import partial

from bearerguard.errors import NO_CERTIFICATE, WRONG_CERTIFICATE, TokenError
from bearerguard.guard.binding.received_request import ReceivedRequest
from bearerguard.protocol.http.certificate_header import CertificateSource
from bearerguard.protocol.http.certificates import UnusableCertificate, of_connection


class CertificateCheck:
    """Checks that the TLS client of a request has the certificate to which its token is bound.

    Args:
        source: where certificates come from.
    """

    def __init__(self, source: CertificateSource) -> None:
        self._source = source

    def __call__(self, thumbprint: str, request: ReceivedRequest) -> None:
        """Raise `TokenError` unless the certificate has this thumbprint."""
        found = request.certificate
        if found is None:
            try:
                found = self._source.find(
                    partial(of_connection, request.tls), lambda: request.peer, request.values
                )
            except UnusableCertificate as error:
                raise TokenError(
                    NO_CERTIFICATE,
                    "the token is bound to a client certificate, and what the request has does not"
                    f" count: {error}",
                ) from None
        if found is None:
            raise TokenError(
                NO_CERTIFICATE,
                "the token is bound to a client certificate, and the request has none:"
                f" {self._source.absence}",
            )
        if found.thumbprint != thumbprint:
            raise TokenError(
                WRONG_CERTIFICATE,
                f"the token is bound to the certificate {thumbprint}, and the request has"
                f" {found.thumbprint}: let the client request a new token with its certificate",
            )
