"""A bad configuration raises at construction, naming the option and the remedy."""

from __future__ import annotations

import base64
import datetime as dt
import json
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm

from bearerguard import (
    ClaimMapping,
    ConfigurationError,
    Event,
    ExpiryHeaders,
    Fetch,
    FetchFailed,
    Guard,
    HttpTransport,
    Introspection,
    Issuer,
    IssuerUnavailable,
    KeyPolicy,
    TokenError,
    claim,
    role,
    scopes,
)
from bearerguard.asgi import ASGIApp, BearerMiddleware
from bearerguard.guard.config.settings import SETTINGS, Setting, read
from bearerguard.runtime.messages import Request, Response
from bearerguard.testing import LocalIssuer, SigningKey, sign
from bearerguard.testing.loopback import serving

URL = "https://id.example.com"
SECRET = "s3cret-of-thirty-two-bytes-or-more!"
RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
SPKI = (Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
PEM = RSA.public_key().public_bytes(*SPKI)
DER = RSA.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
PRIVATE_PEM = EC.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
EC_KEY = SigningKey.generate("ES256", "k1")
EC_JWK = EC_KEY.jwk()
EC_PRIVATE = json.loads(ECAlgorithm.to_jwk(EC))
ENCRYPTED = EC.private_bytes(Encoding.DER, PrivateFormat.PKCS8, BestAvailableEncryption(b"pw"))


def issuer(**options: Any) -> Issuer:
    return Issuer(URL, **{"audience": "api", **options})


def guard(**options: Any) -> Guard:
    return Guard(issuer(), **options)


def middleware(**options: Any) -> ASGIApp:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None: ...

    return BearerMiddleware(app, **{"guard": guard(), **options})


def certificate() -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "id.example.com")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, EC.public_key(), 1, now, now)
    return builder.sign(EC, hashes.SHA256())


def oct_jwk(secret: str | None = None, **members: Any) -> dict[str, Any]:
    octets = base64.urlsafe_b64encode((secret or SECRET).encode()).decode().rstrip("=")
    return {"kty": "oct", "k": octets, **members}


MISTAKES: list[tuple[str, Callable[[], object]]] = [
    (r"cache_control=: .*or None", lambda: guard(cache_control="")),
    (r"cache_control=", lambda: guard(cache_control="private\r\nX: y")),
    (r"cache_control=", lambda: guard(cache_control=True)),
    (r"insecure_allow_http=: pass True", lambda: issuer(insecure_allow_http="false")),
    (r"accept_id_tokens=: pass True", lambda: issuer(accept_id_tokens="false")),
    (r"strict=: pass True", lambda: issuer(strict=1)),
    (r"hints=", lambda: issuer(hints="expired")),
    (r"token=: pass a token", lambda: KeyPolicy(token=b"octets")),  # type: ignore[arg-type]
    (r"key_policy=: pass KeyPolicy", lambda: issuer(key_policy={"refresh": 5})),
    (r"claims=: pass ClaimMapping", lambda: issuer(claims={"roles": "groups"})),
    (r"audience=: pass this API's identifier", lambda: Issuer(URL)),
    (r"audience=", lambda: issuer(audience="")),
    (r"audience=", lambda: issuer(audience=["a", 1])),
    (r"audience=", lambda: issuer(audience=3)),
    (r"Issuer\(url\).*use https", lambda: Issuer("http://id.example.com", audience="a")),
    (r"Issuer\(url\).*has no scheme: write", lambda: Issuer("id.example.com", audience="a")),
    (r"Issuer\(url\).*has no scheme: write", lambda: Issuer("localhost:8080/t", audience="a")),
    (r"Issuer\(url\): 'urn:a:b' .*use https", lambda: Issuer("urn:a:b", audience="a")),
    (r"Issuer\(url\).*non-empty", lambda: Issuer("", audience="a")),
    (r"Issuer\(url\).*no query", lambda: Issuer(URL + "?x=1", audience="a")),
    (r"jwks_uri=.*use https", lambda: issuer(jwks_uri="http://id.example.com/jwks")),
    (r"jwks_uri=.*use https", lambda: issuer(jwks_uri="http://127.0.0.1.evil.test/jwks")),
    (r"discovery_url=.*use https", lambda: issuer(discovery_url="ftp://id.example.com")),
    (r"exclude each other", lambda: issuer(jwks_uri=URL, keys=PEM)),
    (r"exclude each other", lambda: issuer(shared_secret=SECRET, keys=PEM)),
    (r"algorithms=: 'HS256'.*need shared_secret=", lambda: issuer(algorithms=["HS256"])),
    (r"algorithms=: 'RS257'.*choose from", lambda: issuer(algorithms=["RS257"])),
    (r"algorithms=: 'none'", lambda: issuer(algorithms=["none"])),
    (r"algorithms=: 'RS256'", lambda: issuer(shared_secret=SECRET, algorithms=["RS256"])),
    (r"algorithms=: pass a list", lambda: issuer(algorithms="RS256")),
    (r"algorithms=: pass a list", lambda: issuer(algorithms=[])),
    (r"token_types=: pass a list", lambda: issuer(token_types="JWT")),
    (r"token_types=: \['logout\+jwt'\]", lambda: issuer(token_types=("logout+jwt",))),
    (r"token_types=: \['dpop\+jwt'\]", lambda: issuer(token_types=("JWT", "application/DPoP+JWT"))),
    (r"token_types=: \['a b'\]", lambda: issuer(token_types=("a b",))),
    (r"token_types=: \[''\]", lambda: issuer(token_types=("",))),
    (r"token_types=: pass a list", lambda: issuer(token_types=(7,))),
    (r"max_token_bytes=: pass a number", lambda: guard(max_token_bytes=0)),
    (r"request_id_headers=: pass a list", lambda: guard(request_id_headers="X-Request-ID")),
    (r"request_id_headers=: pass a list", lambda: guard(request_id_headers=["X Request"])),
    (r"request_id_headers=: cookie holds", lambda: guard(request_id_headers=["Cookie"])),
    (r"max_token_bytes=: pass a number", lambda: guard(max_token_bytes=True)),
    (r"max_token_bytes=: pass a number", lambda: guard(max_token_bytes="16384")),
    (r"max_token_bytes=: pass a number", lambda: guard(max_token_bytes=2**20 + 1)),
    (
        r"shared_secret=: HS384 needs at least 48 bytes",
        lambda: issuer(shared_secret="x" * 47, algorithms=("HS256", "HS384")),
    ),
    (
        r"shared_secret=: HS512 needs at least 64 bytes",
        lambda: issuer(shared_secret="x" * 63, algorithms=["HS512"]),
    ),
    (r"leeway=.*0 to 300", lambda: issuer(leeway=301)),
    (r"leeway=.*0 to 300", lambda: issuer(leeway=-1)),
    (r"leeway=.*0 to 300", lambda: issuer(leeway="30")),
    (r"leeway=.*0 to 300", lambda: issuer(leeway=float("nan"))),
    (r"refresh=: pass a positive", lambda: KeyPolicy(refresh=0)),
    (r"refresh=: pass a positive", lambda: KeyPolicy(refresh=float("nan"))),
    (r"cooldown=: pass a positive", lambda: KeyPolicy(cooldown="30")),  # type: ignore[arg-type]
    (r"max_age=: must not be shorter", lambda: KeyPolicy(max_age=10)),
    (r"keys=: pass a JWKS.*not object", lambda: issuer(keys=object())),
    (r"keys=: pass a JWKS.*not a PEM", lambda: issuer(keys="my shared secret")),
    (r"keys=: pass a JWKS.*list is empty", lambda: issuer(keys=[])),
    (r"keys=: pass a JWKS.*it has no key", lambda: issuer(keys={"keys": []})),
    (r"keys=: pass a JWKS.*not supported", lambda: issuer(keys={"kty": "oct", "k": "AAAA"})),
    (r"keys=: pass a JWKS.*not NoneType", lambda: issuer(keys=[None])),
    (r"shared_secret=: at least 32 bytes", lambda: issuer(shared_secret="x" * 31)),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=32)),
    (r"shared_secret=: pass one, or a list of at most 8", lambda: issuer(shared_secret=[])),
    (
        r"shared_secret=: pass one, or a list of at most 8",
        lambda: issuer(shared_secret=[f"{n}" * 32 for n in range(1, 10)]),
    ),
    (r"shared_secret=: one of them is given twice", lambda: issuer(shared_secret=[SECRET] * 2)),
    (r"shared_secret=: at least 32 bytes", lambda: issuer(shared_secret=[SECRET, "x"])),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=[SECRET, None])),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=oct_jwk(kty="RSA"))),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=oct_jwk(use="enc"))),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=oct_jwk(kid=1))),
    (r"shared_secret=: pass str or bytes", lambda: issuer(shared_secret=oct_jwk(k=None))),
    (r"shared_secret=: the member k of a JWK", lambda: issuer(shared_secret=oct_jwk(k="AB=="))),
    (r"shared_secret=: the alg 'A256KW'", lambda: issuer(shared_secret=oct_jwk(alg="A256KW"))),
    (r"shared_secret=: the alg \['HS256'\]", lambda: issuer(shared_secret=oct_jwk(alg=["HS256"]))),
    (
        r"shared_secret=: at least 64 bytes.*token_urlsafe\(64\)",
        lambda: issuer(shared_secret=oct_jwk(alg="HS512")),
    ),
    (
        r"shared_secret=: secret 2 of the list fits none .* too short for HS512",
        lambda: issuer(shared_secret=["y" * 64, SECRET[:40]], algorithms=["HS512"]),
    ),
    (r"pass at least one Issuer", Guard),
    (r"given twice", lambda: Guard(issuer(), issuer(audience="b"))),
    (r"pass Issuer objects, not str", lambda: Guard(URL)),  # type: ignore[arg-type]
    (r"realm=: pass a name", lambda: guard(realm="")),
    (r"realm=: pass a name", lambda: guard(realm="a\r\nb")),
    (r"realm=: pass a name", lambda: guard(realm=3)),
    (r"require=: pass a requirement", lambda: guard(require="read")),
    (r"expiry_headers=: pass ExpiryHeaders", lambda: guard(expiry_headers="X-Expires")),
    (r"cache_size=: pass a number", lambda: guard(cache_size=0)),
    (r"transport=: .*fetch is missing", lambda: guard(transport=object())),
    (r"header field name", lambda: ExpiryHeaders(expires_at="bad name")),
    (r"timeout=: pass a positive", lambda: HttpTransport(timeout=0)),
    (r"max_bytes=: pass a positive", lambda: HttpTransport(max_bytes=0)),
    (r"guard=: pass a Guard", lambda: middleware(guard=None)),
    (r"require=: pass a requirement", lambda: middleware(require="read")),
    (r"exclude=: pass a list of paths", lambda: middleware(exclude="/health")),
    (r"exclude=: pass a list of paths", lambda: middleware(exclude=("health",))),
    (r"exclude=: pass a list of paths", lambda: middleware(exclude=("/a*b",))),
    (r"optional=: pass a list of paths", lambda: middleware(optional=("x",))),
    (r"scopes\('read write'\).*own argument", lambda: scopes("read write")),
    (r"scopes\(\): name at least one", scopes),
    (r"scopes\(3\)", lambda: scopes(3)),  # type: ignore[arg-type]
    (r"role\(''\)", lambda: role("")),
    (r"claim\(''\)", lambda: claim("")),
    (r"BEARERGUARD_ISSUER is not set", lambda: Guard.from_env({})),
    (r"BEARERGUARD_AUDIENCE is not set", lambda: Guard.from_env({"BEARERGUARD_ISSUER": URL})),
    (r"algorithm=: 'RS999'", lambda: LocalIssuer(algorithm="RS999")),
    (r"secret=: needs one", lambda: LocalIssuer(algorithm="RS256", secret=SECRET)),
]


@pytest.mark.parametrize(("message", "mistake"), MISTAKES)
def test_a_mistake_is_named(message: str, mistake: Callable[[], object]) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mistake()


BARE = base64.b64encode(DER)


@pytest.mark.parametrize(
    "secret",
    [
        PEM,
        PEM.decode(),
        DER,
        BARE,
        BARE.rstrip(b"="),
        base64.urlsafe_b64encode(DER),
        base64.encodebytes(DER),
        b"\n".join(PEM.splitlines()[1:-1]),
        json.dumps({"kty": "RSA", "n": "AQAB" * 20, "e": "AQAB"}),
        json.dumps({"keys": [{"kty": "EC"}], "more": "x" * 20}),
        '{"\\u006bty":"RSA","filler":"' + "x" * 32 + '"}',
        "[" * 9999 + "]" * 9999,
        certificate().public_bytes(Encoding.PEM),
        certificate().public_bytes(Encoding.DER),
        base64.b64encode(certificate().public_bytes(Encoding.DER)),
        RSA.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        EC.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        ed25519.Ed25519PrivateKey.generate()
        .public_key()
        .public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        EC.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()),
        ENCRYPTED,
        RSA.public_key().public_bytes(Encoding.DER, PublicFormat.PKCS1),
    ],
    ids=lambda _: "key",  # fresh keys would name the tests anew each time
)
def test_a_key_is_never_taken_for_a_secret(secret: str | bytes) -> None:
    with pytest.raises(ConfigurationError, match="shared_secret=: this is a key or a certificate"):
        issuer(shared_secret=secret)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        SECRET.encode(),
        base64.b64encode(b"\x01" * 40),
        '"a JSON string, 32 bytes or more"' * 1,
    ],
)
def test_a_random_secret_is_one(secret: str | bytes) -> None:
    assert "secret" not in repr(issuer(shared_secret=secret)).replace("shared_secret", "")


@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
def test_a_shared_secret_verifies(algorithm: str) -> None:
    secret = SECRET[:32] * (int(algorithm[2:]) // 128)  # as long as it needs to be
    secret = secret[: int(algorithm[2:]) // 8]
    local = LocalIssuer(URL, audience="api", algorithm=algorithm, secret=secret)
    trusted = Guard(issuer(shared_secret=secret, token_types=("JWT",)))
    header = {"alg": algorithm, "typ": "JWT"}
    claims = {"iss": URL, "aud": "api", "exp": 2**33, "sub": "user"}
    assert trusted.verify(sign(header, claims, local.key)).subject == "user"
    assert local.jwks() == {"keys": []}
    with pytest.raises(TokenError, match="bad_signature"):
        trusted.verify(sign(header, claims, SigningKey.shared(algorithm, b"x" * 32)))
    signed, _, signature = sign(header, claims | {"jti": "1"}, local.key).rpartition(".")
    other = "B" if signature[0] == "A" else "A"
    for bad in ("", signature[:24], signature + "AAAA", signature * 4, other + signature[1:]):
        with pytest.raises(TokenError, match="bad_signature"):
            trusted.verify(f"{signed}.{bad}")
    assert trusted.verify(f"{signed}.{signature}").token_id == "1"


@pytest.mark.parametrize(("algorithm", "length"), [("HS384", 48), ("HS512", 64)])
def test_a_secret_serves_no_algorithm_that_needs_a_longer_one(algorithm: str, length: int) -> None:
    # RFC 7518 §3.2: a secret is at least as long as the hash
    local = LocalIssuer(URL, audience="api", algorithm=algorithm, secret="s" * (length - 1))
    trusted = Guard(issuer(shared_secret="s" * (length - 1), token_types=("JWT",)))
    named = rf"wrong_algorithm.*{algorithm} needs a shared_secret= of at least {length} bytes"
    with pytest.raises(TokenError, match=named):
        trusted.verify(local.token(header={"typ": "JWT"}))


def test_an_algorithm_that_was_left_out_is_not_put_down_to_a_short_secret() -> None:
    local = LocalIssuer(URL, audience="api", algorithm="HS512", secret="s" * 64)
    trusted = Guard(
        issuer(shared_secret="s" * 64, algorithms=("HS256",), token_types=("JWT",)),
    )
    with pytest.raises(TokenError, match=r"wrong_algorithm.*this issuer may use HS256$"):
        trusted.verify(local.token(header={"typ": "JWT"}))


def hs256(secret: str, **header: str) -> str:
    claims = {"iss": URL, "aud": "api", "exp": 2**33, "sub": "user"}
    key = SigningKey.shared("HS256", secret.encode())
    return sign({"alg": "HS256", "typ": "JWT", **header}, claims, key)


def test_secrets_that_are_renewed_are_a_list() -> None:
    newest, older, withdrawn = "n" * 32, "o" * 48, "w" * 32
    trusted = Guard(issuer(shared_secret=[newest, older], token_types=("JWT",)))
    for secret in (newest, older):
        assert trusted.verify(hs256(secret)).subject == "user"
        assert trusted.verify(hs256(secret, kid="any")).subject == "user"
    with pytest.raises(TokenError, match="bad_signature"):
        trusted.verify(hs256(withdrawn))
    both = issuer(shared_secret=[newest, older])
    assert both == issuer(shared_secret=(newest, older))
    assert hash(both) == hash(issuer(shared_secret=[newest, older]))
    assert both.accepted_algorithms == ("HS256", "HS384")
    assert newest not in repr(both)


def test_secrets_that_all_fit_one_of_the_algorithms_are_accepted() -> None:
    of_two_lengths = [secrets.token_urlsafe(36), secrets.token_urlsafe(48)]
    assert issuer(shared_secret=of_two_lengths, algorithms=("HS256", "HS384"))


def test_the_kid_of_a_token_selects_the_secret() -> None:
    one, other = oct_jwk(kid="one"), oct_jwk("o" * 32, kid="other", alg="HS256")
    trusted = Guard(issuer(shared_secret=[one, other], token_types=("JWT",)))
    assert trusted.verify(hs256(SECRET, kid="one")).subject == "user"
    assert trusted.verify(hs256("o" * 32, kid="other")).subject == "user"
    assert trusted.verify(hs256("o" * 32)).subject == "user", "without a kid, each is tried"
    with pytest.raises(TokenError, match="bad_signature"):
        trusted.verify(hs256(SECRET, kid="other"))
    with pytest.raises(TokenError, match="unknown_key"):
        trusted.verify(hs256(SECRET, kid="third"))


def test_the_environment_has_several_secrets_as_json() -> None:
    names = {"BEARERGUARD_ISSUER": URL, "BEARERGUARD_AUDIENCE": "api"}
    names["BEARERGUARD_TOKEN_TYPES"] = "JWT"
    for given in (
        json.dumps([SECRET, "o" * 32]),
        [SECRET, "o" * 32],
        json.dumps([oct_jwk(), oct_jwk("o" * 32)]),
    ):
        trusted = Guard.from_mapping({**names, "BEARERGUARD_SHARED_SECRET": given})
        for secret in (SECRET, "o" * 32):
            assert trusted.verify(hs256(secret)).subject == "user"
    single = Guard.from_mapping({**names, "BEARERGUARD_SHARED_SECRET": SECRET})
    assert single.verify(hs256(SECRET)).subject == "user"
    with pytest.raises(ConfigurationError, match="BEARERGUARD_SHARED_SECRET: it begins as JSON"):
        Guard.from_mapping({**names, "BEARERGUARD_SHARED_SECRET": "[" + SECRET})


def test_a_token_is_as_long_as_the_guard_allows() -> None:
    local = LocalIssuer(URL, audience="api", algorithm="ES256")
    long = local.token(claims={"roles": [f"application-{n:04d}-administrator" for n in range(500)]})
    assert len(long) > 20_000  # JWT-18
    with pytest.raises(TokenError, match=r"longer than 16384 bytes.*max_token_bytes="):
        local.guard().verify(long)
    assert len(local.guard(max_token_bytes=len(long)).verify(long).roles) == 500
    with pytest.raises(TokenError, match=rf"longer than {len(long) - 1} bytes"):
        local.guard(max_token_bytes=len(long) - 1).verify(long)


def test_static_keys_may_be_pem_jwk_jwks_or_a_list() -> None:
    local = LocalIssuer(URL, audience="api", algorithm="ES256")
    pem = local.key.private.public_key().public_bytes(*SPKI)
    jwk = local.key.jwk()
    other = certificate().public_bytes(Encoding.PEM)
    for keys in (pem, pem.decode(), jwk, local.jwks(), [jwk], (other, pem), [other, jwk]):
        assert Guard(issuer(keys=keys)).verify(local.token()).subject == "user"


def test_bad_keys_in_a_static_jwks_are_passed_over_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    local = LocalIssuer(URL, audience="api", algorithm="ES256")
    local.extra_keys = [{"kty": "oct"}]
    assert Guard(issuer(keys=local.jwks())).verify(local.token()).subject == "user"
    assert "keys=: passed over key 1" in caplog.text


def test_settings_come_from_the_environment() -> None:
    local = LocalIssuer(URL, audience="b", algorithm="ES256")
    environ = {
        "BEARERGUARD_ISSUER": URL,
        "BEARERGUARD_AUDIENCE": "a, b",
        "BEARERGUARD_JWKS_URI": f"{URL}/jwks",
        "BEARERGUARD_ALGORITHMS": "ES256",
        "BEARERGUARD_TOKEN_TYPES": "at+jwt,JWT",
        "BEARERGUARD_REALM": "recordings",
        "BEARERGUARD_MAX_TOKEN_BYTES": "2048",
        "BEARERGUARD_STRICT": "true",
        "BEARERGUARD_INSECURE_ALLOW_HTTP": "0",
    }
    with Guard.from_env(environ, transport=local.transport()) as made:
        assert made.realm == "recordings"
        assert made.verify(local.token(header={"typ": "JWT"})).subject == "user"
        with pytest.raises(TokenError, match="missing_claim"):
            made.verify(local.token(claims={"jti": None}))
        with pytest.raises(TokenError, match="longer than 2048 bytes"):
            made.verify(local.token(header={"typ": "JWT"}, claims={"filler": "x" * 2048}))
    usual = Guard.from_env(environ | {"BEARERGUARD_MAX_TOKEN_BYTES": ""})
    with usual, pytest.raises(TokenError, match="longer than 16384 bytes"):
        usual.verify("x" * 16_385)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("REALM", 3),
        ("MAX_TOKEN_BYTES", "many"),
        ("MAX_TOKEN_BYTES", "0"),
        ("MAX_TOKEN_BYTES", [1]),
        ("ALGORITHMS", 3),
        ("STRICT", "perhaps"),
        ("JWKS_URI", ["x"]),
        ("INTROSPECTION_CLIENT_ID", 3),
    ],
)
def test_a_malformed_setting_is_named(name: str, value: object) -> None:
    settings = {"BEARERGUARD_ISSUER": URL, "BEARERGUARD_AUDIENCE": ["a"]}
    with pytest.raises(ConfigurationError, match=f"BEARERGUARD_{name}"):
        Guard.from_mapping({**settings, f"BEARERGUARD_{name}": value})


VALUES = {"BEARERGUARD_ISSUER": URL, "BEARERGUARD_AUDIENCE": "a"}


@pytest.mark.parametrize(
    ("slip", "meant"),
    [
        ("TOKEN_TYPE", "TOKEN_TYPES"),
        ("TOKEN", "TOKENS"),
        ("JWKS_URL", "JWKS_URI"),
        ("INTROSPECTION_SIGNED_RESPONSE", "INTROSPECTION_SIGNED_RESPONSES"),
        ("KEY_MAX_AGE", "KEYS_MAX_AGE"),
    ],
)
def test_a_misspelt_setting_is_refused_with_the_one_meant(slip: str, meant: str) -> None:
    named = f"BEARERGUARD_{slip}: there is no such setting: BEARERGUARD_{meant} is meant"
    with pytest.raises(ConfigurationError, match=named):
        Guard.from_env(VALUES | {f"BEARERGUARD_{slip}": "x"})


def test_names_of_others_are_left_alone() -> None:
    others = dict.fromkeys(
        ("BEARERGUARD_CLIENT_TOKENS", "BEARERGUARD_SERVER_ISSUER", "BEARERGUARD_X", "AUDIENCES"),
        "x",
    )
    assert Guard.from_env(VALUES | others)
    odd: Any = {7: "x", **VALUES}
    assert Guard.from_mapping(odd)


# What a variable of each kind may say, and the option's value then.
EXAMPLES: dict[str, tuple[str, object]] = {
    "BEARERGUARD_ISSUER": (URL, URL),
    "BEARERGUARD_AUDIENCE": ("a, b", ("a", "b")),
    "BEARERGUARD_JWKS_URI": (f"{URL}/jwks", f"{URL}/jwks"),
    "BEARERGUARD_DISCOVERY_URL": (f"{URL}/metadata", f"{URL}/metadata"),
    "BEARERGUARD_SHARED_SECRET": (SECRET, SECRET),
    "BEARERGUARD_ALGORITHMS": ("ES256,RS256", ("ES256", "RS256")),
    "BEARERGUARD_TOKEN_TYPES": ("JWT", ("JWT",)),
    "BEARERGUARD_ACCEPT_ID_TOKENS": ("yes", True),
    "BEARERGUARD_STRICT": ("1", True),
    "BEARERGUARD_TOKENS": ("jwt", "jwt"),
    "BEARERGUARD_ALIASES": ("id.example.com", ("id.example.com",)),
    "BEARERGUARD_STATUS_LISTS": ("https://a.test/l/*", ("https://a.test/l/*",)),
    "BEARERGUARD_REQUIRE_STATUS": ("true", True),
    "BEARERGUARD_LEEWAY": ("5", 5.0),
    "BEARERGUARD_INSECURE_ALLOW_HTTP": ("on", True),
    "BEARERGUARD_KEYS_REFRESH": ("60", 60.0),
    "BEARERGUARD_KEYS_MAX_AGE": ("3600", 3600.0),
    "BEARERGUARD_KEYS_COOLDOWN": ("1", 1.0),
    "BEARERGUARD_CLAIMS_SCOPES": ("scp", ("scp",)),
    "BEARERGUARD_CLAIMS_ROLES": ("realm_access.roles, groups", ("realm_access.roles", "groups")),
    "BEARERGUARD_CLAIMS_CLIENT": ("azp", ("azp",)),
    "BEARERGUARD_CLAIMS_AUDIENCE": ("client_id", "client_id"),
    "BEARERGUARD_CLAIMS_REQUIRED": ("sub", {"sub": None}),
    "BEARERGUARD_INTROSPECTION_CLIENT_ID": ("api", "api"),
    "BEARERGUARD_INTROSPECTION_CLIENT_SECRET": ("s", "s"),
    "BEARERGUARD_INTROSPECTION_PRIVATE_KEY": (PRIVATE_PEM, PRIVATE_PEM),
    "BEARERGUARD_INTROSPECTION_PRIVATE_KEY_ID": ("k1", "k1"),
    "BEARERGUARD_INTROSPECTION_TOKEN": ("t0ken", "t0ken"),
    "BEARERGUARD_INTROSPECTION_ENDPOINT": (f"{URL}/introspect", f"{URL}/introspect"),
    "BEARERGUARD_INTROSPECTION_AUTH_METHOD": ("client_secret_post", "client_secret_post"),
    "BEARERGUARD_INTROSPECTION_SIGNED_RESPONSES": ("true", True),
    "BEARERGUARD_INTROSPECTION_CACHE_TTL": ("9", 9.0),
    "BEARERGUARD_INTROSPECTION_NEGATIVE_TTL": ("3", 3.0),
    "BEARERGUARD_INTROSPECTION_STALE_TTL": ("90", 90.0),
    "BEARERGUARD_INTROSPECTION_ALLOW_MISSING_AUDIENCE": ("true", True),
    "BEARERGUARD_REALM": ("recordings", "recordings"),
    "BEARERGUARD_RESOURCE": (f"{URL}/api", f"{URL}/api"),
    "BEARERGUARD_RESOURCE_SCOPES": ("read, write", ("read", "write")),
    "BEARERGUARD_RESOURCE_NAME": ("Recordings", "Recordings"),
    "BEARERGUARD_RESOURCE_DOCUMENTATION": (f"{URL}/docs", f"{URL}/docs"),
    "BEARERGUARD_RESOURCE_AUTHORIZATION_SERVERS": (URL, (URL,)),
    "BEARERGUARD_IMPLIES": ('{"admin": ["read"]}', {"admin": ["read"]}),
    "BEARERGUARD_MAX_TOKEN_BYTES": ("2048", 2048),
    "BEARERGUARD_DPOP": ("allowed", "allowed"),
    "BEARERGUARD_DPOP_NONCES": (f"{'a' * 32}, {'b' * 32}", ("a" * 32, "b" * 32)),
    "BEARERGUARD_DPOP_CONTENT_DIGEST": ("true", True),
    "BEARERGUARD_DPOP_ALGORITHMS": ("ES256, EdDSA", ("ES256", "EdDSA")),
    "BEARERGUARD_DPOP_MAX_AGE": ("60", 60.0),
    "BEARERGUARD_CERTIFICATES": ("tls", "tls"),
    "BEARERGUARD_PUBLIC_URL": (f"{URL}/api", f"{URL}/api"),
    "BEARERGUARD_TRUSTED_PROXIES": ("10.0.0.0/24, unix", ("10.0.0.0/24", "unix")),
    "BEARERGUARD_REQUEST_ID_HEADERS": ("X-Correlation-ID", ("X-Correlation-ID",)),
}


@pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: setting.name)
def test_each_setting_of_the_table_sets_its_option(setting: Setting) -> None:
    if setting.name == "BEARERGUARD_FETCH_HEADERS":
        return  # see C24 below
    text, value = EXAMPLES[setting.name]
    values = {**VALUES, setting.name: text}
    if setting.owner == "Introspection":
        values |= {"BEARERGUARD_INTROSPECTION_CLIENT_ID": "api"}
        if setting.option not in {"private_key", "private_key_id", "token"}:
            values |= {"BEARERGUARD_INTROSPECTION_CLIENT_SECRET": "s"}
        elif setting.option == "private_key_id":
            values |= {"BEARERGUARD_INTROSPECTION_PRIVATE_KEY": PRIVATE_PEM}
        values |= {setting.name: text}
    if setting.option == "require_status":
        values |= {"BEARERGUARD_STATUS_LISTS": "https://a.test/l/*"}
    if setting.owner == "ProtectedResource":
        values = {"BEARERGUARD_RESOURCE": f"{URL}/api"} | values
    made, guard = read(values)
    places: dict[str, object] = {
        "Issuer": made,
        "KeyPolicy": made.key_policy,
        "ClaimMapping": made.claims,
        "Introspection": made.introspection,
        "ProtectedResource": guard.get("resource"),
    }
    found = (
        guard[setting.option]
        if setting.owner == "Guard"
        else getattr(places[setting.owner], setting.option)
    )
    assert found == value
    assert setting.meaning


def test_the_table_names_each_setting_once() -> None:
    names = [setting.name for setting in SETTINGS]
    assert len(names) == len(set(names))
    assert set(EXAMPLES) == set(names) - {"BEARERGUARD_FETCH_HEADERS"}


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("LEEWAY", "301", "choose from 0 to 300"),
        ("LEEWAY", "soon", "give a number of seconds"),
        ("TOKENS", "some", "choose from auto"),
        ("JWKS_URI", "http://id.example.com", "is no https URL"),
        ("KEYS_REFRESH", "0", "pass a positive number"),
        ("INTROSPECTION_CLIENT_ID", "api", "pass exactly one of"),
        ("REALM", "a\r\nb", "pass a name"),
        ("MAX_TOKEN_BYTES", "0", "from 1024 to"),
    ],
)
def test_what_a_value_object_refuses_is_named_as_the_setting(
    name: str, value: str, named: str
) -> None:
    with pytest.raises(ConfigurationError, match=named) as error:
        Guard.from_env(VALUES | {f"BEARERGUARD_{name}": value})
    assert "exactly one" in named or str(error.value).startswith(f"BEARERGUARD_{name}: ")


def test_an_option_overrides_its_setting() -> None:
    settings = VALUES | {"BEARERGUARD_REALM": "recordings"}
    made = Guard.from_env(settings, realm="other", cache_control=None)
    assert (made.realm, made.cache_control) == ("other", None)
    assert Guard.from_env(settings, transport=None).realm == "recordings"


SAME: list[tuple[Callable[[], object], Callable[[], object]]] = [
    (lambda: issuer(audience="b"), lambda: issuer(audience=["b"])),
    (lambda: issuer(audience=["a", "b"]), lambda: issuer(audience=("a", "b"))),
    (lambda: issuer(algorithms=["ES256"]), lambda: issuer(algorithms=("ES256",))),
    (lambda: issuer(token_types=["JWT"]), lambda: issuer(token_types=("JWT",))),
    (lambda: issuer(aliases=["x"]), lambda: issuer(aliases=("x",))),
    (lambda: issuer(keys=[PEM]), lambda: issuer(keys=[PEM])),
    (lambda: issuer(keys=EC_JWK), lambda: issuer(keys=dict(EC_JWK))),
    (lambda: issuer(hints={"expired": "log in"}), lambda: issuer(hints={"expired": "log in"})),
    (lambda: issuer(checks=[print]), lambda: issuer(checks=(print,))),
    (
        lambda: Issuer(URL + "/{tenant}", audience="a", tenants=["a", "b"]),
        lambda: Issuer(URL + "/{tenant}", audience="a", tenants={"b", "a"}),
    ),
    (lambda: ClaimMapping(roles="a"), lambda: ClaimMapping(roles=["a"])),
    (
        lambda: ClaimMapping(required={"a": ["x", "y"], "b": None}),
        lambda: ClaimMapping(required={"b": None, "a": ("y", "x")}),
    ),
    (lambda: ClaimMapping(required=["a"]), lambda: ClaimMapping(required={"a": None})),
    (lambda: KeyPolicy(refresh=60), lambda: KeyPolicy(60)),
    (
        lambda: Introspection("api", private_key=dict(EC_PRIVATE)),
        lambda: Introspection("api", private_key=dict(EC_PRIVATE)),
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_options_compare_and_are_hashed_by_value(
    one: Callable[[], object], other: Callable[[], object]
) -> None:
    assert one() == other()
    assert hash(one()) == hash(other())
    assert one() != issuer(audience="another")


def test_an_issuer_may_have_the_name_of_an_option() -> None:
    """A failure of `route_opaque=` concerns no issuer, whatever an issuer is called."""
    events: list[Event] = []
    odd = Issuer(
        "route_opaque=",
        audience="api",
        keys=PEM,
        introspection=Introspection("api", client_secret="s", endpoint="https://id.test/i"),
    )

    def route(token: str) -> str:
        return {"known-token": "route_opaque="}[token]

    class Down:
        def fetch(self, request: Fetch) -> Response:
            raise FetchFailed(request.url)

        async def afetch(self, request: Fetch) -> Response:
            return self.fetch(request)

    with Guard(odd, route_opaque=route, transport=Down(), on_event=events.append) as made:
        with pytest.raises(IssuerUnavailable, match=r"route_opaque= raised KeyError") as routing:
            made.verify("another-token")
        with pytest.raises(IssuerUnavailable, match=r"https://id\.test/i") as asked:
            made.verify("known-token")
    assert (routing.value.issuer, asked.value.issuer) == (None, "route_opaque=")
    assert {each.issuer for each in events} == {None, "route_opaque="}
    assert events[0].issuer is None


def test_a_list_of_the_caller_may_change_afterwards() -> None:
    audience, required = ["a"], {"use": ["x"]}
    made = issuer(audience=audience, claims=ClaimMapping(required=required))
    audience.append("b")
    required["use"].append("y")
    assert made == issuer(audience=["a"], claims=ClaimMapping(required={"use": "x"}))


def test_a_mapping_is_completed_by_another() -> None:
    preset = ClaimMapping(
        scopes="scp", client="cid", audience="client_id", required={"use": "access", "cid": None}
    )
    mine = ClaimMapping(client="app", roles="groups", required={"use": ["a", "b"]})
    assert mine.completed_by(preset) == ClaimMapping(
        scopes="scp",
        client="app",
        roles="groups",
        audience="client_id",
        required={"use": ["a", "b"], "cid": None},
    )
    assert ClaimMapping(audience="x").completed_by(preset).audience == "x"


def test_plain_http_is_for_loopback_or_insecure_allow_http() -> None:
    assert Issuer("http://127.0.0.1:9000", audience="a").may_fetch("http://127.0.0.1:9000/jwks")
    # A remote issuer must not have the guard fetch from this machine.
    assert not issuer().may_fetch("http://127.0.0.1/jwks")
    insecure = Issuer("http://keycloak:8080", audience="a", insecure_allow_http=True)
    assert insecure.may_fetch("http://keycloak:8080/jwks")
    assert not insecure.may_fetch("file:///etc/passwd")


def test_and_or_not_are_refused() -> None:
    with pytest.raises(TypeError, match="combine requirements with & and"):
        bool(scopes("a"))
    six = scopes("a") | scopes("b") | role("c") | role("d") | claim("e") | claim("f")
    others = scopes("g") | scopes("h") | role("i") | role("j") | claim("k") | claim("l")
    with pytest.raises(ConfigurationError, match="alternatives"):
        six & others & (role("x") | role("y"))


def test_no_secret_is_shown() -> None:
    assert SECRET not in repr(issuer(shared_secret=SECRET))
    assert repr(guard()) == f"Guard({URL!r})"


@pytest.mark.parametrize(
    "given", ["User-Agent: MyApi/1.0 (a, b)\nX-Api-Key:k", {"User-Agent": "MyApi/1.0 (a, b)"}]
)
def test_C24_settings_name_the_headers_of_the_fetches(given: object) -> None:
    seen: list[Request] = []

    def answer(request: Request) -> Response:
        seen.append(request)
        return Response(403)

    with serving(answer) as url:
        settings = {
            "BEARERGUARD_ISSUER": url,
            "BEARERGUARD_AUDIENCE": "api",
            "BEARERGUARD_FETCH_HEADERS": given,
        }
        Guard.from_mapping(settings).warm()
    assert {each.values(b"user-agent")[0] for each in seen} == {b"MyApi/1.0 (a, b)"}


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ("s3cret", {}),
        ("Host: s3cret", {}),
        ({"X": "s3cret\n"}, {}),
        (7, {}),
        ("X: s3cret", {"transport": HttpTransport()}),
    ],
)
def test_C24_settings_name_what_is_wrong_with_the_headers(given: Any, options: Any) -> None:
    settings = {
        "BEARERGUARD_ISSUER": "https://id.example",
        "BEARERGUARD_AUDIENCE": "api",
        "BEARERGUARD_FETCH_HEADERS": given,
    }
    with pytest.raises(ConfigurationError, match="BEARERGUARD_FETCH_HEADERS: ") as error:
        Guard.from_mapping(settings, **options)
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize("option", ["jwks_uri", "discovery_url", "keys", "shared_secret"])
def test_C15_an_issuer_that_nothing_is_fetched_from_may_have_an_http_url(option: str) -> None:
    values: dict[str, Any] = {"keys": {"keys": []}, "shared_secret": "x" * 64}
    given = {option: values.get(option, "https://adfs.example.com/adfs/discovery/keys")}
    if option == "keys":
        given["keys"] = LocalIssuer().jwks()
    assert Issuer("http://adfs.example.com/adfs", audience="a", **given)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"jwks_uri": "http://adfs.example.com/keys"},
        {"jwks_uri": "https://adfs.example.com/keys", "introspection": Introspection(token="t")},
    ],
)
def test_C15_what_is_fetched_by_plain_http_is_still_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="is no https URL"):
        Issuer("http://adfs.example.com/adfs", audience="a", **options)
