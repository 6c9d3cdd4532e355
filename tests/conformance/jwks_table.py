"""JWKS-01 … JWKS-04, JWKS-06: whose keys count, and when they are fetched."""

from __future__ import annotations

from typing import Any

from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import Harness, bearer
from tests.conformance.hdr_table import TOKEN, good
from tests.conformance.scenario import Scenario

# As an issuer behaves, not as it is configured: every scenario has its own.
OWN: dict[str, Any] = {"own_issuer": True}


def hits(expected: int) -> Any:
    """Expect so many fetches of the JWKS in all."""

    def check(harness: Harness, _response: Received) -> None:
        assert harness.issuer.hits["/jwks"] == expected

    return check


def _many_unknown_kids(harness: Harness) -> None:
    harness.guard.verify(harness.token())
    for number in range(50):
        response = harness.request(harness.bearer(header={"kid": f"bogus-{number}"}))
        assert response.status == 401


def _rotated(harness: Harness) -> Headers:
    """After bogus kids, a key that the issuer has just begun to use."""
    harness.guard.verify(harness.token())
    harness.request(harness.bearer(header={"kid": "bogus"}))
    harness.issuer.rotate(keep=True)
    return harness.bearer()


def _rotated_after_flood(harness: Harness) -> Headers:
    _many_unknown_kids(harness)
    harness.issuer.rotate(keep=True)
    harness.clock.now += 30
    return harness.bearer()


def _flood_in_outage(harness: Harness) -> None:
    harness.guard.verify(harness.token())
    harness.issuer.outage = True
    for number in range(20):
        response = harness.request(harness.bearer(header={"kid": f"bogus-{number}"}))
        assert response.status == 503


def _known_key_in_outage(harness: Harness) -> Headers:
    harness.guard.verify(harness.token())
    harness.issuer.outage = True
    harness.clock.now += 3000  # the refresh is overdue, the keys are not too old
    return harness.bearer(jti="new")


def _too_old(harness: Harness) -> Headers:
    headers = harness.bearer(expires_in=200_000)
    assert harness.request(headers).status == 200
    harness.issuer.outage = True
    harness.clock.now += 86_400
    return headers


def _garbage_at_refresh(garbage: bytes) -> Any:
    def send(harness: Harness) -> Headers:
        headers = harness.bearer()
        assert harness.request(headers).status == 200
        harness.issuer.garbage = garbage
        harness.clock.now += 400
        harness.guard.warm()
        assert harness.guard.health()["issuers"][harness.issuer.url]["status"] == "stale"
        return harness.bearer(jti="new")

    return send


def _garbage(garbage: bytes) -> Any:
    def before(harness: Harness) -> None:
        harness.issuer.garbage = garbage

    return before


def _removed(harness: Harness) -> Headers:
    headers = harness.bearer()
    assert harness.request(headers).status == 200
    harness.issuer.rotate(keep=False)
    harness.clock.now += 400
    harness.guard.warm()
    return headers


def _replaced(harness: Harness) -> Headers:
    """The same kid, a new key."""
    headers = harness.bearer()
    assert harness.request(headers).status == 200
    kid = harness.issuer.jwks()["keys"][0]["kid"]
    harness.issuer.rotate(keep=False)
    harness.issuer.rename(kid)
    harness.clock.now += 400
    harness.guard.warm()
    return headers


def _kept(harness: Harness) -> Headers:
    headers = harness.bearer()
    assert harness.request(headers).status == 200
    harness.issuer.rotate(keep=True)
    harness.clock.now += 400
    harness.guard.warm()
    return headers


def _with_bad_keys(harness: Harness) -> None:
    harness.issuer.extra_keys = [
        {"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak"},
        {"kty": "EC", "crv": "P-256", "x": "AAAA", "y": "AAAA", "kid": "off-curve"},
        {"kty": "oct", "k": "c2VjcmV0", "kid": "oct"},
        {"kty": "quantum"},
        "no object",
        {**harness.issuer.jwks()["keys"][0], "use": "enc", "kid": "for-encryption"},
    ]


TABLE = [
    Scenario(
        id="JWKS-01 unknown kids cost three fetches",
        before=_many_unknown_kids,
        send=good(header={"kid": "bogus"}),
        status=401,
        error=TOKEN,
        after=hits(1 + 3),
        **OWN,
    ),
    Scenario(id="JWKS-01 a new key is answered at once", send=_rotated, status=200, **OWN),
    Scenario(
        id="JWKS-01 after a flood a new key waits for the cool-down at most",
        send=_rotated_after_flood,
        status=200,
        **OWN,
    ),
    Scenario(
        id="JWKS-01 known keys live through a flood",
        before=_many_unknown_kids,
        send=good(jti="another"),
        status=200,
        after=hits(1 + 3),
        **OWN,
    ),
    Scenario(
        id="JWKS-01 unknown kid in an outage",
        before=_flood_in_outage,
        send=good(header={"kid": "bogus"}),
        status=503,
        after=hits(1 + 1),
        **OWN,
    ),
    Scenario(
        id="JWKS-02 bad keys are passed over", before=_with_bad_keys, send=good(), status=200, **OWN
    ),
    *(
        Scenario(
            id=f"JWKS-02 a key {kid} verifies nothing",
            before=_with_bad_keys,
            send=good(header={"kid": kid}),
            status=401,
            error=TOKEN,
            **OWN,
        )
        for kid in ("weak", "off-curve", "oct", "for-encryption")
    ),
    *(
        Scenario(
            id=f"JWKS-03 {garbage[:12]!r} for keys",
            before=_garbage(garbage),
            send=good(),
            status=503,
            **OWN,
        )
        for garbage in (
            b"",
            b"\xff",
            b"[]",
            b"{}",
            b'{"keys":{}}',
            b'{"keys":[]}',
            b"<html>",
            b"[" * 9999,
        )
    ),
    *(
        Scenario(
            id=f"JWKS-03 {garbage[:12]!r} never wipes good keys",
            send=_garbage_at_refresh(garbage),
            status=200,
            **OWN,
        )
        for garbage in (b"", b'{"keys":[]}', b"[" * 9999)
    ),
    Scenario(
        id="JWKS-03 stale keys serve in an outage", send=_known_key_in_outage, status=200, **OWN
    ),
    Scenario(id="JWKS-03 until their hard maximum age", send=_too_old, status=503, **OWN),
    Scenario(
        id="JWKS-04 a removed key kills its cached tokens",
        send=_removed,
        status=401,
        error=TOKEN,
        **OWN,
    ),
    Scenario(
        id="JWKS-04 a replaced key kills its cached tokens",
        send=_replaced,
        status=401,
        error=TOKEN,
        **OWN,
    ),
    Scenario(id="JWKS-04 a kept key keeps them", send=_kept, status=200, **OWN),
    Scenario(id="JWKS-06 no kid in the token", send=good(header={"kid": None}), status=200),
    Scenario(
        id="JWKS-06 no kid in the key",
        send=good(header={"kid": "whatever"}),
        before=lambda harness: harness.issuer.rename(None),
        status=200,
        **OWN,
    ),
    Scenario(
        id="JWKS-06 a bad signature never causes a fetch",
        send=lambda harness: bearer(harness.token()[:-8] + "AAAAAAAA"),
        before=lambda harness: harness.guard.warm(),
        status=401,
        error=TOKEN,
        after=hits(1),
        **OWN,
    ),
]
