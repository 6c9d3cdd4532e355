"""What proves a sender: DPoP proofs and nonces, certificates and the fields that bring them."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import json
import warnings
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from bearerguard.errors import ProofError, TokenError
from bearerguard.protocol.dpop import checking
from bearerguard.protocol.dpop.nonces import Nonces
from bearerguard.protocol.http.certificate_header import CertificateHeader
from bearerguard.protocol.http.certificates import UnusableCertificate, of_connection
from bearerguard.protocol.jose.thumbprint import public_jwk
from bearerguard.testing.signing_key import sign
from tests.fuzz.of_jose import ED25519
from tests.fuzz.of_protocol import NOW
from tests.fuzz.target import target, text

_TARGET = "https://api.example/things"
_JWK = public_jwk(ED25519.private.public_key())
_HEADER = {"typ": "dpop+jwt", "alg": "EdDSA", "jwk": _JWK}
_CLAIMS: dict[str, Any] = {"jti": "1", "htm": "GET", "htu": _TARGET, "iat": NOW, "ath": "digest"}
_CHECKER = checking.ProofChecker()
_NONCES = Nonces("a secret of the fuzz targets, not a real one", purpose="fuzz")


def _proof(header: bytes, claims: bytes) -> bytes:
    return sign(header, claims, ED25519).encode()


PROOF = _proof(json.dumps(_HEADER).encode(), json.dumps(_CLAIMS).encode())


def _checked(fields: list[bytes]) -> checking.CheckedProof | None:
    with suppress(ProofError, TokenError):
        return _CHECKER.check(fields, method="GET", target=_TARGET, now=NOW, token_digest="digest")
    return None


@target(PROOF, PROOF + b"\n" + PROOF, b"", b"a.b.c", PROOF.replace(b".", b"..", 1))
def dpop_proof(octets: bytes) -> None:
    fields = octets.split(b"\n") if octets else []
    if _checked(fields) is not None:
        assert fields == [PROOF]


@target(
    json.dumps(_HEADER).encode() + b"\n" + json.dumps(_CLAIMS).encode(),
    json.dumps({**_HEADER, "alg": "HS256"}).encode() + b"\n" + json.dumps(_CLAIMS).encode(),
    json.dumps({**_HEADER, "jwk": {**_JWK, "d": "AA"}}).encode() + b"\n{}",
    json.dumps(_HEADER).encode()
    + b"\n"
    + json.dumps({**_CLAIMS, "htu": "HTTPS://API.example:443/./things?a#b"}).encode(),
    json.dumps({**_HEADER, "jwk": {"kty": "RSA", "n": "AQ", "e": "AQAB"}}).encode() + b"\n{}",
    b'{"typ":"dpop+jwt","alg":["EdDSA"],"jwk":[]}\n{"jti":1,"iat":true,"htm":{},"htu":"//["}',
)
def dpop_content(octets: bytes) -> None:
    """Any header and claims under the sender's own signature."""
    header, _, claims = octets.partition(b"\n")
    found = _checked([_proof(header, claims)])
    if found is not None:
        sent = json.loads(claims)
        assert sent["htm"] == "GET"
        assert sent["ath"] == "digest"
        assert abs(sent["iat"] - NOW) <= 600
        assert json.loads(header)["alg"] in {"EdDSA", "Ed25519"}
        assert "d" not in json.loads(header)["jwk"]
        assert len(found.replay_key) == 32


@target(
    b"sha-256=:" + base64.b64encode(hashlib.sha256(b"body").digest()) + b":",
    b"sha-256=:AAAA:, md5=:AA==:",
    b"sha-512=:====:",
    b"",
)
def dpop_content_digest(octets: bytes) -> None:
    with suppress(ProofError):
        checking.check_content_digest(text(octets), b"body")
        assert base64.b64encode(hashlib.sha256(b"body").digest()) in octets or (
            base64.b64encode(hashlib.sha512(b"body").digest()) in octets
        )


@target(_NONCES.make(NOW).encode(), b"", b"A" * 32, b"\xff")
def nonce_of_ours(octets: bytes) -> None:
    nonce = text(octets)
    assert not _NONCES.accepts(nonce, NOW + 10_000)
    if _NONCES.accepts(nonce, NOW):
        assert nonce == _NONCES.make(NOW) or len(nonce) > 16
    _NONCES.is_old(nonce, NOW)


@cache
def certificate() -> bytes:
    """A certificate in DER; its signature is Ed25519's, and so always the same."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
    key = ED25519.private
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), 1, start, start + dt.timedelta(days=9)
    )
    return builder.sign(key, None).public_bytes(Encoding.DER)


_DER = certificate()
_PEM = x509.load_der_x509_certificate(_DER).public_bytes(Encoding.PEM)
_B64 = base64.b64encode(_DER)
_HASH = hashlib.sha256(_DER).hexdigest().encode()
_HEADERS = {
    name: CertificateHeader(name) for name in ("nginx", "envoy", "traefik", "alb", "rfc9440")
}


@contextmanager
def _unwarned() -> Generator[None]:
    """Ignore that cryptography will refuse more certificates some day."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        yield


@target(
    quote(_PEM.decode()).encode(),
    quote(_PEM.decode(), safe="+=/").encode(),
    b"Hash=" + _HASH + b';Cert="' + quote(_PEM.decode(), safe="").encode() + b'";Subject="CN=a"',
    b'By=spiffe://a;Hash=00,By=b;Hash="' + _HASH + b'"',
    _B64 + b"," + _B64,
    b":" + _B64 + b":",
    b'Hash="unclosed',
    b"-----BEGIN CERTIFICATE-----",
    b"%2D%2D%2D",
    b"%zz",
)
def certificate_field(octets: bytes) -> None:
    values = octets.split(b"\n")
    for header in _HEADERS.values():
        with _unwarned(), suppress(UnusableCertificate):
            found = header.parse(values)
            assert found is None or len(values) == 1


@target(
    _PEM, _PEM * 2, _PEM * 20, _DER, b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"
)
def certificate_of_a_connection(octets: bytes) -> None:
    with _unwarned(), suppress(UnusableCertificate):
        of_connection({"client_cert_chain": [text(octets)], "client_cert_name": "a"})
