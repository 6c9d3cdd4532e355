"""DP-00 … DP-12, CNF-01: tokens that are bound to a key of their sender (RFC 9449)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bearerguard import MemoryReplays, scopes
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.protocol.jose.thumbprint import public_jwk
from bearerguard.redis import RedisStore
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import NOON, Harness, bearer
from tests.conformance.scenario import Scenario

KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))
OTHER = signing.PrivateKey("EdDSA", None, signing.generate("EdDSA"))
PUBLIC = public_jwk(KEY.private.public_key())
JKT = dpop.key_thumbprint(KEY)
URL = "https://api.test/things"
SECRET, OLDER = "n" * 32, "o" * 32
NONCES = dpop.Nonces(SECRET, purpose="api")
TOKEN, PROOF, NONCE, REQUEST = (
    "invalid_token",
    "invalid_dpop_proof",
    "use_dpop_nonce",
    "invalid_request",
)
BOTH = ("Bearer", "DPoP")
SENT_AS_DPOP = ("DPoP", "Bearer")
ALLOWED: dict[str, Any] = {"dpop": "allowed"}
REQUIRED: dict[str, Any] = {"dpop": "required"}
Send = Callable[[Harness], Headers]


def bound(harness: Harness, **claims: Any) -> str:
    return harness.token(**{"cnf": {"jkt": JKT}, **claims})


def proof(
    token: str, key: signing.PrivateKey = KEY, header: dict[str, Any] | None = None, **claims: Any
) -> bytes:
    """Return a proof for `URL`; None leaves a claim or a member of the header out."""
    given = {
        "jti": "one",
        "htm": "GET",
        "htu": URL,
        "iat": int(NOON),
        "ath": dpop.token_digest(token),
        **claims,
    }
    head = {"typ": "dpop+jwt", "jwk": public_jwk(key.private.public_key()), **(header or {})}
    kept, members = (
        {name: value for name, value in each.items() if value is not None} for each in (head, given)
    )
    return key.sign(kept, members).encode()


def sent(scheme: str, token: str, *proofs: bytes) -> Headers:
    fields = [("DPoP", each) for each in proofs]
    return [("Authorization", f"{scheme} {token}".encode()), *fields]


def good(scheme: str = "DPoP", key: signing.PrivateKey = KEY, **claims: Any) -> Send:
    """Send a bound token with a proof; `claims` are of the proof."""

    def send(harness: Harness) -> Headers:
        token = bound(harness)
        return sent(scheme, token, proof(token, key, **claims))

    return send


def without(claim: str) -> Send:
    """Send a proof without one of its claims."""

    def send(harness: Harness) -> Headers:
        token = bound(harness)
        missing: dict[str, Any] = {claim: None}
        return sent("DPoP", token, proof(token, **missing))

    return send


def with_header(**members: Any) -> Send:
    return good(header=members)


def with_token(scheme: str, *, with_proof: bool = True, **claims: Any) -> Send:
    """Send a token with these claims."""

    def send(harness: Harness) -> Headers:
        token = harness.token(**claims)
        return sent(scheme, token, *([proof(token)] if with_proof else []))

    return send


def without_proof(harness: Harness) -> Headers:
    return sent("DPoP", bound(harness))


def two_proofs(harness: Harness) -> Headers:
    token = bound(harness)
    return sent("DPoP", token, proof(token), proof(token, jti="two"))


def malformed(text: bytes) -> Send:
    return lambda harness: sent("DPoP", bound(harness), text)


def forged(harness: Harness) -> Headers:
    token = bound(harness)
    head, claims, _ = proof(token).split(b".")
    signature = proof(token, jti="two").split(b".")[2]
    return sent("DPoP", token, b".".join((head, claims, signature)))


def both_schemes(harness: Harness) -> Headers:
    token = bound(harness)
    return [*sent("DPoP", token, proof(token)), *bearer(harness.token())]


def opaque(harness: Harness) -> Headers:
    token = harness.issuer.opaque_token(
        claims={"cnf": {"jkt": JKT}, "token_type": "DPoP", "scope": "read"}
    )
    return sent("DPoP", token, proof(token))


def as_bearer(harness: Harness) -> Headers:
    return bearer(bound(harness))


def opaque_as_bearer(harness: Harness) -> tuple[str, bytes]:
    return "Authorization", opaque(harness)[0][1].replace(b"DPoP", b"Bearer")


def nothing(_harness: Harness) -> Headers:
    return []


def _used(harness: Harness) -> None:
    assert harness.request(good()(harness)).status == 200


def _used_by_another(harness: Harness) -> None:
    token = bound(harness, cnf={"jkt": dpop.key_thumbprint(OTHER)})
    response = harness.request(sent("DPoP", token, proof(token, OTHER)))
    assert response.status == 200


def _is_bound_when_cached(harness: Harness) -> None:
    """The token is cached now; it is bound all the same."""
    token = bound(harness)
    headers = sent("DPoP", token, proof(token))
    assert harness.request(headers).status == 200
    assert harness.request(bearer(token)).status == 401
    assert harness.request(headers).status == 401


def _also_on_a_cached_token(harness: Harness, _response: Received) -> None:
    token = bound(harness)
    for jti in ("two", "three"):
        assert harness.request(sent("DPoP", token, proof(token, jti=jti))).status == 200
        assert harness.request(bearer(token)).status == 401
        assert harness.request(sent("DPoP", token)).status == 401
        assert harness.request(sent("DPoP", token, proof(token, jti=jti))).status == 401


def _one_new_nonce(_harness: Harness, response: Received) -> None:
    assert NONCES.accepts(response.one("dpop-nonce"), NOON)


def _completes_with_the_nonce(harness: Harness, response: Received) -> None:
    _one_new_nonce(harness, response)
    nonce = response.one("dpop-nonce")
    assert harness.request(good(nonce=nonce)(harness)).status == 200


def row(id_: str, send: Send, error: str | None, status: int = 401, **more: Any) -> Scenario:
    """A request by a token under the DPoP scheme, which is refused unless `status` is 200."""
    usual = {"guard": ALLOWED, "schemes": SENT_AS_DPOP}
    return Scenario(id=id_, send=send, status=status, error=error, **{**usual, **more})


def with_nonces(*secrets: str) -> dict[str, Any]:
    return {"guard": {**ALLOWED, "dpop_nonces": [*secrets]}}


def digest_of(body: bytes) -> dict[str, Any]:
    return {"guard": {**ALLOWED, "dpop_content_digest": True}, "body": body, "method": "POST"}


_OFF: dict[str, Any] = {"guard": {}, "schemes": ("Bearer",)}
_AS_BEARER: dict[str, Any] = {"schemes": BOTH}
_HTU = "https://api.test"
_TWO = {"jkt": JKT, "kid": "x"}
NONCED = with_nonces(SECRET)
_UNAVAILABLE = "redis://127.0.0.1:1"

TABLE = [
    # The modes
    row("DP-00 off: a bearer token passes", good("Bearer"), TOKEN, **_OFF),
    row("DP-00 off: no credentials, one challenge", nothing, None, **_OFF),
    row("DP-00 off: the scheme DPoP is unknown", good(), None, **_OFF),
    row("DP-00 allowed: a proved token passes", good(), None, 200, after=_also_on_a_cached_token),
    row(
        "DP-00 allowed: a bearer token passes",
        with_token("Bearer", with_proof=False),
        None,
        200,
    ),
    row("DP-00 required: a proved token passes", good(), None, 200, guard=REQUIRED),
    row(
        "DP-00 required: a bearer token is refused",
        with_token("Bearer", with_proof=False),
        TOKEN,
        guard=REQUIRED,
        schemes=BOTH,
    ),
    row("DP-00 required: an unproved one is refused", without_proof, PROOF, guard=REQUIRED),
    row("DP-00 an introspected token is bound too", opaque, None, 200, introspection={}),
    row(
        "DP-00 an introspected token under Bearer",
        lambda harness: [opaque_as_bearer(harness)],
        TOKEN,
        introspection={},
        **_AS_BEARER,
    ),
    # The field
    row("DP-01 no proof", without_proof, PROOF),
    row("DP-01 two proofs", two_proofs, PROOF),
    row("DP-01 no JWS", malformed(b"x"), PROOF),
    row("DP-01 an empty field", malformed(b""), PROOF),
    row("DP-01 octets beyond ASCII", malformed(b"\xff.\xfe.\xfd"), PROOF),
    row("DP-01 a very long field", malformed(b"a" * 100_000), PROOF),
    *(
        row(f"DP-01 without {name}", without(name), PROOF)
        for name in ("jti", "htm", "htu", "iat", "ath")
    ),
    row("DP-01 without typ", with_header(typ=None), PROOF),
    row("DP-01 without jwk", with_header(jwk=None), PROOF),
    # The signature
    row("DP-02 another typ", with_header(typ="at+jwt"), PROOF),
    row(
        "DP-02 a private key",
        with_header(jwk={**public_jwk(KEY.private.public_key()), "d": "A"}),
        PROOF,
    ),
    row("DP-02 a forged signature", forged, PROOF),
    row(
        "DP-02 an algorithm that is not allowed",
        good(),
        PROOF,
        guard={**ALLOWED, "dpop_algorithms": ["EdDSA"]},
    ),
    # The request
    row("DP-03 another method", good(htm="POST"), PROOF),
    row("DP-03 the method in lower case", good(htm="get"), PROOF),
    row("DP-03 a POST", good(htm="POST"), None, 200, method="POST"),
    row("DP-04 another path", good(htu=f"{_HTU}/other"), PROOF),
    row("DP-04 another host", good(htu="https://evil.test/things"), PROOF),
    row("DP-04 another scheme", good(htu="http://api.test/things"), PROOF),
    row("DP-04 a query is ignored", good(), None, 200, target="/things?page=2"),
    row("DP-04 a query in htu is ignored", good(htu=f"{URL}?a#b"), None, 200),
    row("DP-04 case and default port", good(htu="HTTPS://API.test:443/things"), None, 200),
    row("DP-04 percent-encoding", good(htu=f"{_HTU}/%74hings"), None, 200),
    row("DP-04 dot segments", good(htu=f"{_HTU}/x/../things"), None, 200),
    row(
        "DP-04 the path as it was sent",
        good(htu=f"{_HTU}/a%2fb/~c"),
        None,
        200,
        target="/a%2Fb/%7ec",
    ),
    row("DP-04 a slash is no encoded slash", good(htu=f"{_HTU}/a/b"), PROOF, target="/a%2Fb"),
    row(
        "DP-04 the Host of a stranger is ignored",
        lambda harness: [*good(htu="https://evil.test/things")(harness), ("Host", b"evil.test")],
        PROOF,
    ),
    row(
        "DP-04 the public URL, with a path that a proxy removed",
        good(htu="https://public.test/v1/things"),
        None,
        200,
        guard={**ALLOWED, "public_url": "https://public.test/v1/"},
    ),
    row(
        "DP-04 the path of the public URL is not doubled",
        good(htu="https://public.test/things"),
        None,
        200,
        guard={**ALLOWED, "public_url": "https://public.test/things"},
    ),
    row("DP-05 300 s old", good(iat=NOON - 300), PROOF),
    row("DP-05 299 s old", good(iat=NOON - 299), None, 200),
    row("DP-05 300 s ahead", good(iat=NOON + 300), None, 200),
    row("DP-05 301 s ahead", good(iat=NOON + 301), PROOF),
    row(
        "DP-05 a shorter window",
        good(iat=NOON - 11),
        PROOF,
        guard={**ALLOWED, "dpop_max_age": 10},
    ),
    # Replay
    row("DP-06 a proof is used once", good(), PROOF, before=_used),
    row("DP-06 the same jti of another sender", good(), None, 200, before=_used_by_another),
    row("DP-06 the same jti for another URL", good(htu=f"{URL}?q"), None, 200, before=_used),
    row("DP-06 a jti of 257 characters", good(jti="j" * 257), PROOF),
    row(
        "DP-06 a cached token is bound",
        good(jti="x"),
        None,
        200,
        before=_is_bound_when_cached,
    ),
    row(
        "DP-06 the store is down",
        good(),
        None,
        503,
        fresh=lambda: {"replay": RedisStore(_UNAVAILABLE, secret="s" * 32)},
        absent=("www-authenticate",),
    ),
    row(
        "DP-06 a forged proof uses up nothing",
        good(),
        None,
        200,
        before=lambda harness: harness.request(forged(harness)),
        fresh=lambda: {"replay": MemoryReplays(size=4)},
    ),
    # The token
    row("DP-07 the ath of another token", good(ath=dpop.token_digest("other")), PROOF),
    row("DP-08 the key of another sender", good(key=OTHER), TOKEN),
    row("DP-08 an unbound token", with_token("DPoP"), TOKEN),
    row("DP-08 an expired token", with_token("DPoP", cnf={"jkt": JKT}, expires_in=-60), TOKEN),
    row("DP-08 no proof", without_proof, PROOF),
    row("DP-09 a bound token as Bearer", good("Bearer"), TOKEN, **_AS_BEARER),
    row(
        "DP-09 as Bearer without a proof",
        with_token("Bearer", cnf={"jkt": JKT}),
        TOKEN,
        **_AS_BEARER,
    ),
    # Challenges
    row("DP-10 no credentials", nothing, None, schemes=BOTH, erring=BOTH),
    row(
        "DP-10 no credentials, a scope",
        nothing,
        None,
        schemes=BOTH,
        erring=BOTH,
        scope="read",
        guard={**ALLOWED, "require": scopes("read")},
    ),
    row("DP-10 required: DPoP comes first", nothing, None, erring=BOTH, guard=REQUIRED),
    row("DP-10 another scheme", lambda _: [("Authorization", b"Basic eA==")], None, **_AS_BEARER),
    row("DP-10 both schemes", both_schemes, REQUEST, 400, schemes=BOTH, erring=BOTH),
    row(
        "DP-10 two tokens as DPoP",
        lambda harness: [*good()(harness), *good()(harness)][:3:2] + good()(harness)[1:],
        REQUEST,
        400,
        schemes=BOTH,
        erring=BOTH,
    ),
    row("DP-10 a malformed DPoP field", lambda _: [("Authorization", b"DPoP a b")], REQUEST, 400),
    row(
        "DP-10 a malformed Bearer field",
        lambda _: [("Authorization", b"Bearer a b")],
        REQUEST,
        400,
        **_AS_BEARER,
    ),
    row("DP-10 a bad bearer token", lambda _: bearer("a.b.c"), TOKEN, **_AS_BEARER),
    *(row(f"DP-10 {scheme} is accepted", good(scheme), None, 200) for scheme in ("dpop", "DPOP")),
    row(
        "DP-10 a 403 is in the scheme that was used",
        good(),
        "insufficient_scope",
        403,
        schemes=("DPoP",),
        scope="write",
        guard={**ALLOWED, "require": scopes("write")},
    ),
    row(
        "DP-10 a 403 for a bearer token",
        with_token("Bearer", with_proof=False),
        "insufficient_scope",
        403,
        schemes=("Bearer",),
        scope="write",
        guard={**ALLOWED, "require": scopes("write")},
    ),
    # Nonces
    row("DP-11 no nonce", good(), NONCE, after=_completes_with_the_nonce, **NONCED),
    row(
        "DP-11 a stale nonce",
        good(nonce=NONCES.make(NOON - 301)),
        NONCE,
        after=_one_new_nonce,
        **NONCED,
    ),
    row(
        "DP-11 an invented nonce",
        good(nonce="x" * 30),
        NONCE,
        after=_one_new_nonce,
        **NONCED,
    ),
    row(
        "DP-11 a fresh nonce",
        good(nonce=NONCES.make(NOON - 149)),
        None,
        200,
        absent=("dpop-nonce",),
        **NONCED,
    ),
    row(
        "DP-11 a nonce that grows old",
        good(nonce=NONCES.make(NOON - 150)),
        None,
        200,
        after=_one_new_nonce,
        headers={"cache-control": "no-store"},
        app_headers=(("Cache-Control", "max-age=60"),),
        **NONCED,
    ),
    row(
        "DP-11 the nonce of an older secret",
        good(nonce=dpop.Nonces(OLDER, purpose="api").make(NOON)),
        None,
        200,
        **with_nonces(SECRET, OLDER),
    ),
    row(
        "DP-11 other refusals have none",
        good(htm="POST"),
        PROOF,
        absent=("dpop-nonce",),
        **NONCED,
    ),
    row(
        "DP-11 scripts may read it",
        lambda harness: [*good()(harness), ("Origin", b"https://app.test")],
        NONCE,
        headers={"access-control-expose-headers": re.compile(".*DPoP-Nonce.*")},
        **NONCED,
    ),
    # The body
    row(
        "DP-12 the digest of the body",
        good(htm="POST", content_digest=dpop.content_digest(b"{}")),
        None,
        200,
        **digest_of(b"{}"),
    ),
    row("DP-12 no digest", good(htm="POST"), PROOF, **digest_of(b"{}")),
    row(
        "DP-12 the digest of another body",
        good(htm="POST", content_digest=dpop.content_digest(b"{ }")),
        PROOF,
        **digest_of(b"{}"),
    ),
    row(
        "DP-12 a malformed digest",
        good(htm="POST", content_digest="sha-256=x"),
        PROOF,
        **digest_of(b"{}"),
    ),
    row(
        "DP-12 no body has a digest too",
        good(htm="POST", content_digest=dpop.content_digest(b"")),
        None,
        200,
        **digest_of(b""),
    ),
    row(
        "DP-12 a bearer token needs no digest",
        with_token("Bearer", with_proof=False),
        None,
        200,
        **digest_of(b"{}"),
    ),
    # Confirmation methods
    *(
        row(f"CNF-01 {name}", with_token("Bearer", cnf=cnf), TOKEN, **_AS_BEARER)
        for name, cnf in {
            "an unknown method": {"kid": "x"},
            "an unknown method beside a known one": {"jkt": JKT, "jwe": "x"},
            "a method that is not checked here": {"x5t#S256": JKT},
            "no method": {},
            "no object": "x",
            "no thumbprint": {"jkt": "x"},
            "a thumbprint that is no text": {"jkt": 7},
        }.items()
    ),
    row(
        "CNF-01 an unknown method under DPoP",
        with_token("DPoP", cnf={"jkt": JKT, "kid": "x"}),
        TOKEN,
    ),
    row("CNF-01 with DPoP off", with_token("Bearer", cnf={"kid": "x"}), TOKEN, **_OFF),
    row("CNF-01 a null cnf is none", with_token("Bearer", cnf=None), None, 200),
]
