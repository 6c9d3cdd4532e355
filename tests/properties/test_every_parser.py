"""Each parser, and the whole guard, for input that Hypothesis makes and shrinks.

What holds for a parser is stated once, by its fuzz target (tests/fuzz).
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bearerguard.protocol.jose import base64url
from tests.faults.size import size
from tests.fuzz.every import TARGETS
from tests.fuzz.of_guard import HEADER, USUAL, guarded_request, presented_token, signed_content
from tests.properties.test_parsers import JSON

# What a request can hold; a server is asked in tests/server/test_malformed_requests.py.
NAMES = [name for name in TARGETS if name != "server_request"]


def edited(seeds: tuple[bytes, ...]) -> st.SearchStrategy[bytes]:
    """Return seeds with a part that is replaced by other octets."""
    return st.builds(
        lambda seed, at, length, put: (
            seed[: at % (len(seed) + 1)] + put + seed[at % (len(seed) + 1) + length :]
        ),
        st.sampled_from(seeds),
        st.integers(0, 4000),
        st.integers(0, 12),
        st.binary(max_size=8) | JSON.map(lambda value: json.dumps(value).encode()),
    )


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=size(2000, 20))
@given(st.data())
def test_any_octets_are_parsed_or_refused(name: str, data: st.DataObject) -> None:
    target = TARGETS[name]
    target.check(data.draw(st.binary(max_size=200) | edited(target.seeds)))


CLAIMS = (
    *("iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "scp", "roles", "cnf"),
    *("acr", "amr", "auth_time", "act", "may_act", "events", "nonce", "at_hash", "token_type"),
    *("typ", "token_use", "azp", "realm_access", "groups", "entitlements", "sid"),
)
MEMBERS = ("alg", "kid", "typ", "cty", "crit", "b64", "jwk", "jku", "x5u", "x5c", "x5t", "zip")
ODD: st.SearchStrategy[Any] = JSON | st.sampled_from(
    [*USUAL.values(), -1, 0, 2**53, 2**64, -0.0, True, "", "none", "HS256", "JWT", "at+jwt", [], {}]
)


def changed(usual: dict[str, Any], names: tuple[str, ...]) -> st.SearchStrategy[bytes]:
    """Return the members as usual, with some of them changed or left out."""
    return st.builds(
        lambda change, left_out: json.dumps(
            {name: value for name, value in {**usual, **change}.items() if name not in left_out}
        ).encode(),
        st.dictionaries(st.sampled_from(names), ODD, max_size=4),
        st.sets(st.sampled_from(names), max_size=1),
    )


@settings(max_examples=size(20_000, 100))
@given(changed(HEADER, MEMBERS), changed(USUAL, CLAIMS))
def test_any_claims_under_a_valid_signature_are_valid_or_refused(
    header: bytes, claims: bytes
) -> None:
    signed_content(header + b"\n" + claims)


SEGMENT = st.binary(max_size=60).map(base64url.encode) | st.binary(max_size=60)


@settings(max_examples=size(20_000, 100))
@given(
    st.builds(
        lambda header, claims, signature: (
            base64url.encode(header) + b"." + base64url.encode(claims) + b"." + signature
        ),
        changed(HEADER, MEMBERS),
        changed(USUAL, CLAIMS),
        SEGMENT,
    )
    | st.lists(SEGMENT, max_size=5).map(b".".join)
)
def test_no_token_passes_that_was_not_issued(token: bytes) -> None:
    presented_token(token)


FIELD = st.sampled_from([b"authorization", b"dpop", b"origin", b"cookie", b"x-forwarded-for"])
CREDENTIALS = st.builds(
    lambda scheme, between, token: scheme + between + token,
    st.sampled_from([b"Bearer", b"bearer", b"DPoP", b"Basic", b"", b"Token", b"\xff"]),
    st.sampled_from([b" ", b"  ", b"\t", b"", b", "]),
    SEGMENT | st.just(TARGETS["presented_token"].seeds[0]) | st.binary(max_size=40),
)


@settings(max_examples=size(20_000, 100))
@given(
    st.sampled_from([b"/", b"/things", b"//", b"/%2e%2e/", b"/.well-known/x"])
    | st.binary(max_size=20),
    st.lists(st.tuples(FIELD, CREDENTIALS | st.binary(max_size=40)), max_size=4),
)
def test_any_header_fields_get_one_verdict_from_both_adapters(
    path: bytes, fields: list[tuple[bytes, bytes]]
) -> None:
    lines = [name + b": " + value.replace(b"\n", b"") for name, value in fields]
    guarded_request(b"\n".join((path.replace(b"\n", b""), *lines)))
