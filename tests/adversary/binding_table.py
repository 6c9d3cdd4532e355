"""Bound tokens, sent as if they were not bound, or proved by what proves something else."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from cryptography.hazmat.primitives.asymmetric import rsa

from bearerguard.protocol import dpop
from bearerguard.protocol.jose import base64url, signing
from bearerguard.testing import SigningKey, sign
from tests.adversary.attack import Attack, Send
from tests.adversary.keys_table import rsa_jwk
from tests.certificates import CLIENT, OTHER
from tests.conformance.dpop_table import (
    ALLOWED,
    BOTH,
    JKT,
    KEY,
    PROOF,
    REQUIRED,
    SENT_AS_DPOP,
    URL,
    bound,
    proof,
    sent,
)
from tests.conformance.dpop_table import OTHER as THIEF
from tests.conformance.drivers import Headers
from tests.conformance.harness import NOON, Harness, bearer, twisted
from tests.conformance.hdr_table import TOKEN

_numbers = count()
AS_DPOP: dict[str, Any] = {"guard": ALLOWED, "schemes": SENT_AS_DPOP}
AS_BEARER: dict[str, Any] = {"guard": ALLOWED, "schemes": BOTH}
WEAK = rsa.generate_private_key(65537, 1024)
TLS = {"guard": {"certificates": "tls"}}
EITHER = {**ALLOWED, "certificates": "tls"}
TWO = {"jkt": JKT, "x5t#S256": CLIENT.thumbprint}


def fresh(harness: Harness) -> Headers:
    """Send a bound token with a proof that was not used before."""
    token = bound(harness)
    return sent("DPoP", token, proof(token, jti=f"fresh-{next(_numbers)}"))


def stolen(scheme: str, make: Callable[[str], tuple[bytes, ...]]) -> Send:
    """Send a stolen bound token, with the proofs that the thief makes for it."""

    def send(harness: Harness) -> Headers:
        token = bound(harness)
        return sent(scheme, token, *make(token))

    return send


def elsewhere(name: str) -> Send:
    """Send the proof in another field, as a proxy that renames fields would."""

    def send(harness: Harness) -> Headers:
        token = bound(harness)
        return [*sent("DPoP", token), (name, proof(token))]

    return send


def in_one_field(harness: Harness) -> Headers:
    token = bound(harness)
    value = f"DPoP {token}, Bearer {token}".encode()
    return [("Authorization", value), ("DPoP", proof(token))]


def as_secret(token: str) -> tuple[bytes, ...]:
    """Sign by HMAC with the public key as the secret, or with one that the proof brings along."""
    secret = base64url.encode(b"s" * 32).decode()
    key = SigningKey("HS256", None, b"s" * 32)
    head = {"alg": "HS256", "typ": "dpop+jwt", "jwk": {"kty": "oct", "k": secret}}
    return (sign(head, claims(token), key).encode(),)


def unsigned(token: str) -> tuple[bytes, ...]:
    head, content, _ = proof(token).split(b".")
    none = base64url.encode(base64url.decode(head).replace(b"ES256", b"none"))
    return (b".".join((none, content, b"")),)


def claims(token: str) -> dict[str, Any]:
    ath = dpop.token_digest(token)
    return {"jti": "thief", "htm": "GET", "htu": URL, "iat": int(NOON), "ath": ath}


def weak(token: str) -> tuple[bytes, ...]:
    jwk = {name: value for name, value in rsa_jwk(WEAK).items() if name != "kid"}
    head = {"alg": "RS256", "typ": "dpop+jwt", "jwk": jwk}
    return (sign(head, claims(token), SigningKey("RS256", None, WEAK)).encode(),)


def small_order(token: str) -> tuple[bytes, ...]:
    """Prove by a key with which anybody can sign anything."""
    point = b"\1" + bytes(31)
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url.encode(point).decode()}
    head = {"alg": "EdDSA", "typ": "dpop+jwt", "jwk": jwk}
    made = sign(head, claims(token), SigningKey("HS256", None, b"x" * 32)).rpartition(".")[0]
    return (f"{made}.{base64url.encode(point + bytes(32)).decode()}".encode(),)


def replayed(rewrite: Callable[[str], str]) -> dict[str, Any]:
    """Use a proof, and send it again in another spelling."""

    def used(harness: Harness) -> None:
        token = bound(harness, jti="replayed")
        harness.used = token, proof(token, jti="replayed")  # type: ignore[attr-defined]
        assert harness.request(sent("DPoP", *harness.used)).status == 200  # type: ignore[attr-defined]

    def again(harness: Harness) -> Headers:
        token, used_proof = harness.used  # type: ignore[attr-defined]
        return sent("DPoP", token, rewrite(used_proof.decode()).encode())

    return {"prepare": used, "hostile": again}


def with_certificate(**cnf: Any) -> Send:
    return lambda harness: harness.bearer(cnf=cnf, jti="bound")


def both_bindings(*, proved: bool) -> Send:
    def send(harness: Harness) -> Headers:
        token = bound(harness, cnf=TWO, jti="both")
        proofs = [proof(token, jti=f"both-{next(_numbers)}")] if proved else []
        return sent("DPoP" if proved else "Bearer", token, *proofs)

    return send


def _downgrade(id_: str, hostile: Send, error: str | None, **more: Any) -> Attack:
    usual: dict[str, Any] = {"control": fresh, "once": True, "options": AS_DPOP}
    return Attack(id=id_, hostile=hostile, error=error, **{**usual, **more})


TABLE = [
    # Without the proof
    *(
        _downgrade(
            f"DP-09 a bound token as {scheme}, its proof stripped",
            stolen(scheme, lambda _: ()),
            TOKEN,
            options=AS_BEARER,
        )
        for scheme in ("Bearer", "bearer", "BEARER")
    ),
    _downgrade(
        "DP-09 a bound token as Bearer where proofs are required",
        lambda harness: bearer(bound(harness)),
        TOKEN,
        options={"guard": REQUIRED, "schemes": BOTH},
    ),
    _downgrade(
        "DP-09 a bound token as Bearer beside a valid proof",
        stolen("Bearer", lambda token: (proof(token),)),
        TOKEN,
        options=AS_BEARER,
    ),
    Attack(
        id="DP-09 a bound token as Bearer at a guard that knows no proofs",
        hostile=lambda harness: bearer(bound(harness)),
    ),
    Attack(
        id="DP-09 a bound token with its proof at a guard that knows no proofs",
        hostile=stolen("DPoP", lambda token: (proof(token),)),
        error=None,
    ),
    *(
        _downgrade(f"DP-01 the proof in {name}", elsewhere(name), PROOF)
        for name in ("X-DPoP", "DPoP-Proof", "Proof", "X-Forwarded-DPoP", "Authorization-DPoP")
    ),
    Attack(
        id="DP-10 both schemes in one field",
        hostile=in_one_field,
        control=fresh,
        once=True,
        status=400,
        error="invalid_request",
        options={"guard": ALLOWED, "schemes": BOTH, "erring": BOTH},
    ),
    # With what proves something else
    _downgrade(
        "DP-08 a thief's own key, and a proof for this token",
        stolen("DPoP", lambda token: (proof(token, THIEF),)),
        TOKEN,
    ),
    _downgrade(
        "DP-07 a recorded proof for another token of the same key",
        stolen("DPoP", lambda token: (proof(token + "x"),)),
        PROOF,
    ),
    _downgrade(
        "DP-02 the owner's public key under a thief's signature",
        stolen(
            "DPoP",
            lambda token: (proof(token, THIEF, {"jwk": dpop_jwk(KEY)}),),
        ),
        PROOF,
    ),
    _downgrade("DP-02 HS256 with a key of its own", stolen("DPoP", as_secret), PROOF),
    _downgrade("DP-02 no signature", stolen("DPoP", unsigned), PROOF),
    _downgrade("DP-02 RSA of 1024 bits", stolen("DPoP", weak), PROOF),
    _downgrade("DP-02 a key of small order", stolen("DPoP", small_order), PROOF),
    _downgrade(
        "DP-02 the token as its own proof",
        stolen("DPoP", lambda token: (token.encode(),)),
        PROOF,
    ),
    _downgrade(
        "DP-08 a proof as the token",
        lambda harness: sent("DPoP", proof(bound(harness)).decode(), proof("x")),
        TOKEN,
    ),
    # Once more
    Attack(
        id="DP-06 a used proof",
        error=PROOF,
        control=fresh,
        once=True,
        options=AS_DPOP,
        **replayed(lambda text: text),
    ),
    Attack(
        id="DP-06 a used proof with the other form of its signature",
        error=PROOF,
        control=fresh,
        once=True,
        options=AS_DPOP,
        **replayed(twisted),
    ),
    # Certificates
    *(
        Attack(
            id=f"MTLS-01 a token of another certificate, {name}",
            hostile=with_certificate(**{"x5t#S256": CLIENT.thumbprint}),
            control=with_certificate(**{"x5t#S256": CLIENT.thumbprint}),
            proved={"certificate": CLIENT.pem},
            options={**TLS, "certificate": presented},
        )
        for name, presented in (("another presented", OTHER.pem), ("none presented", ""))
    ),
    *(
        Attack(
            id=f"CNF-01 bound twice, and {name} alone",
            hostile=both_bindings(proved=proved),
            control=both_bindings(proved=True),
            once=True,
            proved={"certificate": CLIENT.pem},
            options={
                "guard": EITHER,
                "schemes": SENT_AS_DPOP if proved else BOTH,
                "certificate": presented,
            },
        )
        for name, proved, presented in (
            ("the key proved", True, ""),
            ("the certificate presented", False, CLIENT.pem),
            ("nothing proved", False, ""),
            ("the key proved beside another certificate", True, OTHER.pem),
        )
    ),
]


def dpop_jwk(key: signing.PrivateKey) -> dict[str, Any]:
    jwk = key.jwk()
    return {name: jwk[name] for name in ("kty", "crv", "x", "y")}
