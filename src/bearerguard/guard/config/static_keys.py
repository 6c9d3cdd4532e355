"""Keys given as configuration: JWKS, JWK, PEM, or a shared secret.

Refuses a key or a certificate as the shared secret (RFC 8725 §3.1): whoever knows the public key
could sign tokens with it.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_der_public_key,
)

from bearerguard.errors import ConfigurationError
from bearerguard.protocol.jose import jwk

StaticKeys: TypeAlias = Mapping[str, Any] | str | bytes | Sequence[Mapping[str, Any] | str | bytes]

_log = logging.getLogger("bearerguard")

_ARMOUR = (b"-----BEGIN", b"ssh-", b"ecdsa-sha2-")
_DER_LOADERS: tuple[Callable[[bytes], object], ...] = (
    load_der_public_key,
    x509.load_der_x509_certificate,
    lambda der: load_der_private_key(der, password=None),
)
_KEYS_REMEDY = "keys=: pass a JWKS or JWK as a dict, a PEM public key, or a list of them"


def keys_from(given: StaticKeys) -> jwk.KeySet:
    """Return the usable keys; raises `ConfigurationError` if there are none."""
    if isinstance(given, Mapping) and "keys" in given:
        try:
            keys, problems = jwk.parse_jwks(given)
        except ValueError as error:
            raise ConfigurationError(f"{_KEYS_REMEDY}; this JWKS: {error}") from None
        for problem in problems:
            _log.warning("keys=: passed over %s", problem)
        return keys
    items = given if isinstance(given, list | tuple) else [given]
    if not items:
        raise ConfigurationError(f"{_KEYS_REMEDY}; the list is empty")
    return jwk.KeySet(tuple(_key_from(item) for item in items))


def _key_from(item: object) -> jwk.VerificationKey:
    try:
        if isinstance(item, Mapping):
            return jwk.parse_jwk(item)
        if isinstance(item, str | bytes):
            return jwk.parse_pem(item)
    except ValueError as error:
        raise ConfigurationError(f"{_KEYS_REMEDY}; this one is unusable: {error}") from None
    raise ConfigurationError(f"{_KEYS_REMEDY}; not {type(item).__name__}")


def secret_from(given: str | bytes) -> jwk.KeySet:
    """Return the secret as a key; raises `ConfigurationError` for a weak or public one."""
    if not isinstance(given, str | bytes):
        raise ConfigurationError("shared_secret=: pass str or bytes")
    secret = given.encode() if isinstance(given, str) else given
    fits = [name for name, least in jwk.SECRET_BYTES.items() if len(secret) >= least]
    if not fits:
        raise ConfigurationError(
            f"shared_secret=: at least {min(jwk.SECRET_BYTES.values())} bytes are needed:"
            " make one with `python -c 'import secrets; print(secrets.token_urlsafe(32))'`"
        )
    if _is_key_material(secret):
        raise ConfigurationError(
            "shared_secret=: this is a key or a certificate, and whoever knows its public part"
            " could sign tokens: pass it as keys=, or make a random secret"
        )
    return jwk.KeySet((jwk.from_secret(secret, fits),))


def _is_key_material(secret: bytes) -> bool:
    text = secret.strip()
    if any(mark in text for mark in _ARMOUR) or _names_a_key_type(text):
        return True
    return any(_is_der(candidate) for candidate in (secret, *_unarmoured(text)))


def _names_a_key_type(text: bytes) -> bool:
    """Whether the text is a JWK or a JWKS, at any depth."""
    try:
        json.loads(text)
    except ValueError:
        return False
    except RecursionError:
        return True  # nested too deeply for a random secret
    return b"kty" in text or b"\\u" in text


def _unarmoured(text: bytes) -> list[bytes]:
    """Return the text decoded, if it is base64 of either alphabet without PEM armour."""
    compact = re.sub(rb"\s", b"", text).rstrip(b"=").translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return [base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)]
    except binascii.Error:
        return []


def _is_der(octets: bytes) -> bool:
    for load in _DER_LOADERS:
        try:
            load(octets)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            if isinstance(error, TypeError | UnsupportedAlgorithm):
                return True  # it is a key: encrypted, or of an unsupported type
            continue
        return True
    return False
