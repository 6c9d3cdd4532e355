"""Parsers of untrusted input never crash, and accept nothing that was altered."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bearerguard import TokenError, scopes
from bearerguard.errors import CredentialsError
from bearerguard.protocol import jwt_claims, scope
from bearerguard.protocol.http.credentials import (
    MAX_FIELD_BYTES,
    bearer_credentials,
    bearer_token,
    credentials,
)
from bearerguard.protocol.jose import base64url, jwk, jwt, strict_json, verifier
from bearerguard.testing import LocalIssuer

NOW = 1_800_000_000
ISSUER = LocalIssuer(algorithm="ES256", clock=lambda: NOW)
GUARD = ISSUER.guard()
TOKEN = ISSUER.token()
KEY = jwk.parse_jwk(ISSUER.jwks()["keys"][0])
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
LONGEST = 64
TOKEN68 = st.from_regex(rb"[A-Za-z0-9._~+/-]+=*", fullmatch=True)
SCOPE_TOKEN = st.from_regex(r"[\x21\x23-\x5B\x5D-\x7E]+", fullmatch=True)


@given(st.lists(st.binary(), max_size=3))
@example([b"Bearer"])
@example([b"bearer \xff"])
def test_any_octets_are_credentials_or_refused(fields: list[bytes]) -> None:
    try:
        token = bearer_token(fields)
    except CredentialsError:
        return
    assert token is None or fields[0].strip(b" \t").endswith(token)


@given(TOKEN68, st.integers(1, 5), st.sampled_from([b"Bearer", b"bearer", b"bEaReR"]))
def test_every_token68_is_parsed(token: bytes, spaces: int, scheme: bytes) -> None:
    assert bearer_token([scheme + b" " * spaces + token]) == token


@given(st.text("Zz09._~+/-= \t\n,:\x00\xff", max_size=8).map(lambda text: text.encode("latin-1")))
def test_the_fast_path_for_credentials_is_no_laxer(rest: bytes) -> None:
    outcomes: list[bytes | str | None] = []
    for scheme in (b"Bearer ", b"bearer "):
        try:
            outcomes.append(bearer_token([scheme + rest]))
        except CredentialsError as refusal:
            outcomes.append(refusal.reason.code)
    assert outcomes[0] == outcomes[1]


@given(st.binary())
def test_base64url_has_one_encoding(octets: bytes) -> None:
    text = base64url.encode(octets)
    assert base64url.decode(text) == octets
    for other in (text + b"=", text + b"\n", b" " + text, text + b"+"):
        with pytest.raises(ValueError):
            base64url.decode(other)


@given(st.binary(max_size=40))
def test_decoded_text_encodes_back(text: bytes) -> None:
    try:
        octets = base64url.decode(text)
    except ValueError:
        return
    assert base64url.encode(octets) == text


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda v: json.dumps(v).encode()))
@example(b'{"a":1,"a":1}')
@example(b'"\\ud800"')
@example(b"[" * 5000)
@example(b"[" + b"[]," * 100 + b"{}]")
@example(b"1e999")
@example(b"9" * 5000)
def test_any_octets_are_json_or_a_value_error(octets: bytes) -> None:
    try:
        value = strict_json.loads(octets)
    except ValueError:
        return
    assert strict_json.loads(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200) | st.from_regex(rb"[\w-]*\.[\w-]*\.[\w-]*", fullmatch=True))
def test_any_octets_are_a_jwt_or_a_token_error(token: bytes) -> None:
    try:
        parsed = jwt.parse(token)
    except TokenError:
        return
    assert parsed.signing_input + b"." + base64url.encode(parsed.signature) == token


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_no_altered_token_is_accepted(position: int, change: int) -> None:
    octets = bytearray(TOKEN.encode())
    octets[position] ^= change
    with pytest.raises(TokenError):
        GUARD.verify(bytes(octets))


@given(st.binary(min_size=0, max_size=100))
def test_no_other_signature_verifies(signature: bytes) -> None:
    signing_input = TOKEN.rpartition(".")[0].encode()
    assume(signature != base64url.decode(TOKEN.rpartition(".")[2].encode()))
    assert not KEY.verifies("ES256", signing_input, signature)


@given(
    st.dictionaries(
        st.sampled_from(["kty", "crv", "x", "y", "n", "e", "kid", "alg", "use", "key_ops"]), JSON
    ),
    st.booleans(),
)
def test_a_mutated_jwk_is_a_key_or_a_value_error(change: dict[str, Any], whole: bool) -> None:
    base = {} if whole else ISSUER.jwks()["keys"][0]
    try:
        key = jwk.parse_jwk({**base, **change})
    except ValueError:
        return
    assert key.algorithms


@given(JSON)
def test_any_json_is_a_jwks_or_a_value_error(document: Any) -> None:
    for candidate in (document, {"keys": document}, {"keys": [document]}):
        try:
            jwk.parse_jwks(candidate)
        except ValueError:
            continue


REGISTERED = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "scope", "scp", "cnf"]
EXPECTED = jwt_claims.Expected(frozenset({"api"}))


@given(
    st.dictionaries(
        st.sampled_from([*REGISTERED, "roles", "acr", "auth_time", "azp"]), JSON, max_size=4
    )
)
@example({"exp": True})
@example({"exp": 2**53 + 1})
@example({"nbf": float("nan")})
@example({"auth_time": "x"})
def test_any_claims_are_a_principal_or_a_token_error(change: dict[str, Any]) -> None:
    found = {"iss": "i", "aud": "api", "exp": NOW + 60, **change}
    try:
        principal = jwt_claims.bearer({**found}, EXPECTED, NOW)
    except TokenError:
        return
    assert principal.is_authenticated
    assert principal.expires_in(NOW) is not None
    assert hash(principal) == hash(jwt_claims.bearer({**found}, EXPECTED, NOW))
    json.dumps(principal.to_dict(), allow_nan=True)


@given(st.frozensets(SCOPE_TOKEN, max_size=5))
def test_scopes_are_sets(names: frozenset[str]) -> None:
    assert scope.parse(scope.build(names)) == names
    assert scope.granted({"scope": list(names)}) == names
    assert scope.parse("  ".join(names)) == names


@given(st.frozensets(SCOPE_TOKEN, min_size=1, max_size=4), st.frozensets(SCOPE_TOKEN, max_size=4))
def test_a_requirement_is_met_by_principals_with_all_scopes(
    needed: frozenset[str], held: frozenset[str]
) -> None:
    requirement = scopes(*needed)
    found = {"iss": "i", "aud": "api", "exp": NOW, "scope": " ".join(held)}
    principal = jwt_claims.bearer(found, EXPECTED, NOW)
    assert requirement.met_by(principal) is (needed <= held)
    assert (requirement & requirement).met_by(principal) is (needed <= held)
    assert (requirement | requirement).met_by(principal) is (needed <= held)
    needs = requirement.obtainable(principal)
    assert needs is not None
    assert scope.parse(needs.scope or "") == (frozenset() if needed <= held else needed)


@given(JSON)
def test_a_scope_claim_is_a_set_or_a_value_error(value: Any) -> None:
    try:
        names = scope.granted({"scope": value})
    except ValueError:
        return
    assert all(isinstance(name, str) and name for name in names)


@given(st.sampled_from((32, 48, 66)), st.data())
def test_a_signature_in_der_is_as_cryptography_encodes_it(octets: int, data: st.DataObject) -> None:
    integer = st.binary(min_size=octets, max_size=octets) | st.integers(0, octets).map(
        lambda zeros: b"\0" * zeros + b"\xff" * (octets - zeros)
    )
    r, s = data.draw(integer), data.draw(integer)
    ours = verifier.ecdsa_signature(r, s)
    assert ours == encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))


@given(st.binary(min_size=LONGEST), st.sampled_from((b"Bearer ", b"DPoP ", b"bearer\t", b"Basic ")))
def test_JWT_18_a_field_that_is_longer_than_the_guards_tokens_is_not_read(
    rest: bytes, scheme: bytes
) -> None:
    field = scheme + rest
    for read, schemes in ((bearer_credentials, {"Bearer"}), (credentials, {"Bearer", "DPoP"})):
        found = read([field], LONGEST)
        named = scheme.strip().decode().title().replace("Dpop", "DPoP")
        if named not in schemes:
            assert found is None
        else:
            assert found is not None
            assert found.scheme == named
            assert found.token is field, "neither scanned nor copied"


def test_JWT_18_no_field_of_more_than_a_megabyte_is_read_by_anything() -> None:
    with pytest.raises(CredentialsError, match="the field is longer than"):
        bearer_token([b"Bearer " + b"a" * MAX_FIELD_BYTES])
