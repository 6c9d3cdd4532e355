"""Checks of a JWK Set (RFC 7517): whether its keys are usable, strong, and named by a `kid`."""

from __future__ import annotations

import base64
import binascii
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bearerguard.cli.guard.doctor.finding import Finding, Rule, counted
from bearerguard.errors import quoted
from bearerguard.protocol.http import document
from bearerguard.protocol.jose import jwk, ml_dsa, thumbprint
from bearerguard.protocol.jose.jwk import VerificationKey

USABLE = Rule(
    "keys.usable",
    "a JWK Set whose keys verify signatures",
    "publish the public keys that sign tokens, each with kty, kid, use and alg",
    "RFC 7517 §5",
)
ALGORITHMS = Rule(
    "keys.algorithms",
    "each advertised and each accepted algorithm has a key, and none is `none`",
    "advertise the algorithms that sign, and let the guard accept these",
    "RFC 8725 §3.1, RFC 7518 §3.1",
)
STRENGTH = Rule(
    "keys.strength",
    "RSA with 2048 bits or more, and an exponent of 65537",
    "sign with a new key: ES256, EdDSA, or RSA of 2048 bits",
    "RFC 7518 §3.3, RFC 8725 §3.5",
)
SECRET = Rule(
    "keys.private",
    "public members alone",
    "withdraw these keys now and sign with new ones: whoever has read them can sign tokens",
    "RFC 7517 §9.2",
)
NAMED = Rule(
    "keys.kid",
    "each key has a kid of its own",
    "give each key a kid, such as its thumbprint (RFC 7638)",
    "RFC 7517 §4.5",
)
REPEATED = Rule(
    "keys.repeated",
    "each key is published once",
    "publish it under one kid: a key that is withdrawn by its kid stays valid under the other",
    "RFC 7517 §4.5",
)
CERTIFICATES = Rule(
    "keys.x5c",
    "certificates of keys that are current and have the key itself",
    "renew the certificate, or leave x5c out",
    "RFC 7517 §4.7",
)
ENCRYPTION = Rule(
    "keys.encryption",
    "keys for signatures; those for encryption are marked by use=enc",
    "nothing: a guard leaves them out",
    "RFC 7517 §4.2",
)
COUNT = Rule(
    "keys.count",
    "a few keys: those that sign, the next ones, and those of valid tokens",
    "withdraw the keys whose tokens have expired",
    "RFC 9700 §2.6",
)
_MANY = 20
_USUAL_EXPONENT = 65_537


def findings(
    body: bytes,
    now: float,
    *,
    advertised: Sequence[str] = (),
    accepted: Sequence[str] | None = None,
) -> Iterator[Finding]:
    """Check the body of a `jwks_uri` at a time in Unix seconds.

    `advertised` are algorithms of the metadata, `accepted` those of the guard, if one is known.
    """
    try:
        published: Any = document.loads_object(body)
        key_set, refused = jwk.parse_jwks(published)
    except ValueError as error:
        yield USABLE.problem(str(error))
        published, key_set, refused = {}, jwk.KeySet(()), ()
        with suppress(ValueError):
            published = document.loads_object(body)
    listed = published.get("keys")
    members = [e for e in listed if isinstance(e, Mapping)] if isinstance(listed, list) else []
    yield from _private(members)
    if not key_set.keys:
        return
    yield USABLE.ok(
        f"{counted(len(key_set.keys), 'key')}: {', '.join(map(_described, key_set.keys))}"
    )
    encrypting = [each for each in members if each.get("use") == "enc"]
    if encrypting:
        yield ENCRYPTION.ok(
            f"{counted(len(encrypting), 'key')} for encryption, which guards leave out"
        )
    unexplained = len(refused) - len(encrypting)
    if unexplained > 0:
        texts = [text for text in refused if "use is not sig" not in text][:3]
        yield USABLE.warning(
            f"{counted(unexplained, 'key')} cannot be used: {quoted('; '.join(texts))}",
            "withdraw or correct them: tokens that they sign are refused",
        )
    if len(members) > _MANY:
        yield COUNT.warning(f"{len(members)} keys")
    yield from _strength(key_set.keys)
    yield from _names(key_set.keys)
    yield from _repeated(key_set.keys)
    yield from _certificates(members, now)
    yield from _algorithms(key_set.keys, advertised, accepted)


def _private(members: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    exposed = [each for each in members if not jwk.PRIVATE_MEMBERS.isdisjoint(each)]
    if exposed:
        kinds = quoted(sorted({str(each.get("kid")) for each in exposed}))
        yield SECRET.problem(f"private or symmetric members are published, of the keys {kinds}")


def _described(key: VerificationKey) -> str:
    material, algorithms = key.material, "/".join(_few(key.algorithms))
    if isinstance(material, RSAPublicKey):
        return f"RSA {material.key_size} bits ({algorithms})"
    if isinstance(material, EllipticCurvePublicKey):
        return f"EC {material.curve.name} ({algorithms})"
    kind = "OKP Ed25519" if ml_dsa.name_of(material) is None else "AKP"
    return f"{kind} ({algorithms})"


def _few(algorithms: Sequence[str]) -> Sequence[str]:
    return algorithms if len(algorithms) <= 2 else (algorithms[0], "…")  # noqa: PLR2004 - synonyms


def _strength(keys: Iterable[VerificationKey]) -> Iterator[Finding]:
    # `parse_jwks` has refused those of fewer bits.
    odd = [
        each.material.public_numbers().e
        for each in keys
        if isinstance(each.material, RSAPublicKey)
        and each.material.public_numbers().e != _USUAL_EXPONENT
    ]
    if odd:
        yield STRENGTH.warning(f"RSA keys with the exponent {', '.join(map(str, odd[:3]))}")
    else:
        yield STRENGTH.ok("no usable key is weak")


def _names(keys: Sequence[VerificationKey]) -> Iterator[Finding]:
    nameless = sum(each.kid is None for each in keys)
    repeated = [k for k, count in Counter(e.kid for e in keys).items() if k and count > 1]
    if repeated:
        yield NAMED.problem(f"several keys have the kid {quoted(repeated[0])}")
    if nameless and len(keys) > 1:
        yield NAMED.warning(
            f"{nameless} of {len(keys)} keys have no kid: each token is tried with several"
        )
    elif nameless:
        yield NAMED.note("the only key has no kid: it cannot be rotated without refused tokens")
    elif not repeated:
        yield NAMED.ok("each key has a kid of its own")


def _repeated(keys: Sequence[VerificationKey]) -> Iterator[Finding]:
    entries = Counter(each.octets for each in keys)
    kids = [quoted(each.kid) for each in keys if entries[each.octets] > 1]
    if kids:
        yield REPEATED.warning(f"one key has several entries: kid {', '.join(kids[:4])}")


def _certificates(members: Iterable[Mapping[str, Any]], now: float) -> Iterator[Finding]:
    checked = 0
    for member in members:
        chain = member.get("x5c")
        if not isinstance(chain, list) or not chain:
            continue
        checked += 1
        kid = quoted(member.get("kid"))
        try:
            octets = base64.b64decode(str(chain[0]), validate=True)
            certificate = x509.load_der_x509_certificate(octets)
            certified = thumbprint.thumbprint(thumbprint.public_jwk(certificate.public_key()))  # type: ignore[arg-type]
        except (ValueError, binascii.Error, TypeError, AttributeError):
            yield CERTIFICATES.warning(f"the certificate of the key {kid} cannot be read")
            continue
        with suppress(ValueError, KeyError, TypeError):
            if certified != thumbprint.thumbprint(member):
                yield CERTIFICATES.problem(f"the certificate of {kid} is for another key")
        days = (certificate.not_valid_after_utc.timestamp() - now) / 86_400
        if days < 0:
            yield CERTIFICATES.warning(f"the certificate of {kid} expired {-days:.0f} days ago")
    if checked:
        yield CERTIFICATES.ok(f"{counted(checked, 'certificate')} read")


def _algorithms(
    keys: Sequence[VerificationKey], advertised: Sequence[str], accepted: Sequence[str] | None
) -> Iterator[Finding]:
    possible = {name for each in keys for name in each.algorithms}
    if "none" in advertised:
        yield ALGORITHMS.problem("the metadata advertises the algorithm none")
    keyless = [name for name in advertised if name in jwk.ASYMMETRIC and name not in possible]
    if keyless:
        yield ALGORITHMS.note(
            f"no key is for {', '.join(keyless)}, which the metadata advertises for ID tokens"
        )
    symmetric = [name for name in advertised if name in jwk.SYMMETRIC]
    if symmetric:
        yield ALGORITHMS.note(
            f"the metadata advertises {', '.join(symmetric)}: client secrets sign ID tokens",
            "sign with a private key: whoever can verify such tokens can make them too",
        )
    if accepted is not None and possible.isdisjoint(accepted):
        yield ALGORITHMS.problem(
            f"the guard accepts {', '.join(accepted)}, and no key is for any of them",
            f"pass algorithms= with one of {', '.join(sorted(possible))}",
        )
    elif not keyless and "none" not in advertised:
        yield ALGORITHMS.ok(f"the keys are for {', '.join(sorted(possible))}")
