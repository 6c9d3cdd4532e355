"""DPoP proofs (RFC 9449) and thumbprints (RFC 7638), checked by PyJWT and by examples."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.protocol import dpop
from bearerguard.protocol.jose import base64url, signing
from bearerguard.protocol.jose.jwk import parse_jwk
from bearerguard.protocol.jose.jwt import parse
from bearerguard.protocol.jose.thumbprint import public_jwk, thumbprint
from bearerguard.testing.signing_key import SigningKey

KEYS = {
    name: signing.PrivateKey(name, None, SigningKey.generate(name, None).private)
    for name in ("ES256", "EdDSA", "RS256")
}
URL = "https://api.example.com/v1/recordings"
# RFC 7638 §3.1
RSA_EXAMPLE = {
    "kty": "RSA",
    "n": "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_"
    "BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2"
    "QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6"
    "WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    "e": "AQAB",
    "alg": "RS256",
    "kid": "2011-04-29",
}
# RFC 9449 §4.1, §6.1 and RFC 8037 appendix A.3
EC_EXAMPLE = {
    "kty": "EC",
    "x": "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    "y": "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    "crv": "P-256",
}
OKP_EXAMPLE = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}


def read(proof: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Check a proof as a server does, with PyJWT and the key that it names."""
    header = jwt.get_unverified_header(proof)
    key = jwt.PyJWK({**header["jwk"], "alg": header["alg"]})
    claims = jwt.decode(
        proof, key, algorithms=[header["alg"]], options={"verify_iat": False, "verify_aud": False}
    )
    return header, claims


@pytest.mark.parametrize("algorithm", ["Ed25519", "ML-DSA-44"])
def test_a_proof_by_an_algorithm_that_pyjwt_lacks_is_signed_by_the_key_it_names(algorithm):
    key = signing.PrivateKey(algorithm, None, signing.generate(algorithm))
    proof = dpop.proof(key, "POST", URL, now=1, jti="one").encode()
    token = parse(proof)
    head = json.loads(base64url.decode(token.header))
    public = parse_jwk(head["jwk"])
    assert head["alg"] == algorithm
    assert public.verifies(algorithm, token.signing_input, token.signature)
    assert dpop.key_thumbprint(key) == thumbprint(head["jwk"])


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_proof_is_signed_by_the_key_it_names(algorithm):
    header, claims = read(dpop.proof(KEYS[algorithm], "POST", URL, now=1700000000.9, jti="one"))
    assert header["typ"] == "dpop+jwt"
    assert header["alg"] == algorithm
    assert claims == {"jti": "one", "htm": "POST", "htu": URL, "iat": 1700000000}


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_proof_shows_the_public_key_and_nothing_of_the_private_one(algorithm):
    header, _ = read(dpop.proof(KEYS[algorithm], "GET", URL, now=0, jti="one"))
    assert set(header["jwk"]) <= {"kty", "crv", "x", "y", "n", "e"}
    assert thumbprint(header["jwk"]) == dpop.key_thumbprint(KEYS[algorithm])


def test_a_proof_for_an_api_names_the_token_and_the_nonce():
    proof = dpop.proof(KEYS["ES256"], "GET", URL, now=0, jti="j", access_token="abc", nonce="n-1")
    _, claims = read(proof)
    digest = hashlib.sha256(b"abc").digest()
    assert claims["ath"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert claims["nonce"] == "n-1"


def test_the_digest_of_a_token_is_that_of_the_rfc():
    # RFC 9449 §7.1: the token and its `ath`
    token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
    assert dpop.token_digest(token) == "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo"


@pytest.mark.parametrize(
    ("jwk", "expected"),
    [
        (RSA_EXAMPLE, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        (EC_EXAMPLE, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"),
        (OKP_EXAMPLE, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
    ],
    ids=["RSA", "EC", "OKP"],
)
def test_thumbprints_are_those_of_the_rfcs(jwk, expected):
    assert thumbprint(jwk) == expected


@pytest.mark.parametrize(
    "jwk", [{}, {"kty": "oct", "k": "AA"}, {"kty": "EC", "x": "a"}, {**OKP_EXAMPLE, "x": 7}]
)
def test_a_jwk_without_a_public_key_has_no_thumbprint(jwk):
    with pytest.raises(ValueError, match="its "):
        thumbprint(jwk)


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_public_key_keeps_its_thumbprint_whatever_else_its_jwk_says(algorithm):
    members = public_jwk(KEYS[algorithm].private.public_key())
    decorated = {"use": "sig", "kid": "k", **dict(reversed(members.items()))}
    assert thumbprint(decorated) == thumbprint(members)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.example.com/a?b=c#d", "https://api.example.com/a"),
        ("HTTPS://API.example.com:443", "https://api.example.com/"),
        ("http://127.0.0.1:8000/a%2Fb/", "http://127.0.0.1:8000/a%2Fb/"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("https://h:8443/?q", "https://h:8443/"),
    ],
)
def test_the_target_has_no_query_and_one_spelling(url, expected):
    assert dpop.target(url) == expected


@pytest.mark.parametrize(
    "url", ["", "/a", "ftp://h/", "https:///a", "https://u:p@h/", "https://h:x/", "https://[/"]
)
def test_a_url_that_no_request_can_have_is_no_target(url):
    with pytest.raises(ValueError, match=r"."):
        dpop.target(url)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], None),
        (["eyJ7S_zG.eyJH0-Z.HX4w-7v"], "eyJ7S_zG.eyJH0-Z.HX4w-7v"),
        (["a", "a"], None),
        ([""], None),
        (["a b"], None),
        (['a"b'], None),
        (["a\\b"], None),
        (["a\n"], None),
        (["ä"], None),
        (["a" * 1025], None),
    ],
)
def test_a_nonce_is_one_field_in_its_grammar(fields, expected):
    assert dpop.nonce(fields) == expected


texts = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=60)


@given(
    method=st.sampled_from(["GET", "POST", "QUERY"]),
    path=st.from_regex(r"/[a-zA-Z0-9/._~-]{0,40}", fullmatch=True),
    query=texts,
    now=st.floats(0, 4e9),
    jti=texts,
    token=st.none() | texts,
    nonce=st.none() | texts,
)
def test_every_proof_reads_back(*, method, path, query, now, jti, token, nonce):
    url = f"https://api.example.com{path}"
    proof = dpop.proof(
        KEYS["ES256"], method, f"{url}?{query}", now=now, jti=jti, access_token=token, nonce=nonce
    )
    _, claims = read(proof)
    assert claims.pop("ath", None) == (None if token is None else dpop.token_digest(token))
    assert claims.pop("nonce", None) == nonce
    assert claims == {"jti": jti, "htm": method, "htu": url, "iat": int(now)}


@given(st.text(max_size=80))
def test_a_target_is_made_or_refused_and_stays_as_it_is(url):
    try:
        found = dpop.target(url)
    except ValueError:
        return
    assert dpop.target(found) == found
    assert not {"?", "#"} & set(found)


@given(st.lists(st.text(max_size=30), max_size=2))
def test_a_nonce_can_stand_in_a_proof(fields):
    found = dpop.nonce(fields)
    assert found is None or json.loads(json.dumps(found)) == found == fields[0]


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5)))
def test_a_thumbprint_is_made_or_refused(jwk):
    try:
        found = thumbprint(jwk)
    except ValueError as error:
        assert str(error).startswith("its ")  # noqa: PT017 - or it is made
    else:
        assert len(found) == 43
