"""The options of mutual TLS at the authorization server (RFC 8705)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol.http.certificate_header import Certificates, CertificateSource
from bearerguard.protocol.http.proxies import Proxies


@dataclass(frozen=True, slots=True)
class MutualTls:
    """Take the certificates of TLS clients: to authenticate them, and to bind tokens to them.

    Args:
        certificates: where they come from: "tls" for the connection itself, as the ASGI or WSGI
            server reports it; or the header of the proxies in `trusted_proxies=`: "nginx",
            "envoy", "traefik", "alb", "rfc9440" or a `CertificateHeader`.
        authorities: the certificates of the authorities that clients with `tls_client_auth` have
            theirs from (RFC 8705 §2.1): PEM, or the path of a PEM file. The server verifies the
            chain itself, whatever the proxy has verified. Without them there is no such method.
        url: the base URL at which clients present certificates, where it is another than the
            issuer's: it is listed in `mtls_endpoint_aliases` (§5).

    Raises:
        ConfigurationError: an option is not valid.
    """

    certificates: Certificates
    authorities: str | bytes | Path | None = field(default=None, kw_only=True, repr=False)
    url: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        CertificateSource(self.certificates, Proxies(["unix"]))
        self.trusted()
        if self.url is not None and not _is_base(self.url):
            raise ConfigurationError(
                f"MutualTls(url=): {quoted(self.url)} is no base URL: pass an https URL without a"
                " query, such as https://mtls.id.example.com"
            )

    def trusted(self) -> Sequence[x509.Certificate]:
        """Return the authorities; none where no client is authenticated by them."""
        given: object = self.authorities
        if given is None:
            return ()
        if isinstance(given, str) and "-----BEGIN" not in given:
            given = Path(given)
        shown = quoted(str(given)) if isinstance(given, Path) else f"the {type(given).__name__}"
        try:
            if isinstance(given, Path):
                given = given.read_bytes()
            text = given.encode() if isinstance(given, str) else given
            return x509.load_pem_x509_certificates(text)  # type: ignore[arg-type] # raises TypeError
        except (OSError, TypeError, ValueError) as error:
            raise ConfigurationError(
                f"MutualTls(authorities=): {shown}:"
                f" {getattr(error, 'strerror', None) or type(error).__name__}: pass certificates in"
                " PEM, or the path of a file of them"
            ) from None


def _is_base(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
    except ValueError:
        return False
    return (
        parts is not None
        and parts.scheme == "https"
        and bool(parts.hostname)
        and not (parts.query or parts.fragment or "?" in parts.geturl())
    )
