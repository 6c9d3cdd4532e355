"""Keys given as configuration: JWKS, JWK, PEM, or shared secrets.

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

from bearerguard.errors import ConfigurationError, quoted
from bearerguard.protocol.jose import base64url, jwk

SharedSecret: TypeAlias = str | bytes | Mapping[str, Any]
"""Octets, text, or a symmetric JWK (RFC 7518 §6.4), whose `kid` and `alg` count."""

StaticKeys: TypeAlias = Mapping[str, Any] | str | bytes | Sequence[Mapping[str, Any] | str | bytes]

_log = logging.getLogger("bearerguard")

_ARMOUR = (b"-----BEGIN", b"ssh-", b"ecdsa-sha2-")
_DER_LOADERS: tuple[Callable[[bytes], object], ...] = (
    load_der_public_key,
    x509.load_der_x509_certificate,
    lambda der: load_der_private_key(der, password=None),
)
_REMEDY_OF_SECRETS = (
    "shared_secret=: pass str or bytes, a JWK whose kty is oct, or a list of these, newest first"
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


def secrets_from(given: SharedSecret | Sequence[SharedSecret]) -> jwk.KeySet:
    """Return the secrets as keys; raises `ConfigurationError` for a weak or public one.

    A token with a `kid` is verified with the secrets of this `kid`, and with those that have none.
    """
    items = given if isinstance(given, list | tuple) else [given]
    if not 1 <= len(items) <= jwk.MAX_CANDIDATES:
        raise ConfigurationError(
            f"shared_secret=: pass one, or a list of at most {jwk.MAX_CANDIDATES}, the newest first"
        )
    keys = tuple(map(_secret_from, items))
    if len({key.octets for key in keys}) < len(keys):
        raise ConfigurationError("shared_secret=: one of them is given twice: leave it out once")
    return jwk.KeySet(keys)


def _secret_from(given: object) -> jwk.VerificationKey:
    kid: object = None
    algorithm: object = None
    if isinstance(given, Mapping):
        kid, algorithm = given.get("kid"), given.get("alg")
        given = _octets_of(given)
    if not isinstance(given, str | bytes) or not isinstance(kid, str | None):
        raise ConfigurationError(_REMEDY_OF_SECRETS)
    secret = given.encode() if isinstance(given, str) else given
    named = [each for each in jwk.SYMMETRIC if algorithm is None or algorithm == each]
    if not named:
        raise ConfigurationError(
            f"shared_secret=: the alg {quoted(algorithm)} of a JWK is none of"
            f" {', '.join(jwk.SYMMETRIC)}"
        )
    fits = [each for each in named if len(secret) >= jwk.SECRET_BYTES[each]]
    if not fits:
        least = min(jwk.SECRET_BYTES[each] for each in named)
        raise ConfigurationError(
            f"shared_secret=: at least {least} bytes are needed: make one with"
            f" `python -c 'import secrets; print(secrets.token_urlsafe({least}))'`"
        )
    if _is_key_material(secret):
        raise ConfigurationError(
            "shared_secret=: this is a key or a certificate, and whoever knows its public part"
            " could sign tokens: pass it as keys=, or make a random secret"
        )
    return jwk.from_secret(secret, fits, kid=kid)


def _octets_of(given: Mapping[str, Any]) -> bytes:
    """Return the octets of a symmetric JWK (RFC 7518 §6.4)."""
    encoded = given.get("k")
    is_for_signatures = (given.get("use") or "sig") == "sig"
    if given.get("kty") != "oct" or not isinstance(encoded, str) or not is_for_signatures:
        raise ConfigurationError(_REMEDY_OF_SECRETS)
    try:
        return base64url.decode(encoded.encode())
    except ValueError:
        raise ConfigurationError(
            "shared_secret=: the member k of a JWK is base64url without padding (RFC 7518 §6.4.1)"
        ) from None  # the cause may quote the secret


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
