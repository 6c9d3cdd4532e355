"""JSON, base64url, JWTs, keys and signatures."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bearerguard import TokenError
from bearerguard.protocol.jose import base64url, jwk, jwt, strict_json
from bearerguard.protocol.jose.thumbprint import public_jwk, thumbprint
from bearerguard.runtime.sealing import Sealer, SealError
from bearerguard.testing.signing_key import SigningKey
from tests.fuzz.target import target

ED25519 = SigningKey("EdDSA", "ed", Ed25519PrivateKey.from_private_bytes(b"\1" * 32))
ES256 = SigningKey("ES256", "es", derive_private_key(7, SECP256R1()))
SIGNED = b"the octets that are signed"
JWK_ED25519 = json.dumps({"kid": "ed", "use": "sig", **public_jwk(ED25519.private.public_key())})
JWK_ES256 = json.dumps({"kid": "es", "alg": "ES256", **public_jwk(ES256.private.public_key())})
RSA_MODULUS = base64url.encode(b"\xc1" + b"\x5d" * 255).decode()
PEM = b"""-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=
-----END PUBLIC KEY-----
"""
SEALER = Sealer("a secret of the fuzz targets, not a real one", purpose="fuzz")
# Deterministic, unlike what a sealer makes: it may be refused, and is a seed of the right length.
SEALED = b"\1" + bytes(range(80))
MEMBERS = base64url.encode(b'{"alg":"EdDSA","kid":"ed","typ":"at+jwt"}')


@target(b"", b"QQ", b"QUI", b"QUJD", b"-_-_", b"AB", b"QQ==", b"a b", b"YWJj\n")
def base64url_text(octets: bytes) -> None:
    with suppress(ValueError):
        assert base64url.encode(base64url.decode(octets)) == octets
    assert base64url.decode(base64url.encode(octets)) == octets


@target(
    b'{"a":[1,2.5,-0,true,null,"\\u00e9"]}',
    b'{"a":1,"a":1}',
    b'{"b":{"a":1,"a":1}}',
    b'"\\ud83d\\ude00"',
    b'"\\ud800"',
    b"[" * 70 + b"]" * 70,
    b'{"a":' * 40 + b"1" + b"}" * 40,
    b"9" * 5000,
    b"1e999",
    b' {"a" : 1} ',
    b'\xef\xbb\xbf{"a":1}',
)
def json_text(octets: bytes) -> None:
    outcomes: list[Any] = []
    for parse in (strict_json.loads, strict_json.loads_object, strict_json._parsed_object):
        try:
            outcomes.append((value := parse(octets), repr(value))[1])
        except ValueError:
            outcomes.append(ValueError)
    assert outcomes[1] == outcomes[2]
    if outcomes[0] is not ValueError:
        assert outcomes[0] == repr(json.loads(octets.decode()))
        assert outcomes[1] in {outcomes[0], ValueError}


@target(
    MEMBERS + b".e30.c2ln",
    MEMBERS + b"." + base64url.encode(b'{"iss":"i","exp":1,"nul":null}') + b".",
    base64url.encode(b'{"alg":"none"}') + b".e30.",
    base64url.encode(b'{"alg":"ES256","kid":null}') + b".e30.AA",
    base64url.encode(b'{"alg":"ES256","crit":["b64"],"b64":false}') + b".e30.AA",
    base64url.encode(b'{"alg":"RSA-OAEP","iss":"i"}') + b".a.b.c.d",
    b"Bearer a.b.c",
)
def json_web_token(octets: bytes) -> None:
    issuer = jwt.unverified_issuer(octets)
    assert issuer is None or isinstance(issuer, str)
    for segment in octets.split(b".")[:1]:
        with suppress(TokenError):
            header = jwt.parse_header(segment)
            assert jwt.media_type(header.typ) == jwt.media_type(header.typ).lower()
            with suppress(TokenError):
                jwt.check_type(header.typ, frozenset({"at+jwt"}))
    with suppress(TokenError):
        token = jwt.parse(octets)
        assert b".".join((token.signing_input, base64url.encode(token.signature))) == octets
        assert None not in token.claims.values()


@target(
    b'{"keys":[%s,%s]}' % (JWK_ED25519.encode(), JWK_ES256.encode()),
    b'{"keys":[{"kty":"RSA","n":"%s","e":"AQAB"}]}' % RSA_MODULUS.encode(),
    b'{"keys":[{"kty":"RSA","n":"AQ","e":"AA"},{"kty":"oct","k":"AA"},{"kty":"EC"}]}',
    b'{"keys":[{"kty":"EC","crv":"P-521","x":"AA","y":"AA"},{"kty":"OKP","crv":"X25519","x":""}]}',
    b'{"keys":[]}',
    b'{"keys":null,"jwks_uri":"https://id.example"}',
    json.dumps({"kid-1": PEM.decode()}).encode(),
    b'{"kid-1":"-----BEGIN CERTIFICATE-----\\nMIIB\\n-----END CERTIFICATE-----"}',
)
def json_web_key_set(octets: bytes) -> None:
    try:
        document = strict_json.loads(octets)
        keys, problems = jwk.parse_jwks(document)
    except ValueError:
        return
    assert keys.keys
    for key in keys.keys:
        assert key.algorithms
        assert not set(key.algorithms) & {*jwk.SYMMETRIC, "none"}
        for algorithm in key.algorithms:
            assert key in keys.candidates(algorithm, key.kid) or len(keys.keys) > 8
            assert not key.verifies(algorithm, SIGNED, b"\0" * 64)
        assert len(thumbprint(public_jwk(key.material))) == 43
    assert all(isinstance(each, str) for each in problems)


@target(b"", PEM, PEM.replace(b"PUBLIC", b"PRIVATE"), PEM.replace(b"PUBLIC KEY", b"CERTIFICATE"))
def pem_text(octets: bytes) -> None:
    with suppress(ValueError):
        assert jwk.parse_pem(octets).algorithms


@target(
    b'{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}', b'{"kty":["RSA"],"n":1}', JWK_ED25519.encode()
)
def key_thumbprint(octets: bytes) -> None:
    with suppress(ValueError):
        assert len(thumbprint(strict_json.loads_object(octets))) == 43


_KEYS = [jwk.from_public_key(each.private.public_key()) for each in (ED25519, ES256)]
_SIGNATURES = [
    ED25519.private.sign(SIGNED),
    *(base64url.decode(each) for each in (b"A" * 86, b"_" * 85 + b"w")),
]


@target(b"", b"\0" * 64, b"\xff" * 64, b"\0" * 65, b"0\6\2\1\1\2\1\1", *_SIGNATURES)
def signature(octets: bytes) -> None:
    for key in _KEYS:
        for algorithm in key.algorithms:
            verified = key.verifies(algorithm, SIGNED, octets)
            assert verified is (octets == _SIGNATURES[0] and algorithm in {"EdDSA", "Ed25519"})


@target(b"", SEALED, SEALED[:28], b"\0" * 60)
def sealed_octets(octets: bytes) -> None:
    for associated in (b"", b"place"):
        try:
            SEALER.open(octets, associated)
        except SealError:
            continue
        raise AssertionError("it was never sealed")
