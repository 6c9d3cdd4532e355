"""Client certificates (RFC 8705): from PEM or DER, and as servers report them to an app.

The trust chain of a certificate is not verified here: the thumbprint identifies it (RFC 8705 §3),
and the TLS handshake has proved that the client holds its key.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography import x509

from bearerguard.protocol.jose import base64url
from bearerguard.runtime.messages import ClientCertificate

#: The confirmation method of a certificate-bound token (RFC 8705 §3.1).
X5T_S256 = "x5t#S256"

# A chain is rarely longer than 4; each of its certificates is parsed.
MAX_CERTIFICATES = 16
_BEGIN, _END = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
_SPACE = b" \t\r\n"


class UnusableCertificate(ValueError):
    """What was received does not count as a client certificate; the text says why."""


def from_der(der: bytes, chain: Sequence[bytes] = ()) -> ClientCertificate:
    """Return the client certificate of a DER encoding; raises `UnusableCertificate`."""
    if len(chain) >= MAX_CERTIFICATES:
        raise UnusableCertificate(f"it has more than {MAX_CERTIFICATES} certificates")
    for each in (der, *chain):
        try:
            x509.load_der_x509_certificate(each)
        except ValueError:
            raise UnusableCertificate("it is no X.509 certificate in DER") from None
    return ClientCertificate(thumbprint(hashlib.sha256(der).digest()), der, tuple(chain))


def from_pem(text: bytes) -> ClientCertificate:
    """Return the client certificate of PEM, the leaf first; raises `UnusableCertificate`.

    Any white space may stand where PEM has a new line: a header field has none.
    """
    rest = text.strip(_SPACE)
    found: list[bytes] = []
    while rest:
        body, end, after = rest.removeprefix(_BEGIN).partition(_END)
        if not rest.startswith(_BEGIN) or not end:
            raise UnusableCertificate("it is no certificate in PEM")
        found.append(from_base64(body.translate(None, _SPACE)))
        rest = after.lstrip(_SPACE)
        if len(found) > MAX_CERTIFICATES:
            break
    if not found:
        raise UnusableCertificate("it is empty")
    return from_der(found[0], found[1:])


def from_base64(text: bytes) -> bytes:
    """Return the octets of base64; raises `UnusableCertificate`."""
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise UnusableCertificate("it is not base64") from None


def of_connection(tls: Mapping[str, Any] | None) -> ClientCertificate | None:
    """Return what a server reports of the TLS connection, None for none.

    `tls` is the `tls` extension of an ASGI scope, or the environ of WSGI. Raises
    `UnusableCertificate`. Whether the server has verified the certificate does not matter: it has
    checked that the client holds its key.
    """
    if not tls:
        return None
    if "REQUEST_METHOD" in tls:
        return _of_environ(tls)
    chain = [*(tls.get("client_cert_chain") or ())][: MAX_CERTIFICATES + 1]
    return from_pem("\n".join(chain).encode("ascii", "replace")) if chain else None


def _of_environ(environ: Mapping[str, Any]) -> ClientCertificate | None:
    """Return what the WSGI server has reported.

    Apache's mod_ssl (`SSLOptions +ExportCertData`) and werkzeug set `SSL_CLIENT_CERT`, uWSGI
    (`https-export-cert`) `HTTPS_CC`; gunicorn passes its socket. No header field can set these.
    """
    text: str = environ.get("SSL_CLIENT_CERT") or environ.get("HTTPS_CC") or ""
    if text:
        chain = (environ.get(f"SSL_CLIENT_CERT_CHAIN_{each}") for each in range(MAX_CERTIFICATES))
        whole = [text, *(each for each in chain if each)]
        return from_pem("\n".join(whole).encode("ascii", "replace"))
    # Of a plain connection, a socket has no such method; gevent's has it, and is no ssl.SSLSocket.
    peer_certificate = getattr(environ.get("gunicorn.socket"), "getpeercert", None)
    der = None if peer_certificate is None else peer_certificate(binary_form=True)
    return None if der is None else from_der(der)


def thumbprint(digest: bytes) -> str:
    """Return the `x5t#S256` of a certificate by the SHA-256 of its DER."""
    return base64url.encode(digest).decode("ascii")
