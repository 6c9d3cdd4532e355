"""Hostile DPoP proofs: none is accepted, and none makes the guard fail, in both adapters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bearerguard import MemoryReplays
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import base64url, signing
from bearerguard.protocol.jose.thumbprint import public_jwk
from bearerguard.testing import Clock, LocalIssuer
from tests.conformance.drivers import DRIVERS, Protected, Sent

NOW = 1_800_000_000
CLOCK = Clock(NOW)
ISSUER = LocalIssuer(algorithm="ES256", clock=CLOCK)
KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))
TOKEN = ISSUER.token(subject="ada", claims={"cnf": {"jkt": dpop.key_thumbprint(KEY)}})
HEAD: dict[str, Any] = {
    "typ": "dpop+jwt",
    "alg": "ES256",
    "jwk": public_jwk(KEY.private.public_key()),
}
CLAIMS: dict[str, Any] = {
    "jti": "one",
    "htm": "GET",
    "htu": "https://api.test/things",
    "iat": NOW,
    "ath": dpop.token_digest(TOKEN),
}
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
drivers = pytest.mark.parametrize("driver", DRIVERS)


def status(driver: str, *proofs: bytes) -> int:
    """Send a good token with these proofs to a guard that has seen none."""
    options: dict[str, Any] = {"dpop": "required", "replay": MemoryReplays(size=16)}
    fields = [("Authorization", f"DPoP {TOKEN}".encode()), *(("DPoP", each) for each in proofs)]
    with ISSUER.guard(**options) as guard:
        return DRIVERS[driver](Protected(guard, {}, ()), Sent(fields)).status


def signed(head: dict[str, Any], claims: dict[str, Any]) -> bytes:
    return KEY.sign_octets(_json(head), _json(claims)).encode()


def _json(members: dict[str, Any]) -> bytes:
    return json.dumps(members).encode("utf-8", "surrogatepass")


GOOD = signed(HEAD, CLAIMS)


@drivers
def test_the_proof_that_the_others_are_made_of_is_accepted(driver: str) -> None:
    assert status(driver, GOOD) == 200


@drivers
@given(st.lists(st.binary(max_size=200), max_size=3))
@example([b""])
@example([b".."])
@example([b"."])
def test_any_octets_are_refused(driver: str, proofs: list[bytes]) -> None:
    assert status(driver, *proofs) == 401


@drivers
@given(st.data())
def test_a_proof_with_one_altered_octet_is_refused(driver: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 1))
    octet = data.draw(st.integers(0x21, 0xFF).filter(lambda value: value != GOOD[place]))
    altered = GOOD[:place] + bytes([octet]) + GOOD[place + 1 :]
    assert status(driver, altered) == 401


@drivers
@given(st.sampled_from(sorted(CLAIMS)), JSON)
def test_a_claim_with_any_other_value_is_refused(driver: str, name: str, value: Any) -> None:
    claims = {**CLAIMS, name: value}
    accepted = {
        "jti": isinstance(value, str) and 0 < len(value) <= 256,
        "iat": type(value) in {int, float} and NOW - 300 < value <= NOW + 300,
    }
    if accepted.get(name) or value == CLAIMS[name]:
        return
    assert status(driver, signed(HEAD, claims)) == 401


@drivers
@given(st.sampled_from(sorted(HEAD)), JSON)
def test_a_header_with_any_other_value_is_refused(driver: str, name: str, value: Any) -> None:
    if value != HEAD[name]:
        head = base64url.encode(_json({**HEAD, name: value}))
        _, claims, signature = GOOD.split(b".")
        assert status(driver, b".".join((head, claims, signature))) == 401
