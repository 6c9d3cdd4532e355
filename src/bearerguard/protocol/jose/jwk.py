"""JSON Web Keys that verify signatures (RFC 7517, RFC 7518, RFC 8037, RFC 9864, RFC 9964).

Parses public keys, checks their strength and that they are for signatures, and determines the
algorithms that each one fits. Private members are never read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from jwt.algorithms import (
    Algorithm,
    ECAlgorithm,
    HMACAlgorithm,
    OKPAlgorithm,
    RSAAlgorithm,
    RSAPSSAlgorithm,
)
from jwt.exceptions import InvalidKeyError

from bearerguard.errors import quoted
from bearerguard.protocol.jose import base64url, ml_dsa
from bearerguard.protocol.jose.verifier import Verifier, verifier

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey | ml_dsa.PublicKey

_EDDSA = OKPAlgorithm()
ALGORITHMS: Mapping[str, Algorithm] = {
    "RS256": RSAAlgorithm(RSAAlgorithm.SHA256),
    "RS384": RSAAlgorithm(RSAAlgorithm.SHA384),
    "RS512": RSAAlgorithm(RSAAlgorithm.SHA512),
    "PS256": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA256),
    "PS384": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA384),
    "PS512": RSAPSSAlgorithm(RSAPSSAlgorithm.SHA512),
    "ES256": ECAlgorithm(ECAlgorithm.SHA256),
    "ES384": ECAlgorithm(ECAlgorithm.SHA384),
    "ES512": ECAlgorithm(ECAlgorithm.SHA512),
    "EdDSA": _EDDSA,
    "Ed25519": _EDDSA,
    "HS256": HMACAlgorithm(HMACAlgorithm.SHA256),
    "HS384": HMACAlgorithm(HMACAlgorithm.SHA384),
    "HS512": HMACAlgorithm(HMACAlgorithm.SHA512),
}
# A secret is at least as long as the hash (RFC 7518 §3.2).
SECRET_BYTES: Mapping[str, int] = {"HS256": 32, "HS384": 48, "HS512": 64}
SYMMETRIC = tuple(SECRET_BYTES)
#: The private members of RSA, EC and OKP keys, of a secret, and of an ML-DSA key (RFC 7518 §6,
#: RFC 8037 §2, RFC 9964).
PRIVATE_MEMBERS: frozenset[str] = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
ASYMMETRIC = (*(name for name in ALGORITHMS if name not in SYMMETRIC), *ml_dsa.SUPPORTED)

_RSA = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_OCTET_LENGTHS = {"P-256": 32, "P-384": 48, "P-521": 66}
_BY_CURVE: Mapping[str, tuple[str, ...]] = {
    "secp256r1": ("ES256",),
    "secp384r1": ("ES384",),
    "secp521r1": ("ES512",),
}
_BY_ED25519 = ("EdDSA", "Ed25519")
# Points of Ed25519 whose order divides 8, without the sign of x: with such a key, anybody can make
# signatures that are valid (RFC 8032 §8.9 leaves the check to the application).
_SMALL_ORDER = frozenset(
    bytes.fromhex(text)
    for text in (
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    )
)
# RFC 9864 renames the same algorithm; a key with either name fits both.
_SYNONYMS = {"EdDSA": _BY_ED25519, "Ed25519": _BY_ED25519}

_EMPTY = "it has no key: its array `keys` is empty"
_CERTIFICATE = "-----BEGIN CERTIFICATE-----"
_MIN_RSA_BITS = 2048  # RFC 7518 §3.3
# A token without a kid may cost this many signature checks, and no more.
MAX_CANDIDATES = 8


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that verifies signatures, the algorithms that it fits, and its encoding."""

    kid: str | None
    algorithms: tuple[str, ...]
    octets: bytes = field(repr=False)
    material: Any = field(repr=False, compare=False)

    def verifies(self, algorithm: str, signing_input: bytes, signature: bytes) -> bool:
        """Whether `signature` is this key's, by an algorithm that the key fits."""
        return algorithm in self.algorithms and self.verifier(algorithm)(signing_input, signature)

    def verifier(self, algorithm: str) -> Verifier:
        """Return a function that verifies signatures of this key, by an algorithm that it fits."""
        return verifier(algorithm, self.material)


class KeySet(NamedTuple):
    """An immutable set of verification keys."""

    keys: tuple[VerificationKey, ...]

    def candidates(self, algorithm: str, kid: str | None) -> list[VerificationKey]:
        """Return the keys that may have signed: those that fit and have this kid, or none.

        Where the token has no kid, all keys that fit. Never more than 8.
        """
        fitting = [key for key in self.keys if algorithm in key.algorithms]
        if kid is not None:
            named = [key for key in fitting if key.kid == kid]
            fitting = named + [key for key in fitting if key.kid is None]
        return fitting[:MAX_CANDIDATES]


def parse_jwks(document: object) -> tuple[KeySet, tuple[str, ...]]:
    """Return the usable keys of a JWK Set and, for each other key, why it is not usable.

    An object that has a certificate for each `kid`, as Google publishes them, is accepted too.
    Raises ValueError for another document, and for one without a usable key.
    """
    keys: list[VerificationKey] = []
    problems: list[str] = []
    for position, parse in enumerate(_published(document)):
        try:
            keys.append(parse())
        except ValueError as error:
            problems.append(f"key {position}: {error}")
    if not keys:
        raise ValueError(
            "; ".join(["it has no usable key", *problems[:3]] if problems else [_EMPTY])
        )
    return KeySet(tuple(keys)), tuple(problems)


def _published(document: object) -> list[Callable[[], VerificationKey]]:
    """Return a parser for each key of a document."""
    if isinstance(document, Mapping):
        members = document.get("keys")
        if isinstance(members, list):
            return [partial(parse_jwk, member) for member in members]
        if document and all(map(_is_certificate, document.values())):
            return [partial(_certified, kid, pem) for kid, pem in document.items()]
    held = ""
    if isinstance(document, Mapping):
        held = f", but {quoted(sorted(map(str, document)))}" if document else ", and nothing else"
    if isinstance(document, Mapping) and "jwks_uri" in document:
        held += ": it is an issuer's metadata, for discovery_url="
    raise ValueError(f"not a JWK Set: it has no array `keys`{held}")


def _is_certificate(value: object) -> bool:
    return isinstance(value, str) and value.startswith(_CERTIFICATE)


def _certified(kid: str, pem: str) -> VerificationKey:
    return replace(parse_pem(pem), kid=kid)


def parse_jwk(jwk: object) -> VerificationKey:
    """Return the public key of a JWK; raises ValueError with the reason it is unusable."""
    if not isinstance(jwk, Mapping):
        raise ValueError("not a JSON object")  # noqa: TRY004 - as documented
    kid, use, operations = jwk.get("kid"), jwk.get("use"), jwk.get("key_ops")
    if kid is not None and not isinstance(kid, str):
        raise ValueError("its kid is no string")
    if use is not None and use != "sig":
        raise ValueError("its use is not sig")
    if operations is not None and not (isinstance(operations, list) and "verify" in operations):
        raise ValueError("its key_ops do not have verify")
    return from_public_key(_public_key(jwk), kid=kid, algorithm=jwk.get("alg"))


def parse_pem(pem: str | bytes) -> VerificationKey:
    """Return the key of a PEM public key or certificate; raises ValueError for other text."""
    octets = pem.encode() if isinstance(pem, str) else pem
    try:
        if _CERTIFICATE.encode() in octets:
            key: object = x509.load_pem_x509_certificate(octets).public_key()
        else:
            key = load_pem_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("not a PEM public key or certificate") from None
    if isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey):
        return from_public_key(key)
    if ml_dsa.name_of(key) is not None:
        return from_public_key(cast("ml_dsa.PublicKey", key))
    raise ValueError("a key of its kind cannot sign a JWT")


def from_public_key(
    key: PublicKey, *, kid: str | None = None, algorithm: object = None
) -> VerificationKey:
    """Return `key` with the algorithms that it fits, or with `algorithm` alone if that is given."""
    if isinstance(key, RSAPublicKey):
        if key.key_size < _MIN_RSA_BITS:
            raise ValueError(f"its modulus has fewer than {_MIN_RSA_BITS} bits")
        fits: tuple[str, ...] = _RSA
    elif isinstance(key, EllipticCurvePublicKey):
        fits = _BY_CURVE.get(key.curve.name, ())
    elif isinstance(key, Ed25519PublicKey):
        point = key.public_bytes_raw()
        if point[:-1] + bytes([point[-1] & 0x7F]) in _SMALL_ORDER:
            raise ValueError("its point has a small order: anybody could sign with it")
        fits = _BY_ED25519
    else:
        fits = tuple(filter(None, [ml_dsa.name_of(key)]))
    if algorithm is not None:
        wanted = _SYNONYMS.get(algorithm, (algorithm,)) if isinstance(algorithm, str) else ()
        fits = tuple(name for name in fits if name in wanted)
    if not fits:
        raise ValueError("no supported algorithm fits it")
    octets = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return VerificationKey(kid, fits, octets, key)


def from_secret(
    secret: bytes, algorithms: Iterable[str] = SYMMETRIC, *, kid: str | None = None
) -> VerificationKey:
    """Return a shared secret as a key for HMAC; the caller checks its strength."""
    return VerificationKey(kid, tuple(algorithms), secret, secret)


def _public_key(jwk: Mapping[str, Any]) -> PublicKey:
    kty, crv = jwk.get("kty"), jwk.get("crv")
    try:
        if kty == "RSA":
            key: Any = RSAAlgorithm.from_jwk(_members(jwk, "n", "e"))
        elif kty == "EC" and isinstance(crv, str) and crv in _OCTET_LENGTHS:
            key = ECAlgorithm.from_jwk(_members(jwk, "crv", "x", "y"))
        elif kty == "OKP" and crv == "Ed25519":
            key = OKPAlgorithm.from_jwk(_members(jwk, "crv", "x"))
        elif kty == "AKP":  # its alg is part of the key (RFC 9964 §3)
            octets = base64url.decode(_members(jwk, "pub")["pub"].encode("ascii"))
            key = ml_dsa.public_key(jwk.get("alg"), octets)
        else:
            raise ValueError("its kty or crv is not supported for signatures")
    except (InvalidKeyError, UnsupportedAlgorithm, OverflowError) as error:
        raise ValueError("it is not a valid key") from error
    public_key: PublicKey = key
    return public_key


def _members(jwk: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the public members, with their encoding checked (RFC 7518 §6)."""
    members: dict[str, Any] = {"kty": jwk["kty"]}
    for name in names:
        value = jwk.get(name)
        if not isinstance(value, str):
            raise ValueError(f"its {name} is missing")  # noqa: TRY004 - as documented
        if name != "crv":
            base64url.decode(value.encode("ascii", "replace"))
        members[name] = value
    return members
