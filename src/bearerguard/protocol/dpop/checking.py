"""Checking DPoP proofs (RFC 9449 §4.3), for an API and for an authorization server alike.

Pure: the caller gives the request, the time and the nonces that it accepts. Whether a proof was
used before (§11.1) is the caller's to find out, after these checks: `CheckedProof.replay_key` is
what to store, until `CheckedProof.expires_at`.

A sender uses one key for many proofs, and their headers are equal then. So the key of a header is
parsed once, and the cost of a proof is little more than that of its signature.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from bearerguard.errors import (
    BAD_PROOF_KEY,
    BAD_PROOF_SIGNATURE,
    MALFORMED_PROOF,
    MISSING_PROOF,
    NONCE_REQUIRED,
    REPEATED_PROOF,
    UNTIMELY_PROOF,
    WRONG_CONTENT_DIGEST,
    WRONG_KEY,
    WRONG_PROOF_ALGORITHM,
    WRONG_PROOF_METHOD,
    WRONG_PROOF_TARGET,
    WRONG_PROOF_TOKEN,
    WRONG_PROOF_TYPE,
    NonceRequired,
    ProofError,
    TokenError,
    quoted,
)
from bearerguard.protocol import names
from bearerguard.protocol.dpop.nonces import Nonces
from bearerguard.protocol.http import uri
from bearerguard.protocol.jose import base64url, jwk, jwt, strict_json
from bearerguard.protocol.jose.thumbprint import thumbprint
from bearerguard.protocol.jose.verifier import Verifier
from bearerguard.runtime.generations import Generations

#: The algorithms that are accepted, and listed in challenges and metadata, the preferred first.
ALGORITHMS = names.DPOP_ALGORITHMS
#: Seconds by which the `iat` of a proof may differ from this clock, before or after.
MAX_AGE = 300.0

# A proof with a key of 4096 bits and a long URL has half of it.
_MAX_BYTES = 8192
# Characters: a UUID has 36, a digest in hexadecimal has 128.
_MAX_JTI = 256
# Larger keys take a sender nothing to name, and a server long to use.
_MAX_RSA_BITS, _MAX_RSA_EXPONENT = 4096, 2**32
# The keys that are kept, and the longest header for which one is: that of 4096 bits has half of it.
_MAX_KEYS, _MAX_KEPT_HEADER = 4096, 2048
_JWS_PARTS = 3
# Larger values are not exact as a double.
_MAX_DATE = 2**53
# A member of a Content-Digest field (RFC 9530 §2): one algorithm, and a byte sequence (RFC 9651).
_DIGEST = re.compile(r"[ \t]*([a-z0-9*._-]+)=:([A-Za-z0-9+/]*={0,2}):[ \t]*")
_HASHES = {"sha-256": hashlib.sha256, "sha-512": hashlib.sha512}


class CheckedProof(NamedTuple):
    """A proof that passed every check except that for replay.

    Attributes:
        thumbprint: the thumbprint of the sender's key: `jkt` in a token bound to it (RFC 7638).
        jti: the identifier of the proof.
        htu: the target as the proof spells it.
        issued_at: when it was made, in Unix seconds by the sender's clock.
        expires_at: from when on its age alone makes it invalid, in Unix seconds by this clock.
        nonce: the nonce that it has, or None.
        content_digest: the digest of the request's body that it has, or None.
    """

    thumbprint: str
    jti: str
    htu: str
    issued_at: float
    expires_at: float
    nonce: str | None
    content_digest: str | None

    @property
    def replay_key(self) -> bytes:
        """The digest under which the use of this proof is stored (§11.1), of 32 bytes.

        It covers the key too: no sender can use up the identifiers of another.
        """
        # One text for each three: all thumbprints are as long, and the length tells the other two.
        jti = self.jti
        return hashlib.sha256(f"{self.thumbprint}{len(jti)} {jti}{self.htu}".encode()).digest()

    def __repr__(self) -> str:
        """Show the key's thumbprint alone: with the rest, somebody might replay the proof."""
        return f"CheckedProof({self.thumbprint!r})"


class _SenderKey(NamedTuple):
    """What the header of a proof says: the sender's key, and how it signs."""

    verify: Verifier
    thumbprint: str


class ProofChecker:
    """Checks the proofs that senders put into the `DPoP` field.

    Args:
        algorithms: the signature algorithms that are accepted, all asymmetric.
        max_age: seconds by which `iat` may differ from this clock, before or after.
        nonces: where a proof must have a nonce; None where none is demanded.
    """

    def __init__(
        self,
        algorithms: Sequence[str] = ALGORITHMS,
        *,
        max_age: float = MAX_AGE,
        nonces: Nonces | None = None,
    ) -> None:
        self.algorithms: tuple[str, ...] = tuple(algorithms)
        self.nonces: Nonces | None = nonces
        self.max_age: float = max_age
        # Headers whose key has signed a proof.
        self._keys: Generations[bytes, _SenderKey] = Generations(_MAX_KEYS)

    def check(
        self,
        fields: Sequence[bytes],
        *,
        method: str,
        target: str,
        now: float,
        token_digest: str | None = None,
        jkt: str | None = None,
    ) -> CheckedProof:
        """Return the proof of a request.

        Args:
            fields: the values of all its DPoP fields.
            method: its method.
            target: its external URL, as `dpop.target` returns it.
            now: Unix seconds.
            token_digest: the `ath` of the access token that it carries, if it carries one.
            jkt: the thumbprint of the key to which that token is bound. A proof by another key
                costs no check of a signature then.

        Raises:
            TokenError: it is not the key to which the token is bound.
            NonceRequired: everything else before the signature is valid, but the nonce is missing,
                or is not one of ours, or is too old.
            ProofError: it has no proof, or several, or an invalid one.
        """
        if len(fields) != 1:
            raise _no_single(fields)
        text = fields[0]
        parts = text.split(b".", _JWS_PARTS)
        if len(text) > _MAX_BYTES or len(parts) != _JWS_PARTS:
            raise ProofError(
                MALFORMED_PROOF, f"it is not a JWS of three parts, of at most {_MAX_BYTES} bytes"
            )
        header, payload, signature = parts
        known = self._keys.get(header)
        key = known or self._parse_header(header)
        try:
            claims = strict_json.loads_object(base64url.decode(payload))
            octets = base64url.decode(signature)
        except ValueError:
            raise _not_strict() from None
        proof = self._checked(claims, key, method, target, now, token_digest)
        if jkt is not None and key.thumbprint != jkt:
            raise TokenError(
                WRONG_KEY, "the proof is by another key than the one to which the token is bound"
            )
        if not key.verify(text[: -1 - len(signature)], octets):
            raise ProofError(BAD_PROOF_SIGNATURE, "its signature is not that of its jwk")
        if known is None and len(header) <= _MAX_KEPT_HEADER:
            self._keys.put(header, key)
        return proof

    def _parse_header(self, segment: bytes) -> _SenderKey:
        try:
            header = strict_json.loads_object(base64url.decode(segment))
        except ValueError:
            raise _not_strict() from None
        typ, algorithm, public = header.get("typ"), header.get("alg"), header.get("jwk")
        if not isinstance(typ, str) or jwt.media_type(typ) != names.DPOP_PROOF_JWT:
            raise ProofError(WRONG_PROOF_TYPE, f"its typ is {quoted(typ)}: send dpop+jwt")
        if not isinstance(algorithm, str) or algorithm not in self.algorithms:
            raise ProofError(
                WRONG_PROOF_ALGORITHM,
                f"its alg is {quoted(algorithm)}: send one of {', '.join(self.algorithms)}",
            )
        if "crit" in header or header.get("b64", True) is not True:
            raise ProofError(MALFORMED_PROOF, "its header requires an extension (crit, b64)")
        if not isinstance(public, dict):
            raise ProofError(BAD_PROOF_KEY, "its header has no jwk: send the public key in it")
        try:
            return _sender_key(public, algorithm)
        except ValueError as error:
            raise ProofError(BAD_PROOF_KEY, f"its jwk is not usable: {error}") from None

    def _checked(  # noqa: C901, PLR0917 - one pass: each claim is looked up once
        self,
        claims: dict[str, Any],
        key: _SenderKey,
        method: str,
        target: str,
        now: float,
        token_digest: str | None,
    ) -> CheckedProof:
        """Check the claims; raises `ProofError`."""
        get = claims.get
        jti, htm, htu = get("jti"), get("htm"), get("htu")
        if type(jti) is not str or not jti:
            raise _no_text("jti")
        if type(htm) is not str or not htm:
            raise _no_text("htm")
        if type(htu) is not str or not htu:
            raise _no_text("htu")
        if len(jti) > _MAX_JTI:
            raise ProofError(
                MALFORMED_PROOF, f"its jti has more than {_MAX_JTI} characters: send a UUID"
            )
        if htm != method:
            raise ProofError(
                WRONG_PROOF_METHOD, f"its htm is {quoted(htm)}, the request is {quoted(method)}"
            )
        if htu != target and not _is_same(htu, target):
            raise ProofError(
                WRONG_PROOF_TARGET,
                f"its htu is {quoted(htu)}, the request is for {quoted(target)}: if clients use the"
                " former, correct public_url= of the Guard, or the URL of the authorization server",
            )
        issued_at: Any = get("iat")
        kind = type(issued_at)  # exactly: bool is an int in Python
        if (kind is not int and kind is not float) or not 0 <= issued_at <= _MAX_DATE:
            raise ProofError(MALFORMED_PROOF, "it has no iat, or one that is no date in seconds")
        if not -self.max_age <= now - issued_at < self.max_age:
            raise _untimely(now - issued_at, self.max_age)
        if token_digest is not None and get("ath") != token_digest:
            found = "another one" if get("ath") else "missing"
            raise ProofError(
                WRONG_PROOF_TOKEN,
                f"its ath is {found}: send the digest of the access token in the request",
            )
        nonce, digest = get("nonce"), get("content_digest")
        if type(nonce) is not str and nonce is not None:
            raise ProofError(MALFORMED_PROOF, "its nonce is no text")
        if type(digest) is not str and digest is not None:
            raise ProofError(MALFORMED_PROOF, "its content_digest is no text")
        nonces = self.nonces
        if nonces is not None and (nonce is None or not nonces.accepts(nonce, now)):
            found = "has no nonce" if nonce is None else "has a nonce that is not ours, or too old"
            raise NonceRequired(
                NONCE_REQUIRED, f"the proof {found}: the response has one for the next attempt"
            )
        return CheckedProof(
            key.thumbprint, jti, htu, issued_at, issued_at + self.max_age, nonce, digest
        )


def check_content_digest(value: str | None, body: bytes) -> None:
    """Raise `ProofError` unless `content_digest` is the digest of a request's body.

    It is spelled as a Content-Digest field (RFC 9530 §2): `sha-256=:…:`. Every digest of a known
    algorithm must be that of the body, and there must be one.
    """
    if value is None:
        raise ProofError(
            WRONG_CONTENT_DIGEST,
            "it has no content_digest: send `sha-256=:…:` of the body, or leave out"
            " dpop_content_digest=",
        )
    found = 0
    for member in value.split(","):
        match = _DIGEST.fullmatch(member)
        if match is None:
            raise ProofError(WRONG_CONTENT_DIGEST, "its content_digest is malformed (RFC 9530 §2)")
        make = _HASHES.get(match[1])
        if make is None:
            continue
        try:
            digest = base64.b64decode(match[2], validate=True)
        except binascii.Error:
            digest = b""
        if digest != make(body).digest():
            raise ProofError(WRONG_CONTENT_DIGEST, "its content_digest is that of another body")
        found += 1
    if not found:
        raise ProofError(
            WRONG_CONTENT_DIGEST, f"its content_digest has none of {', '.join(_HASHES)}"
        )


def _sender_key(public: Mapping[str, Any], algorithm: str) -> _SenderKey:
    """Return the key of a JWK; raises ValueError with the reason it is unusable."""
    if not jwk.PRIVATE_MEMBERS.isdisjoint(public):
        raise ValueError("it has private members: replace the key, which is known to others now")
    key = jwk.parse_jwk(public)
    if algorithm not in key.algorithms:
        raise ValueError("its alg does not fit it")
    material = key.material
    if isinstance(material, RSAPublicKey) and (
        material.key_size > _MAX_RSA_BITS or material.public_numbers().e > _MAX_RSA_EXPONENT
    ):
        raise ValueError(f"its modulus has more than {_MAX_RSA_BITS} bits, or its exponent 32")
    return _SenderKey(key.verifier(algorithm), thumbprint(public))


def _is_same(htu: str, target: str) -> bool:
    """Whether two spellings mean one target, apart from query and fragment (§4.3 check 9)."""
    without = htu.partition("#")[0].partition("?")[0]
    return uri.normalized(without) == uri.normalized(target)


def _no_single(fields: Sequence[bytes]) -> ProofError:
    if fields:
        return ProofError(REPEATED_PROOF, "the request has several DPoP fields: send one")
    return ProofError(
        MISSING_PROOF,
        "the request has no DPoP field: send a proof in it; if the client sent one, a proxy"
        " removed it",
    )


def _not_strict() -> ProofError:
    # The cause would quote the proof.
    return ProofError(MALFORMED_PROOF, "it is not strict base64url and JSON")


def _no_text(name: str) -> ProofError:
    return ProofError(MALFORMED_PROOF, f"it has no {name}, or one that is no text")


def _untimely(age: float, max_age: float) -> ProofError:
    seconds, when = abs(age), "ago" if age > 0 else "ahead"
    return ProofError(
        UNTIMELY_PROOF,
        f"it was made {seconds:.0f} s {when} by this clock, at most {max_age:.0f} s are accepted:"
        " make a proof for each request, and set the sender's clock",
    )
