"""Certificates that tests make: an authority, and what it or a client itself has signed."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

_LIFETIME = dt.timedelta(days=30)


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def thumbprint(self) -> str:
        digest = hashlib.sha256(self.der).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()

    @property
    def base64(self) -> str:
        return base64.b64encode(self.der).decode()

    @property
    def escaped(self) -> str:
        """As nginx writes `$ssl_client_escaped_cert`."""
        return quote(self.pem, safe="")

    @property
    def alb(self) -> str:
        """As an AWS ALB writes it."""
        return quote(self.pem, safe="+=/")

    def write(self, folder: Path, name: str) -> tuple[str, str]:
        """Write the certificate and its key; return their paths."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        cert_path, key_path = folder / f"{name}.pem", folder / f"{name}.key"
        cert_path.write_text(self.pem)
        key_path.write_bytes(key)
        return str(cert_path), str(key_path)

    def context(self, folder: Path, authority: Identity, name: str = "client") -> ssl.SSLContext:
        """Return what a client with this certificate connects by."""
        context = ssl.create_default_context(cadata=authority.pem)
        context.load_cert_chain(*self.write(folder, name))
        return context


def name(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "Example, Inc."),
            x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name),
        ]
    )


def make(
    common_name: str,
    issuer: Identity | None = None,
    *names: x509.GeneralName,
    authority: bool = False,
    signs: bool = True,
    expired: bool = False,
    usage: x509.ObjectIdentifier = ExtendedKeyUsageOID.CLIENT_AUTH,
    extensions: Sequence[x509.ExtensionType] = (),
) -> Identity:
    """Make a certificate; without an issuer it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = name(common_name)
    now = dt.datetime.now(dt.UTC)
    start = now - 2 * _LIFETIME if expired else now - _LIFETIME / 2
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + _LIFETIME)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    signer = key if issuer is None else issuer.key
    public = signer.public_key()
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False
    ).add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if authority:
        builder = builder.add_extension(
            x509.KeyUsage(
                digital_signature=False,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                key_cert_sign=signs,
                crl_sign=True,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for each in extensions:
        builder = builder.add_extension(each, critical=False)
    return Identity(builder.sign(signer, hashes.SHA256()), key)


# The same for a whole run: making them takes a millisecond each.
AUTHORITY = make("Test authority", authority=True)
CLIENT = make("client-1", AUTHORITY, x509.DNSName("client-1.example.com"))
OTHER = make("client-2", AUTHORITY, x509.DNSName("client-2.example.com"))
SELF_SIGNED = make("client-3")
# Within the lifetime of each certificate of the run, however late a test makes it.
MIDDLE = (AUTHORITY.certificate.not_valid_before_utc + _LIFETIME / 2).timestamp()
