"""JWT-17: a member that is null is treated as absent, whatever options are set."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard import ClaimMapping, Guard, Response
from bearerguard.errors import BearerGuardError, TokenError
from bearerguard.testing import LocalIssuer, sign
from tests.conformance.harness import NOON, Clock

OPTIONS: list[dict[str, Any]] = [
    {},
    {"strict": True},
    {"aliases": ["id.test"]},
    {"accept_id_tokens": True},
    {"claims": ClaimMapping(scopes=["scp", "scope"], roles=["realm_access.roles", "roles"])},
    {"claims": ClaimMapping(client=["azp", "client_id"], required=["sub"])},
]
CLAIMS = (
    *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "azp", "scope", "scp", "roles"),
    *("cnf", "acr", "amr", "auth_time", "sid", "events", "at_hash", "c_hash", "nonce", "groups"),
    *("typ", "token_type", "token_use", "realm_access", "realm_access.roles", "username", "act"),
)
USUAL = {
    "iss": "https://issuer.test",
    "aud": "https://api.test",
    "exp": int(NOON) + 60,
    "iat": int(NOON),
    "sub": "ada",
    "client_id": "app",
    "jti": "1",
    "scope": "read",
    "realm_access": {"roles": ["admin"]},
}
ISSUER = LocalIssuer(algorithm="ES256", clock=Clock())
GUARDS = [
    ISSUER.guard(),
    *(
        Guard(ISSUER.issuer(**each), transport=ISSUER.transport(), clock=ISSUER.clock)
        for each in OPTIONS[1:]
    ),
]
ASKING = [
    Guard(
        ISSUER.issuer(introspection=ISSUER.introspection.options(cache_ttl=0), **each),
        transport=ISSUER.transport(),
        clock=ISSUER.clock,
    )
    for each in OPTIONS
]
NULLED = st.lists(st.sampled_from(CLAIMS), min_size=1, max_size=4, unique=True)


def verdict(guard: Guard, token: str) -> Any:
    try:
        return guard.verify(token).to_dict()
    except TokenError as error:
        return str(error)


def signed(claims: dict[str, Any], **header: Any) -> str:
    usual = {"alg": "ES256", "kid": ISSUER.key.kid, "typ": "at+jwt"}
    return sign(json.dumps(usual | header).encode(), json.dumps(claims).encode(), ISSUER.key)


@given(NULLED, st.integers(0, len(OPTIONS) - 1), st.sampled_from(["at+jwt", "JWT"]))
def test_a_claim_that_is_null_is_absent(names: list[str], options: int, typ: str) -> None:
    without = {name: value for name, value in USUAL.items() if name not in names}
    null, absent = (
        verdict(GUARDS[options], signed(claims, typ=typ))
        for claims in (without | dict.fromkeys(names), without)
    )
    assert null == absent


@given(NULLED, st.integers(0, len(OPTIONS) - 1))
def test_a_member_of_an_introspection_response_that_is_null_is_absent(
    names: list[str], options: int
) -> None:
    without = {name: value for name, value in USUAL.items() if name not in names}
    verdicts = []
    for members in (without | dict.fromkeys(names), without):
        body = json.dumps({"active": True, **members}).encode()
        ISSUER.introspection.response = Response(200, (("Content-Type", "application/json"),), body)
        ASKING[options].close()
        verdicts.append(verdict(ASKING[options], "opaque"))
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize("name", ["typ", "cty", "crit", "b64", "jwk", "jku", "x5u", "x5c", "alg"])
def test_a_header_member_that_is_null_is_absent(name: str) -> None:
    guard = GUARDS[3]  # which accepts an absent typ
    header: dict[str, Any] = {"alg": "ES256", "kid": ISSUER.key.kid, "typ": "JWT"}
    without = {each: value for each, value in header.items() if each != name}
    null, absent = (
        verdict(guard, sign(json.dumps(each).encode(), json.dumps(USUAL).encode(), ISSUER.key))
        for each in (without | {name: None}, without)
    )
    assert null == absent
    assert (null == verdict(guard, signed(USUAL))) is (name != "alg")


def test_a_kid_that_is_null_names_no_key_and_is_refused() -> None:
    for guard in GUARDS:
        with pytest.raises(BearerGuardError, match="kid in its header is null"):
            guard.verify(signed(USUAL, kid=None))
