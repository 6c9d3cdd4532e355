"""What a client's certificate is registered by (RFC 8705 §2.1.2, §2.2.2). Knows no requests."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

from cryptography import x509

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol.http import certificates
from bearerguard.protocol.http.certificates import X5T_S256, UnusableCertificate

# Each kind of name, with how a registered one is compared.
_NAMES: Mapping[str, Callable[[str], object]] = {
    "subject_dn": x509.Name.from_rfc4514_string,
    "san_dns": str.lower,
    "san_uri": str,
    "san_ip": ipaddress.ip_address,
    "san_email": str,
}
KINDS: tuple[str, ...] = tuple(_NAMES)
_GENERAL: Mapping[str, Any] = {
    "san_dns": x509.DNSName,
    "san_uri": x509.UniformResourceIdentifier,
    "san_ip": x509.IPAddress,
    "san_email": x509.RFC822Name,
}


def check_name(name: object) -> None:
    """Raise `ConfigurationError` unless this is a name that a certificate may have."""
    kind, _, value = name.partition("=") if isinstance(name, str) else ("", "", "")
    try:
        usable = bool(value) and _NAMES[kind](value) is not None
    except (KeyError, ValueError):
        usable = False
    if not usable:
        known = ", ".join(f"{each}=..." for each in _NAMES)
        raise ConfigurationError(
            f"certificate_name=: {quoted(name)} is none of {known}, such as"
            ' "san_dns=client.example.com" (RFC 8705 §2.1.2)'
        )


def has_name(certificate: x509.Certificate, name: str) -> bool:
    """Whether a certificate has the name that a client is registered with."""
    kind, _, value = name.partition("=")
    wanted = _NAMES[kind](value)
    try:
        if kind == "subject_dn":
            return certificate.subject == wanted
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):  # there is none, or it is malformed
        return False
    found = extension.value.get_values_for_type(_GENERAL[kind])
    return any((each.lower() if kind == "san_dns" else each) == wanted for each in found)


def registered_thumbprints(jwks: Mapping[str, Any] | None) -> frozenset[str]:
    """Return those of the certificates in a client's JWK Set: its `x5c`, or its `x5t#S256`.

    Raises `ConfigurationError` for an `x5c` that is malformed.
    """
    keys = (jwks or {}).get("keys")
    found: set[str] = set()
    for key in keys if isinstance(keys, list) else ():
        if not isinstance(key, Mapping):
            continue
        chain, thumbprint = key.get("x5c"), key.get(X5T_S256)
        if chain is not None:
            found.add(_leaf(chain))
        elif isinstance(thumbprint, str):
            found.add(thumbprint)
    return frozenset(found)


def _leaf(chain: object) -> str:
    try:
        first = chain[0] if isinstance(chain, list) and chain else b""
        return certificates.from_der(base64.b64decode(first, validate=True)).thumbprint
    except (TypeError, ValueError, binascii.Error, UnusableCertificate):
        raise ConfigurationError("jwks=: the x5c of a key is no certificate in base64") from None
