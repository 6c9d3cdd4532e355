"""Clients that authenticate by the certificate of their TLS connection (RFC 8705 §2).

The TLS handshake has proved that the client holds the certificate's key. What is decided here is
whose certificate it is: by an authority that names the client in it, or because the client has
registered the certificate itself.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Any, Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from bearerguard.errors import quoted
from bearerguard.protocol import client_authentication
from bearerguard.runtime.messages import ClientCertificate, Request
from bearerguard.server.clients.authentication_methods import Presented, Rejected
from bearerguard.server.clients.client import Client
from bearerguard.server.clients.client_certificates import has_name, registered_thumbprints
from bearerguard.server.http.parameters import Parameters

# An authority, some below it, and the client.
_MAX_DEPTH = 8


class CertificateMethod:
    """A method whose credential is the certificate, which each request of a connection has.

    Clients with another method send one too, to have their tokens bound to it: so it is the
    client's registration that says whether a certificate authenticates it.
    """

    name: str

    def presented(self, request: Request, parameters: Parameters) -> Presented | None:  # noqa: ARG002 - as the interface has it
        """Return None: no request shows that it uses this method."""
        return None

    def verify(self, client: Client, presented: Presented) -> Literal[True] | Rejected:  # noqa: ARG002 - as the interface has it
        """Return why not: what a request presents is no certificate."""
        return Rejected("no_client_certificate")

    def verify_certificate(self, client: Client, request: Request) -> Literal[True] | Rejected:
        """Return True if the certificate of a request's TLS client is that of `client`."""
        if request.certificate is None:
            return Rejected("no_client_certificate", {"detail": request.certificate_problem})
        return self._verify(client, request.certificate)

    def _verify(self, client: Client, certificate: ClientCertificate) -> Literal[True] | Rejected:
        raise NotImplementedError


class SelfSignedTlsClientAuth(CertificateMethod):
    """A certificate that the client has registered (§2.2), whoever signed it."""

    name = client_authentication.SELF_SIGNED_TLS_CLIENT_AUTH

    def _verify(self, client: Client, certificate: ClientCertificate) -> Literal[True] | Rejected:
        known = registered_thumbprints(client.jwks)
        if certificate.thumbprint in known:
            return True
        return Rejected("wrong_client_certificate", {"certificate": certificate.thumbprint})


class TlsClientAuth(CertificateMethod):
    """A certificate of a trusted authority that names the client (§2.1).

    Args:
        authorities: the authorities.
        clock: returns Unix seconds.
    """

    name = client_authentication.TLS_CLIENT_AUTH

    def __init__(self, authorities: Sequence[x509.Certificate], clock: Callable[[], float]) -> None:
        self._clock = clock
        self._builder = (
            PolicyBuilder()
            .store(Store([*authorities]))
            .max_chain_depth(_MAX_DEPTH)
            .extension_policies(ca_policy=_AUTHORITIES, ee_policy=_CLIENTS)
        )

    def _verify(self, client: Client, certificate: ClientCertificate) -> Literal[True] | Rejected:
        found = {"certificate": certificate.thumbprint}
        if certificate.der is None:
            return Rejected("client_certificate_without_content", found)
        leaf = x509.load_der_x509_certificate(certificate.der)
        chain = [x509.load_der_x509_certificate(each) for each in certificate.chain]
        now = dt.datetime.fromtimestamp(self._clock(), dt.UTC)
        try:
            self._builder.time(now).build_client_verifier().verify(leaf, chain)
        except (VerificationError, x509.UnsupportedGeneralNameType, ValueError) as error:
            return Rejected("untrusted_client_certificate", {**found, "detail": quoted(str(error))})
        if client.certificate_name is not None and has_name(leaf, client.certificate_name):
            return True
        return Rejected("wrong_client_certificate", found)


def _check_authority(_policy: Policy, _certificate: x509.Certificate, extension: Any) -> None:
    if not extension.ca:
        raise ValueError("it is not the certificate of an authority")


def _check_signer(_policy: Policy, _certificate: x509.Certificate, extension: Any) -> None:
    if extension is not None and not extension.key_cert_sign:
        raise ValueError("its key must not sign certificates")


def _check_limits(_policy: Policy, _certificate: x509.Certificate, extension: Any) -> None:
    # `cryptography` knows no limits of this kind, and would ignore them unless they are critical.
    if extension is None:
        return
    trees = (*(extension.permitted_subtrees or ()), *(extension.excluded_subtrees or ()))
    if any(isinstance(each, x509.DirectoryName) for each in trees):
        raise ValueError("it limits the subjects of certificates, which is not checked")


def _check_purpose(_policy: Policy, _certificate: x509.Certificate, extension: Any) -> None:
    usages = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE)
    if extension is not None and not any(each in extension for each in usages):
        raise ValueError("it is not for TLS clients")


# As OpenSSL and so the proxies check it (RFC 5280); the default policy is that of public web
# authorities, whose certificates must have more extensions than private ones have.
_AUTHORITIES = (
    ExtensionPolicy.permit_all()
    .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _check_authority)
    .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _check_signer)
    .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_purpose)
    .may_be_present(x509.NameConstraints, Criticality.AGNOSTIC, _check_limits)
)
_CLIENTS = ExtensionPolicy.permit_all().may_be_present(
    x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _check_purpose
)
