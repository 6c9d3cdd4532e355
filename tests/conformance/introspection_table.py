"""INT-01 … INT-07: tokens that only their issuer can explain."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from bearerguard import scopes
from bearerguard.runtime.messages import Response
from bearerguard.testing import SigningKey, sign
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import NOON, Harness, bearer
from tests.conformance.hdr_table import TOKEN
from tests.conformance.scenario import Scenario

JSON = ("Content-Type", "application/json")
SIGNED = ("Content-Type", "application/token-introspection+jwt")


def pem(key: Any) -> bytes:
    octets: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return octets


CLIENT_KEYS = {
    "RS256": pem(rsa.generate_private_key(65537, 2048)),
    "ES256": pem(ec.generate_private_key(ec.SECP256R1())),
    "EdDSA": pem(ed25519.Ed25519PrivateKey.generate()),
}


def row(id: str, **options: Any) -> Scenario:  # noqa: A002 - as a scenario calls it
    """A scenario whose guard introspects, with an issuer of its own."""
    return Scenario(id=id, own_issuer=True, **{"introspection": {}, **options})


def opaque(**members: Any) -> Callable[[Harness], Headers]:
    return lambda harness: harness.opaque(**members)


def asked(times: int) -> Callable[[Harness, Received], None]:
    """Expect the issuer to have been asked so often about tokens."""

    def check(harness: Harness, _response: Received) -> None:
        assert harness.issuer.hits["/introspect"] == times

    return check


def nothing_but_asked(harness: Harness, _response: Received) -> None:
    assert set(harness.issuer.hits) == {"/introspect"}


def no_token_cached(harness: Harness, _response: Received) -> None:
    assert harness.guard.health()["cached_tokens"] == 0


def listing(*methods: str) -> Callable[[Harness], None]:
    """Let the issuer's metadata list these methods, or none at all."""

    def before(harness: Harness) -> None:
        harness.issuer.introspection.auth_methods = list(methods) or None

    return before


def answering(status: int, body: bytes, *headers: tuple[str, str]) -> Callable[[Harness], None]:
    def before(harness: Harness) -> None:
        harness.issuer.introspection.response = Response(status, headers or (JSON,), body)

    return before


def nothing_cached(harness: Harness, _response: Received) -> None:
    """The same request passes as soon as the issuer is well again."""
    assert harness.guard.health()["cached_tokens"] == 0
    harness.issuer.introspection.response = None
    harness.issuer.outage = harness.issuer.refuses = False
    harness.clock.now += 60
    assert harness.request(harness.opaque()).status == 200


def twice(harness: Harness) -> Headers:
    headers = harness.opaque()
    assert harness.request(headers).status == 200
    return headers


def later(seconds: float, **members: Any) -> Callable[[Harness], Headers]:
    """Send a token that was accepted so many seconds ago."""

    def send(harness: Harness) -> Headers:
        headers = harness.opaque(**members)
        assert harness.request(headers).status == 200
        harness.clock.now += seconds
        return headers

    return send


def set_back(harness: Harness) -> Headers:
    """Send a token that is in use, and was revoked meanwhile; the clock was set back."""
    token = harness.issuer.opaque_token(claims={"iat": None})
    for _ in range(2):
        assert harness.request(bearer(token)).status == 200
    harness.issuer.introspection.revoke(token)
    harness.clock.now -= 3540
    return bearer(token)


def revoked_after(seconds: float) -> Callable[[Harness], Headers]:
    """Send a token that was accepted, then revoked at the issuer, and so many seconds went by."""

    def send(harness: Harness) -> Headers:
        token = harness.issuer.opaque_token()
        assert harness.request(bearer(token)).status == 200
        harness.issuer.introspection.revoke(token)
        harness.clock.now += seconds
        return bearer(token)

    return send


def refused_before(seconds: float) -> Callable[[Harness], Headers]:
    """Send a made-up token for the second time."""

    def send(harness: Harness) -> Headers:
        assert harness.request(bearer("made-up")).status == 401
        harness.clock.now += seconds
        return bearer("made-up")

    return send


def broken_signature(harness: Harness) -> Headers:
    return bearer(harness.token()[:-8] + "AAAAAAAA")


def in_outage(*, seconds: float, failures: int = 0, **members: Any) -> Callable[[Harness], Headers]:
    """Send a token that was accepted; since then the issuer is down."""

    def send(harness: Harness) -> Headers:
        headers = harness.opaque(**members)
        assert harness.request(headers).status == 200
        harness.issuer.outage = True
        for _ in range(failures):
            assert harness.request(harness.opaque()).status == 503
        harness.clock.now += seconds
        return headers

    return send


def broken_down(harness: Harness) -> None:
    """Three failures, which open the breaker, and a hundred more requests."""
    harness.guard.warm()
    harness.issuer.outage = True
    for _ in range(103):
        assert harness.request(harness.opaque()).status == 503
    assert harness.guard.health()["introspection"][harness.issuer.url]["status"] == "down"


def back_again(harness: Harness) -> Headers:
    broken_down(harness)
    harness.issuer.outage = False
    harness.clock.now += 30
    return harness.opaque()


def still_down(harness: Harness) -> Headers:
    broken_down(harness)
    for _ in range(5):  # each probe fails, and the pause doubles: 1, 2, 4, 8, 16
        harness.clock.now += 8
        harness.request(harness.opaque())
        harness.request(harness.opaque())
    return harness.opaque()


def signed(
    *, header: dict[str, Any] | None = None, key: SigningKey | None = None, **claims: Any
) -> Callable[[Harness], None]:
    """Have the issuer send a signed response that differs from a good one in this."""

    def before(harness: Harness) -> None:
        signer = key or harness.issuer.key
        head = {"alg": signer.algorithm, "typ": "token-introspection+jwt", "kid": signer.kid}
        payload = {
            "iss": harness.issuer.url,
            "aud": "api",
            "iat": int(NOON),
            "token_introspection": {"active": True, "aud": harness.issuer.audience, "sub": "ada"},
        }
        whole = {name: value for name, value in (payload | claims).items() if value is not None}
        token = sign(head | (header or {}), whole, signer)
        harness.issuer.introspection.response = Response(200, (SIGNED,), token.encode())

    return before


def a_signed_answer_as_token(harness: Harness) -> Headers:
    claims = {"iss": harness.issuer.url, "aud": harness.issuer.audience, "exp": NOON + 60}
    return bearer(harness.token(header={"typ": "token-introspection+jwt"}, **claims))


def unsupported(harness: Harness) -> None:
    harness.issuer.introspection.supports_jwts = False


def then_opaque_passes(harness: Harness, _response: Received) -> None:
    """The server objected to JWTs; it is not down."""
    for _ in range(10):
        assert harness.request(harness.bearer()).status == 401
    assert harness.request(harness.opaque()).status == 200


def _active(**members: Any) -> bytes:
    return json.dumps({"active": True, "aud": "https://api.test", **members}).encode()


OPAQUE: dict[str, Any] = {"issuer": {"tokens": "opaque"}}

REFUSED: dict[str, dict[str, Any]] = {
    "expired": {"exp": NOON - 60},
    "expired by now": {"exp": NOON - 30},
    "not yet valid": {"nbf": NOON + 60},
    "issued in the future": {"iat": NOON + 600},
    "for another API": {"aud": "https://other.test"},
    "for several others": {"aud": ["https://other.test", "https://third.test"]},
    "an audience of a wrong kind": {"aud": 7},
    "no audience": {"aud": None},
    "of another issuer": {"iss": "https://other.test"},
    "bound to a key": {"cnf": {"jkt": "x"}},
    "an expiry of a wrong kind": {"exp": "tomorrow"},
    "a subject of a wrong kind": {"sub": 7},
    "a scope of a wrong kind": {"scope": 7},
    "bound to a key that is not named": {"token_type": "DPoP"},
    "bound to a key, in another case": {"token_type": "dpop"},
    "a proof of possession": {"token_type": "PoP"},
    "bound to a key, among other words": {"token_type": "Bearer, DPoP"},
    "a holder's key": {"token_type": "HoK"},
    "an authorization code": {"token_type": "authorization_code"},
    "a device code": {"token_use": "device_code"},
    "a client's assertion": {"token_type": "client_assertion"},
    "a security event": {"token_type": "secevent+jwt"},
    "a token for registration": {"typ": "RegistrationAccessToken"},
    "a type of a wrong kind": {"token_type": 7},
    "a logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    **{
        f"a refresh token by {name} {value}": {name: value}
        for name, value in (
            ("token_type", "refresh_token"),
            ("token_type", "Refresh"),
            ("token_type", "urn:ietf:params:oauth:token-type:refresh_token"),
            ("token_use", "refresh_token"),
            ("token_use", "refresh"),
            ("typ", "Refresh"),
            ("typ", "Offline"),
            ("tokenName", "refresh_token"),
            ("purpose", "refresh_token"),
            ("token_type", "refresh_token_v2"),
            ("token_type", ["refresh_token"]),
            ("token_use", ["refresh"]),
        )
    },
    "an ID token by its use": {"token_use": "id"},
    "a logout token by its type": {"typ": "Logout"},
}

TABLE = [
    row("INT-01 client_secret_basic", send=opaque(), status=200, identity="user", after=asked(1)),
    row(
        "INT-01 client_secret_post",
        introspection={"auth_method": "client_secret_post"},
        send=opaque(),
        status=200,
    ),
    *(
        row(
            f"INT-01 private_key_jwt by {algorithm}",
            introspection={"private_key": key, "private_key_id": "k1"},
            send=opaque(),
            status=200,
        )
        for algorithm, key in CLIENT_KEYS.items()
    ),
    row(
        "INT-01 bearer",
        introspection={"token": "set-below"},
        before=lambda harness: setattr(harness.issuer.introspection, "access_token", "set-below"),
        send=opaque(),
        status=200,
    ),
    row(
        "INT-01 the method that the metadata lists",
        before=listing("client_secret_post"),
        send=opaque(),
        status=200,
    ),
    row(
        "INT-01 no method that the metadata lists",
        before=listing("tls_client_auth"),
        send=opaque(),
        status=503,
        after=asked(0),
    ),
    row(
        "INT-01 no methods listed",
        before=listing(),
        send=opaque(),
        status=200,
    ),
    row(
        "INT-01 an endpoint that is given",
        introspection={"endpoint": "https://issuer.test/introspect"},
        send=opaque(),
        status=200,
        after=nothing_but_asked,
    ),
    row("INT-02 active", send=opaque(sub="ada"), status=200, identity="ada"),
    row("INT-02 not active", send=lambda _: bearer("made-up"), status=401, error=TOKEN),
    *(
        row(
            f"INT-02 {status} {body[:20]!r}",
            before=answering(status, body),
            send=opaque(),
            status=503,
            after=nothing_cached,
        )
        for status, body in (
            (200, b'{"active": "true"}'),
            (200, b'{"active": 1}'),
            (200, b'{"active": null}'),
            (200, b"{}"),
            (200, b"true"),
            (200, b"<html>"),
            (200, b""),
            (200, b"\xff"),
            (200, b'{"active": true, "active": false}'),
            (200, b"[" * 9999),
            (201, _active()),
            (302, b""),
            (204, b""),
            (301, b""),
            (400, b'{"error": "invalid_request"}'),
            (400, b"<html>"),
            (413, b""),
            (422, b'{"error": "unsupported_token_type"}'),
            (431, b""),
            (401, b'{"error": "invalid_client"}'),
            (403, b""),
            (404, b""),
            (429, b""),
            (500, _active()),
        )
    ),
    row(
        "INT-02 the issuer's own 401",
        introspection={"client_secret": "wrong"},
        send=opaque(),
        status=503,
    ),
    row(
        "INT-02 no response",
        before=lambda harness: setattr(harness.issuer, "refuses", True),
        send=opaque(),
        status=503,
        after=nothing_cached,
    ),
    *(
        row(f"INT-03 {name}", send=opaque(**members), status=401, error=TOKEN)
        for name, members in REFUSED.items()
    ),
    row(
        "INT-03 no audience where that is allowed",
        introspection={"allow_missing_audience": True},
        send=opaque(aud=None),
        status=200,
    ),
    row(
        "INT-03 another audience is never allowed",
        introspection={"allow_missing_audience": True},
        send=opaque(aud="https://other.test"),
        status=401,
        error=TOKEN,
    ),
    *(
        row(f"INT-03 {name} {value}", send=opaque(**{name: value}), status=200)
        for name, value in (
            ("token_type", "bearer"),
            ("token_type", "access_token"),
            ("token_type", "urn:ietf:params:oauth:token-type:access_token"),
            ("token_use", "access_token"),
            ("typ", "Bearer"),
            ("typ", 7),
        )
    ),
    row(
        "INT-03 an expiry of zero is none: some servers write so",
        before=answering(200, _active(exp=0)),
        send=opaque(),
        status=200,
        absent=("access-token-expires-in", "access-token-expires-at"),
    ),
    row(
        "INT-03 an expiry of false is no date",
        before=answering(200, _active(exp=False)),
        send=opaque(),
        status=401,
        error=TOKEN,
    ),
    row("INT-03 no iss", send=opaque(iss=None), status=200, identity="user"),
    row("INT-03 no subject", send=opaque(sub=None), status=200, identity="app"),
    row(
        "INT-03 no expiry",
        send=opaque(expires_in=None),
        status=200,
        absent=("access-token-expires-in", "access-token-expires-at"),
    ),
    row(
        "INT-03 the expiry is in the response",
        send=opaque(),
        status=200,
        headers={"access-token-expires-in": "3600"},
    ),
    row(
        "INT-03 expiry is seen on a cached token",
        send=later(41, expires_in=10),
        status=401,
        error=TOKEN,
        headers={"access-token-expires-in": "0"},
        after=asked(1),
    ),
    row(
        "INT-03 too weak a token",
        send=opaque(scope="read"),
        guard={"require": scopes("write")},
        status=403,
        error="insufficient_scope",
        scope="write",
    ),
    row("INT-04 asked once", send=twice, status=200, after=asked(1)),
    row("INT-04 asked again after the TTL", send=later(60), status=200, after=asked(2)),
    row(
        "INT-04 never cached past its expiry",
        send=later(10, expires_in=10),
        status=401,
        error=TOKEN,
        after=asked(2),
    ),
    row(
        "INT-04 a TTL of 0 asks every time",
        introspection={"cache_ttl": 0},
        send=twice,
        status=200,
        after=asked(2),
    ),
    row("INT-04 the clock set back", send=set_back, status=401, error=TOKEN, after=asked(2)),
    row("INT-04 revoked within the TTL", send=revoked_after(59), status=200, after=asked(1)),
    row("INT-04 revoked", send=revoked_after(60), status=401, error=TOKEN, after=asked(2)),
    row(
        "INT-04 a refusal is cached shortly",
        send=refused_before(9),
        status=401,
        error=TOKEN,
        after=asked(1),
    ),
    row(
        "INT-04 and no longer",
        send=refused_before(10),
        status=401,
        error=TOKEN,
        after=asked(2),
    ),
    *(
        row(
            f"INT-04 no refusal is cached with {option}=0",
            introspection={option: 0},
            send=refused_before(0),
            status=401,
            error=TOKEN,
            after=asked(2),
        )
        for option in ("negative_ttl", "cache_ttl")
    ),
    row(
        "INT-05 a good JWT is not asked about",
        send=lambda harness: harness.bearer(),
        status=200,
        after=asked(0),
    ),
    *(
        row(f"INT-05 {name}", send=send, status=401, error=TOKEN, after=asked(0))
        for name, send in {
            "a bad signature": broken_signature,
            "an expired JWT": lambda harness: harness.bearer(expires_in=-60),
            "a JWT for another API": lambda harness: harness.bearer(aud="https://other.test"),
            "a JWT of another issuer": lambda harness: harness.bearer(iss="https://other.test"),
            "a JWT without iss": lambda harness: harness.bearer(iss=None),
            "three parts that are no JWT": lambda _: bearer("a.b.c"),
            "an encrypted JWT": lambda _: bearer("a.b.c.d.e"),
        }.items()
    ),
    row(
        "INT-05 JWTs too where the issuer is configured so",
        send=lambda harness: harness.bearer(),
        status=200,
        after=asked(1),
        **OPAQUE,
    ),
    row(
        "INT-05 an altered one is not active",
        send=broken_signature,
        status=401,
        error=TOKEN,
        after=asked(1),
        **OPAQUE,
    ),
    row(
        "INT-05 encrypted ones too",
        send=lambda _: bearer("a.b.c.d.e"),
        status=401,
        error=TOKEN,
        after=asked(1),
        **OPAQUE,
    ),
    row(
        "INT-05 one of another issuer is shown to nobody",
        send=lambda harness: harness.bearer(iss="https://other.test"),
        status=401,
        error=TOKEN,
        after=asked(0),
        **OPAQUE,
    ),
    row(
        "INT-05 a server that does not introspect JWTs",
        before=unsupported,
        send=lambda harness: harness.bearer(),
        status=401,
        error=TOKEN,
        after=then_opaque_passes,
        **OPAQUE,
    ),
    row(
        "INT-05 too long a token",
        send=lambda _: bearer("a" * 16_385),
        status=401,
        error=TOKEN,
        after=asked(0),
    ),
    row(
        "INT-06 signed answers",
        introspection={"signed_responses": True},
        send=opaque(sub="ada"),
        status=200,
        identity="ada",
    ),
    row(
        "INT-06 a signed response says that it is not active",
        introspection={"signed_responses": True},
        send=lambda _: bearer("made-up"),
        status=401,
        error=TOKEN,
    ),
    row(
        "INT-06 an unsigned response where signed ones are demanded",
        introspection={"signed_responses": True},
        before=lambda harness: setattr(harness.issuer.introspection, "signed", False),
        send=opaque(),
        status=503,
    ),
    row(
        "INT-06 a signed response that nobody asked for",
        before=signed(),
        send=opaque(),
        status=200,
        identity="ada",
    ),
    *(
        row(
            f"INT-06 signed with {name}",
            introspection={"signed_responses": True},
            before=before,
            send=opaque(),
            status=503,
            after=no_token_cached,
        )
        for name, before in {
            "another typ": signed(header={"typ": "at+jwt"}),
            "no typ": signed(header={"typ": "JWT"}),
            "another iss": signed(iss="https://other.test"),
            "no iss": signed(iss=None),
            "another aud": signed(aud="other-api"),
            "another API's list": signed(aud=["other-api"]),
            "no aud": signed(aud=None),
            "no iat": signed(iat=None),
            "an old iat": signed(iat=NOON - 301),
            "a future iat": signed(iat=NOON + 301),
            "no response": signed(token_introspection=None),
            "an response of a wrong kind": signed(token_introspection="yes"),
            "active as text": signed(token_introspection={"active": "true"}),
            "a foreign key": signed(key=SigningKey.generate("ES256", "key-1")),
            "an unknown key": signed(key=SigningKey.generate("ES256", "other")),
            "an algorithm that is not accepted": signed(
                key=SigningKey.shared("HS256", b"guessed"), header={"kid": "key-1"}
            ),
            "nonsense": answering(200, b"no JWT", SIGNED),
        }.items()
    ),
    row(
        "INT-06 a signed response for this API by its audience",
        introspection={"signed_responses": True},
        before=signed(aud="https://api.test"),
        send=opaque(),
        status=200,
    ),
    row(
        "INT-06 a signed response for several clients",
        introspection={"signed_responses": True},
        before=signed(aud=["other-api", "api"]),
        send=opaque(),
        status=200,
    ),
    row(
        "INT-06 a signed response is no access token",
        send=a_signed_answer_as_token,
        status=401,
        error=TOKEN,
        after=asked(0),
    ),
    row(
        "INT-07 an endpoint that is down is left alone",
        before=broken_down,
        send=opaque(),
        status=503,
        headers={"retry-after": "1"},
        after=asked(3),
    ),
    row("INT-07 it is probed, and back at once", send=back_again, status=200),
    row(
        "INT-07 one probe at a time, further and further apart",
        introspection={"endpoint": "https://issuer.test/introspect"},
        send=still_down,
        status=503,
        after=asked(3 + 4),
    ),
    row(
        "INT-07 cached tokens pass in an outage",
        send=in_outage(seconds=59),
        status=200,
        after=asked(1),
    ),
    row("INT-07 within their TTL", send=in_outage(seconds=60), status=503),
    row(
        "INT-07 and beyond it where that is configured",
        introspection={"stale_ttl": 600},
        send=in_outage(seconds=600),
        status=200,
    ),
    row(
        "INT-07 with the breaker open too",
        introspection={"stale_ttl": 600},
        send=in_outage(seconds=60, failures=5),
        status=200,
    ),
    row(
        "INT-07 not for longer",
        introspection={"stale_ttl": 600},
        send=in_outage(seconds=660),
        status=503,
    ),
    row(
        "INT-07 never past their expiry",
        introspection={"stale_ttl": 600},
        send=in_outage(seconds=140, expires_in=100),
        status=401,
        error=TOKEN,
    ),
    row(
        "INT-07 JWTs pass in an outage of introspection",
        before=broken_down,
        send=lambda harness: harness.bearer(),
        status=200,
    ),
    row(
        "INT-07 no endpoint in the metadata",
        before=lambda harness: setattr(
            harness.issuer.introspection, "metadata", lambda _url: {"introspection_endpoint": None}
        ),
        send=opaque(),
        status=503,
    ),
]
