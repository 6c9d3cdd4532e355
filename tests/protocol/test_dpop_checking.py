"""Checking DPoP proofs (RFC 9449 §4.3): what is accepted, and why the rest is refused."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from bearerguard.errors import ConfigurationError, NonceRequired, ProofError, Refusal, TokenError
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import base64url, jwk, signing
from bearerguard.protocol.jose.thumbprint import public_jwk

NOW = 1_800_000_000
URL = "https://api.example.com/v1/recordings"
SECRET = "0123456789abcdef0123456789abcdef"
KEYS = {
    name: signing.PrivateKey(name, None, signing.generate(name))
    for name in ("ES256", "ES384", "EdDSA", "Ed25519", "RS256", "PS256")
}
ES256 = KEYS["ES256"]
CHECKER = dpop.ProofChecker()


def signed(
    key: signing.PrivateKey = ES256, header: dict[str, Any] | None = None, **claims: Any
) -> bytes:
    """Return a valid proof, but for the given members; None removes one."""
    head = {
        "typ": "dpop+jwt",
        "jwk": public_jwk(key.private.public_key()),
        "alg": key.algorithm,
        **(header or {}),
    }
    body = {"jti": "one", "htm": "GET", "htu": URL, "iat": NOW, **claims}
    return key.sign_octets(*(_json(members) for members in (head, body))).encode()


def _json(members: dict[str, Any]) -> bytes:
    given = {name: value for name, value in members.items() if value is not None}
    return json.dumps(given, separators=(",", ":")).encode()


def check(*fields: bytes, checker: dpop.ProofChecker = CHECKER, **request: Any) -> Any:
    return checker.check(
        fields,
        **{"method": "GET", "target": URL, "now": NOW, **request},
    )


def reason(*fields: bytes, **request: Any) -> str:
    with pytest.raises(Refusal) as caught:
        check(*fields, **request)
    assert caught.value.remedy
    assert isinstance(caught.value, ProofError) or caught.value.reason.code == "wrong_key"
    return caught.value.reason.code


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_proof_that_we_build_is_accepted_and_names_its_key(algorithm: str) -> None:
    key = KEYS[algorithm]
    text = dpop.proof(
        key, "POST", URL + "?q=1#f", now=NOW, jti="j", access_token="abc", nonce="n", body=b"{}"
    )
    proof = check(text.encode(), method="POST", token_digest=dpop.token_digest("abc"))
    assert proof.thumbprint == dpop.key_thumbprint(key)
    assert (proof.jti, proof.nonce) == ("j", "n")
    assert (proof.issued_at, proof.expires_at) == (NOW, NOW + dpop.MAX_AGE)
    dpop.check_content_digest(proof.content_digest, b"{}")


def test_the_proof_of_the_rfc_is_accepted() -> None:
    # RFC 9449 §7.1, figure 12
    text = (
        b"eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6Ik"
        b"VDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCR"
        b"nMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JE"
        b"QSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIj"
        b"oiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0Z"
        b"WRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNF"
        b"c05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71E"
        b"OptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
    )
    proof = check(
        text,
        target="https://resource.example.org/protectedresource",
        now=1562262618,
        token_digest=dpop.token_digest("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"),
    )
    assert proof.thumbprint == "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"


def test_the_key_of_a_sender_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = dpop.ProofChecker()
    parsed: list[object] = []

    def counted(key: object) -> jwk.VerificationKey:
        parsed.append(key)
        return parse(key)

    parse = jwk.parse_jwk
    monkeypatch.setattr(jwk, "parse_jwk", counted)
    for number in range(3):
        assert check(signed(jti=str(number)), checker=checker).jti == str(number)
    assert len(parsed) == 1


def test_a_key_that_signed_nothing_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    checker = dpop.ProofChecker()
    forged = signed().rpartition(b".")[0] + b"." + signed(jti="other").rpartition(b".")[2]
    assert reason(forged, checker=checker) == "bad_proof_signature"

    def refuse(_key: object) -> jwk.VerificationKey:
        raise ValueError("parsed again")

    monkeypatch.setattr(jwk, "parse_jwk", refuse)
    assert reason(signed(), checker=checker) == "bad_proof_key"


def test_a_known_key_verifies_its_own_proofs_alone() -> None:
    assert check(signed()).jti == "one"
    head, _, signature = signed().split(b".")
    other = signed(jti="two").split(b".")[1]
    assert reason(b".".join((head, other, signature))) == "bad_proof_signature"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ([], "missing_proof"),
        ([signed(), signed()], "repeated_proof"),
        ([signed() + b"," + signed()], "malformed_proof"),
        ([b""], "malformed_proof"),
        ([b"x"], "malformed_proof"),
        ([b"a.b"], "malformed_proof"),
        ([b"a.b.c.d.e"], "malformed_proof"),
        ([b"\xff.\xff.\xff"], "malformed_proof"),
        ([signed() + b"="], "malformed_proof"),
        ([signed().replace(b".", b" .", 1)], "malformed_proof"),
        ([signed(jti="j" * 9000)], "malformed_proof"),
    ],
)
def test_DP_01_a_proof_is_one_field_with_one_jws(fields: list[bytes], code: str) -> None:
    assert reason(*fields) == code


@pytest.mark.parametrize(
    ("claims", "code"),
    [
        ({"jti": None}, "malformed_proof"),
        ({"jti": ""}, "malformed_proof"),
        ({"jti": 7}, "malformed_proof"),
        ({"jti": "j" * 257}, "malformed_proof"),
        ({"htm": None}, "malformed_proof"),
        ({"htu": None}, "malformed_proof"),
        ({"htu": ["x"]}, "malformed_proof"),
        ({"iat": None}, "malformed_proof"),
        ({"iat": True}, "malformed_proof"),
        ({"iat": str(NOW)}, "malformed_proof"),
        ({"iat": -1}, "malformed_proof"),
        ({"iat": 10**400}, "malformed_proof"),
        ({"nonce": 7}, "malformed_proof"),
        ({"content_digest": {}}, "malformed_proof"),
    ],
)
def test_DP_01_a_proof_has_the_claims_of_the_rfc(claims: dict[str, Any], code: str) -> None:
    assert reason(signed(**claims)) == code


def test_DP_01_a_member_that_is_there_twice_is_refused() -> None:
    head = _json({"typ": "dpop+jwt", "jwk": ES256.jwk(), "alg": "ES256"})
    claims = _json({"jti": "a", "htm": "GET", "htu": URL, "iat": NOW})
    twice = claims[:-1] + b',"jti":"b"}'
    assert reason(ES256.sign_octets(head, twice).encode()) == "malformed_proof"
    assert reason(ES256.sign_octets(head[:-1] + b',"alg":"ES256"}', claims).encode()) == (
        "malformed_proof"
    )


PUBLIC = public_jwk(ES256.private.public_key())
BIG = rsa.generate_private_key(65537, 2048).public_key().public_numbers()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ({"typ": None}, "wrong_proof_type"),
        ({"typ": "JWT"}, "wrong_proof_type"),
        ({"typ": 7}, "wrong_proof_type"),
        ({"alg": None}, "wrong_proof_algorithm"),
        ({"alg": "none"}, "wrong_proof_algorithm"),
        ({"alg": "HS256"}, "wrong_proof_algorithm"),
        ({"alg": ["ES256"]}, "wrong_proof_algorithm"),
        ({"alg": "RS256"}, "bad_proof_key"),
        ({"alg": "ES384"}, "bad_proof_key"),
        ({"crit": []}, "malformed_proof"),
        ({"b64": False}, "malformed_proof"),
        ({"jwk": None}, "bad_proof_key"),
        ({"jwk": []}, "bad_proof_key"),
        ({"jwk": {}}, "bad_proof_key"),
        ({"jwk": {"kty": "oct", "k": "AAAA"}}, "bad_proof_key"),
        ({"jwk": {**PUBLIC, "d": "AAAA"}}, "bad_proof_key"),
        ({"jwk": {**PUBLIC, "d": ""}}, "bad_proof_key"),
        ({"jwk": {**PUBLIC, "use": "enc"}}, "bad_proof_key"),
        ({"jwk": {**PUBLIC, "y": PUBLIC["x"]}}, "bad_proof_key"),
        ({"jwk": {**PUBLIC, "crv": "P-384"}}, "bad_proof_key"),
        ({"jwk": public_jwk(KEYS["RS256"].private.public_key())}, "bad_proof_key"),
    ],
)
def test_DP_02_the_header_names_an_asymmetric_algorithm_and_a_public_key(
    header: dict[str, Any], code: str
) -> None:
    assert reason(signed(header=header)) == code


@pytest.mark.parametrize("octets", [128, 1024])
def test_DP_02_an_rsa_key_has_from_2048_to_4096_bits(octets: int) -> None:
    modulus = base64url.encode(b"\xc1" * octets).decode()
    assert reason(signed(header={"alg": "RS256", "jwk": {"kty": "RSA", "n": modulus, "e": "AQAB"}}))


def test_DP_02_an_algorithm_that_is_not_allowed_is_refused() -> None:
    checker = dpop.ProofChecker(("EdDSA",))
    assert reason(signed(), checker=checker) == "wrong_proof_algorithm"
    assert check(signed(KEYS["EdDSA"]), checker=checker).jti == "one"


def test_DP_02_a_signature_of_another_key_is_refused() -> None:
    other = signing.PrivateKey("ES256", None, signing.generate("ES256"))
    assert reason(signed(other, header={"jwk": PUBLIC})) == "bad_proof_signature"


@pytest.mark.parametrize("typ", ["dpop+jwt", "DPoP+JWT", "application/dpop+jwt"])
def test_DP_02_the_type_is_a_media_type(typ: str) -> None:
    assert check(signed(header={"typ": typ}))


@pytest.mark.parametrize("method", ["get", "POST", "GET "])
def test_DP_03_the_method_is_compared_with_its_case(method: str) -> None:
    assert reason(signed(htm=method)) == "wrong_proof_method"


@pytest.mark.parametrize(
    "htu",
    [
        URL,
        URL + "?a=b",
        URL + "#f",
        "HTTPS://API.example.com:443/v1/recordings",
        "https://api.example.com/v1/./x/../recordings",
        "https://api.example.com/%76%31/recordings",
    ],
)
def test_DP_04_equivalent_spellings_of_the_url_are_accepted(htu: str) -> None:
    assert check(signed(htu=htu))


def test_DP_04_an_empty_path_and_encoded_characters_are_normalised() -> None:
    assert check(signed(htu="https://api.example.com"), target="https://api.example.com/")
    target = "https://api.example.com/%7Eme/%C3%A9"
    assert check(signed(htu="https://api.example.com/~me/%c3%a9"), target=target)


@pytest.mark.parametrize(
    "htu",
    [
        "http://api.example.com/v1/recordings",
        "https://api.example.com/v1/recordings/",
        "https://api.example.com/V1/recordings",
        "https://api.example.com:8443/v1/recordings",
        "https://other.example.com/v1/recordings",
        "https://api.example.com@evil.example/v1/recordings",
        "https://user@api.example.com/v1/recordings",
        "https://api.example.com/v1%2Frecordings",
        "/v1/recordings",
        "//api.example.com/v1/recordings",
        "\ud7ff",
    ],
)
def test_DP_04_another_url_is_refused(htu: str) -> None:
    assert reason(signed(htu=htu)) == "wrong_proof_target"


@pytest.mark.parametrize(
    ("offset", "accepted"), [(-300, False), (-299, True), (0, True), (300, True), (301, False)]
)
def test_DP_05_a_proof_is_accepted_for_five_minutes(offset: int, accepted: bool) -> None:
    if accepted:
        assert check(signed(iat=NOW + offset)).expires_at > NOW
    else:
        assert reason(signed(iat=NOW + offset)) == "untimely_proof"


@pytest.mark.parametrize("ath", [None, "", dpop.token_digest("other"), 7])
def test_DP_07_a_proof_for_another_token_is_refused(ath: object) -> None:
    digest = dpop.token_digest("abc")
    assert reason(signed(ath=ath), token_digest=digest) == "wrong_proof_token"
    assert check(signed(ath=digest), token_digest=digest)


def test_DP_08_a_proof_by_another_key_is_refused() -> None:
    jkt = dpop.key_thumbprint(ES256)
    assert check(signed(), jkt=jkt).thumbprint == jkt
    with pytest.raises(TokenError, match="wrong_key"):
        check(signed(KEYS["EdDSA"]), jkt=jkt)


def test_two_proofs_share_no_replay_key_unless_key_identifier_and_target_are_equal() -> None:
    proofs = [
        signed(),
        signed(jti="two"),
        signed(KEYS["EdDSA"]),
        signed(htu=URL + "?x"),
    ]
    assert len({check(proof).replay_key for proof in proofs}) == len(proofs)
    assert check(signed(iat=NOW - 1)).replay_key == check(signed()).replay_key


def test_a_checked_proof_shows_nothing_that_could_be_replayed() -> None:
    proof = check(signed(jti="very-secret"))
    assert "very-secret" not in repr(proof)
    assert proof.thumbprint in repr(proof)


# Nonces


def nonces(secret: Any = SECRET, **options: Any) -> dpop.Nonces:
    return dpop.Nonces(secret, **{"purpose": "test", **options})


def test_DP_11_a_nonce_is_accepted_for_its_life_by_every_process_with_the_secret() -> None:
    nonce = nonces().make(NOW)
    assert dpop.nonce([nonce]) == nonce
    assert nonces().accepts(nonce, NOW)
    assert nonces().accepts(nonce, NOW + 300)
    assert not nonces().accepts(nonce, NOW + 301)
    assert nonces().accepts(nonce, NOW - 30)
    assert not nonces().accepts(nonce, NOW - 31)
    assert not nonces().is_old(nonce, NOW + 149)
    assert nonces().is_old(nonce, NOW + 150)


def test_DP_11_a_nonce_of_another_secret_or_purpose_is_refused() -> None:
    nonce = nonces().make(NOW)
    assert not nonces("x" * 32).accepts(nonce, NOW)
    assert not nonces(purpose="other").accepts(nonce, NOW)
    assert nonces(["x" * 32, SECRET]).accepts(nonce, NOW)
    assert nonces(["x" * 32, SECRET]).make(NOW) != nonce


@pytest.mark.parametrize("nonce", ["", "x", "é" * 30, "=" * 30, "A" * 30, "A" * 29 + "B"])
def test_DP_11_what_is_no_nonce_is_refused(nonce: str) -> None:
    assert not nonces().accepts(nonce, NOW)
    assert not nonces(max_age=2**60).accepts(nonce, NOW)


def test_DP_11_something_that_is_no_nonce_is_old() -> None:
    assert nonces().is_old("x", NOW)


@given(st.integers(0, 29), st.sampled_from("ABCxyz-_09"))
def test_DP_11_an_altered_nonce_is_refused(place: int, letter: str) -> None:
    nonce = nonces().make(NOW)
    altered = nonce[:place] + letter + nonce[place + 1 :]
    assert nonces().accepts(altered, NOW) == (altered == nonce)


def test_DP_11_a_short_secret_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="shorter than 32 bytes"):
        nonces("short")
    assert SECRET not in repr(nonces())


def test_DP_11_a_proof_needs_a_recent_nonce_where_nonces_are_demanded() -> None:
    checker = dpop.ProofChecker(nonces=nonces())
    with pytest.raises(NonceRequired, match="has no nonce"):
        check(signed(), checker=checker)
    with pytest.raises(NonceRequired, match="too old"):
        check(signed(nonce=nonces().make(NOW - 301)), checker=checker)
    assert check(signed(nonce=nonces().make(NOW)), checker=checker)


# The digest of the body

BODY = b'{"a": 1}'


def digest(name: str = "sha256") -> str:
    made = base64.b64encode(hashlib.new(name, BODY).digest()).decode()
    return f"sha-{name[3:]}=:{made}:"


@pytest.mark.parametrize(
    "value",
    [dpop.content_digest(BODY), digest(), digest("sha512"), f"{digest()}, {digest('sha512')}"],
)
def test_DP_12_the_digest_of_the_body_is_accepted(value: str) -> None:
    dpop.check_content_digest(value, BODY)
    with pytest.raises(ProofError, match="another body"):
        dpop.check_content_digest(value, BODY + b" ")


def test_DP_12_the_digest_is_that_of_the_rfc() -> None:
    # RFC 9530 appendix B.1
    body = b'{"hello": "world"}\n'
    assert dpop.content_digest(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"


@pytest.mark.parametrize(
    "value",
    [None, "", "sha-256", "sha-256=abc", "sha-256=:A:", f"{digest()},", "md5=:AAAA:", ",", "\xe9"],
)
def test_DP_12_what_is_no_digest_of_the_body_is_refused(value: str | None) -> None:
    with pytest.raises(ProofError, match="wrong_content_digest"):
        dpop.check_content_digest(value, BODY)


@given(st.binary(max_size=40), st.integers(0, 400))
def test_a_mutated_proof_is_never_accepted(noise: bytes, place: int) -> None:
    text = signed()
    mutated = text[:place] + noise + text[place + len(noise) :]
    try:
        check(mutated)
    except ProofError:
        return
    # Only the number s of an ECDSA signature has a second spelling.
    assert mutated.rpartition(b".")[0] == text.rpartition(b".")[0]
