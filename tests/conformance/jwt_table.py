"""JWT-01 … JWT-16: what a token must be."""

from __future__ import annotations

import base64
import json
from typing import Any

from bearerguard import scopes
from bearerguard.protocol.jose import ml_dsa
from bearerguard.protocol.jose.jwt import MAX_TOKEN_BYTES
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import NOON, Harness, bearer
from tests.conformance.hdr_table import TOKEN, good
from tests.conformance.scenario import Scenario

EXP = int(NOON) + 3600
_ASYMMETRIC = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
SECRET = "0123456789abcdef0123456789abcdef"


def refused(id: str, send: Any, **options: Any) -> Scenario:  # noqa: A002 - as in Scenario
    return Scenario(id=id, send=send, status=401, error=TOKEN, **options)


def accepted(id: str, send: Any, **options: Any) -> Scenario:  # noqa: A002 - as in Scenario
    return Scenario(id=id, send=send, status=200, **options)


def spelled(rewrite: Any) -> Any:
    """Send a good token, spelled differently."""
    return lambda harness: bearer(rewrite(harness.token()))


def header(**members: Any) -> Any:
    """Send a genuinely signed token with these header members; None leaves one out."""
    return lambda harness: harness.bearer(header=members)


def of_type(kind: str, /, **claims: Any) -> Any:
    """Send a genuinely signed token whose header has this typ, with these claims."""
    return lambda harness: harness.bearer(header={"typ": kind}, **claims)


def payload(text: str | bytes) -> Any:
    """Send a genuinely signed token with exactly this payload; `@` stands for the usual claims."""

    def send(harness: Harness) -> Headers:
        octets = text.encode() if isinstance(text, str) else text
        usual = json.dumps(usual_claims())[1:-1].encode()
        return bearer(harness.forge(usual_header(harness), octets.replace(b"@", usual)))

    return send


def raw_header(text: str | bytes) -> Any:
    """Send a genuinely signed token with exactly this header; `@` stands for the usual members."""

    def send(harness: Harness) -> Headers:
        octets = text.encode() if isinstance(text, str) else text
        usual = usual_header(harness)[1:-1]
        return bearer(
            harness.forge(octets.replace(b"@", usual), json.dumps(usual_claims()).encode())
        )

    return send


def usual_claims() -> dict[str, Any]:
    return {"iss": "https://issuer.test", "aud": "https://api.test", "exp": EXP, "sub": "user"}


def usual_header(harness: Harness) -> bytes:
    kid = harness.issuer.jwks()["keys"][0]["kid"]
    return json.dumps({"alg": "ES256", "kid": kid, "typ": "at+jwt"}).encode()


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unsigned(harness: Harness, algorithm: str) -> str:
    header = json.dumps({"alg": algorithm, "typ": "at+jwt"})
    return f"{encoded(header)}.{_parts(harness.token())[1]}."


def _last_bit(token: str) -> str:
    """Set a bit that the last letter of the signature does not use."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) + 1]


def _parts(token: str) -> list[str]:
    return token.split(".")


def _hmac_with_public_key(harness: Harness) -> Headers:
    return bearer(harness.forge_hmac_with_public_key())


def _twisted(harness: Harness) -> Headers:
    """The same signature in its other form, s → n - s (malleability)."""
    return bearer(harness.twist(harness.token(sub="twister")))


def _no_parser_text(harness: Harness, response: Received) -> None:
    assert b"Error" not in response.body


JWT_OK: dict[str, Any] = {"issuer": {"token_types": ("at+jwt", "JWT")}}
JWE_HEADER = '{"alg":"dir","enc":"A256GCM"}'
READ_LIST = scopes("read", "list")
DEEP = "[" * 5000 + "]" * 5000

TABLE = [
    refused("JWT-01 two parts", spelled(lambda t: t.rpartition(".")[0])),
    refused("JWT-01 four parts", spelled(lambda t: t + ".AAAA")),
    refused("JWT-01 padding", spelled(lambda t: t + "==")),
    refused("JWT-01 base64 letters", spelled(lambda t: "+/" + t[2:])),
    refused("JWT-01 non-canonical last letter", spelled(_last_bit)),
    refused("JWT-01 empty signature", spelled(lambda t: t.rpartition(".")[0] + ".")),
    refused("JWT-01 empty header", spelled(lambda t: "." + t.partition(".")[2])),
    refused(
        "JWT-01 altered payload",
        spelled(lambda t: ".".join((_parts(t)[0], encoded("{}"), _parts(t)[2]))),
    ),
    refused("JWT-01 too long", good(filler="x" * MAX_TOKEN_BYTES)),
    accepted("JWT-01 long, but not too long", good(filler="x" * 9000)),
    refused("JWT-02 alg none", lambda s: bearer(unsigned(s, "none"))),
    refused("JWT-02 alg noNE", lambda s: bearer(unsigned(s, "noNE"))),
    refused("JWT-02 HS256 with the RSA key", _hmac_with_public_key, algorithm="RS256"),
    refused("JWT-02 alg in another case", raw_header('{"alg":"es256","typ":"at+jwt"}')),
    refused("JWT-02 alg not allowed", good(), issuer={"algorithms": ("RS256",)}),
    refused("JWT-02 alg does not fit the key", raw_header('{"alg":"RS256","typ":"at+jwt"}')),
    *(accepted(f"JWT-02 {name}", good(), algorithm=name) for name in _ASYMMETRIC),
    accepted(
        "JWT-02 HS256 with shared_secret",
        lambda s: bearer(s.forge_hmac(SECRET, '{"alg":"HS256","typ":"JWT"}', usual_claims())),
        issuer={"shared_secret": SECRET, "token_types": ("JWT",)},
    ),
    refused(
        "JWT-02 HS256 with another secret",
        lambda s: bearer(s.forge_hmac(SECRET[::-1], '{"alg":"HS256","typ":"JWT"}', usual_claims())),
        issuer={"shared_secret": SECRET, "token_types": ("JWT",)},
    ),
    refused("JWT-03 unknown crit", header(crit=["exp"])),
    refused("JWT-03 empty crit", header(crit=[])),
    refused("JWT-03 b64 false", header(b64=False)),
    refused("JWT-03 header jwk", lambda s: bearer(s.forge_with_own_key())),
    refused("JWT-04 duplicate claim", payload('{@, "aud":"https://api.test"}')),
    refused("JWT-04 duplicate header member", raw_header('{@, "alg":"ES256"}')),
    refused("JWT-04 duplicate member deep inside", payload('{@, "x":{"a":1,"a":2}}')),
    refused("JWT-04 not UTF-8", payload(b'{@, "x":"\xff"}')),
    refused("JWT-04 UTF-16", payload(json.dumps(usual_claims()).encode("utf-16"))),
    refused("JWT-04 BOM", payload(b"\xef\xbb\xbf{@}")),
    accepted("JWT-05 at+jwt", header(typ="at+jwt")),
    accepted("JWT-05 application/at+jwt in any case", header(typ="Application/AT+JWT")),
    refused("JWT-05 JWT", header(typ="JWT")),
    refused("JWT-05 absent", header(typ=None)),
    accepted("JWT-05 JWT where allowed", header(typ="jwt"), **JWT_OK),
    accepted("JWT-05 absent where allowed", header(typ=None), **JWT_OK),
    *(
        refused(f"JWT-05 {typ}", header(typ=typ), **JWT_OK)
        for typ in ("logout+jwt", "dpop+jwt", "token-introspection+jwt", "statuslist+jwt", "")
    ),
    *(
        refused(
            f"JWT-05 {name}",
            lambda s, n=name: s.bearer(header={"typ": "JWT"}, **{n: "x"}),
            **JWT_OK,
        )
        for name in ("at_hash", "c_hash", "events")
    ),
    accepted(
        "JWT-05 at_hash where ID tokens are accepted",
        lambda s: s.bearer(header={"typ": "JWT"}, at_hash="x"),
        issuer={"accept_id_tokens": True},
    ),
    refused("JWT-05 events in at+jwt", good(events={"x": {}})),
    *(
        refused(
            f"JWT-05 {name} {value!r} where ID tokens are accepted",
            lambda s, n=name, v=value: s.bearer(header={"typ": "JWT"}, **{n: v}),
            issuer={"accept_id_tokens": True},
        )
        for name, value in (
            ("events", {"http://schemas.openid.net/event/backchannel-logout": {}}),
            ("events", "x"),
            ("typ", "Refresh"),
            ("typ", "Logout"),
            ("token_use", "refresh"),
        )
    ),
    refused("JWT-05 an ID token by its claim", of_type("JWT", typ="ID"), **JWT_OK),
    accepted(
        "JWT-05 an ID token by its claim where those are accepted",
        of_type("JWT", typ="ID"),
        issuer={"accept_id_tokens": True},
    ),
    accepted("JWT-05 a type by name", header(typ="jose"), issuer={"token_types": ("JOSE",)}),
    refused("JWT-05 no other", header(typ="at+jwt"), issuer={"token_types": ("JOSE",)}),
    refused(
        "JWT-05 an ID token of a type by name",
        of_type("JOSE", at_hash="x"),
        issuer={"token_types": ("JOSE",)},
    ),
    refused("JWT-06 iss with a slash more", good(iss="https://issuer.test/")),
    refused("JWT-06 iss in another case", good(iss="https://ISSUER.test")),
    refused("JWT-06 iss missing", good(iss=None)),
    refused("JWT-06 key of another issuer", lambda s: bearer(s.forge_with_own_key(named=True))),
    accepted("JWT-07 aud in an array", good(aud=["x", "https://api.test"])),
    refused("JWT-07 aud of another API", good(aud="https://other.test")),
    refused("JWT-07 aud with a slash more", good(aud="https://api.test/")),
    refused("JWT-07 aud missing", good(aud=None)),
    refused("JWT-07 aud empty", good(aud=[])),
    refused("JWT-07 aud with a non-string", good(aud=["https://api.test", 1])),
    refused("JWT-07 aud an object", good(aud={"https://api.test": 1})),
    accepted("JWT-07 one of several audiences", good(aud="b"), issuer={"audience": ["a", "b"]}),
    refused("JWT-08 expired by the leeway", good(expires_in=-30)),
    accepted("JWT-08 expired within the leeway", good(expires_in=-29)),
    refused("JWT-08 leeway of 0", good(expires_in=0), issuer={"leeway": 0}),
    refused("JWT-08 exp missing", good(exp=None)),
    refused("JWT-08 nbf ahead", good(nbf=int(NOON) + 31)),
    accepted("JWT-08 nbf within the leeway", good(nbf=int(NOON) + 30)),
    refused("JWT-08 iat far ahead", good(iat=int(NOON) + 301)),
    accepted("JWT-08 iat a little ahead", good(iat=int(NOON) + 299)),
    accepted("JWT-09 fractions", good(exp=EXP + 0.5, nbf=NOON - 0.5)),
    *(
        refused(
            f"JWT-09 {name} {text[:9]}",
            payload(f'{{"iss":"https://issuer.test","aud":"https://api.test",{rest}}}'),
        )
        for name, text, rest in (
            (name, text, f'"{name}":{text}' if name == "exp" else f'"exp":{EXP},"{name}":{text}')
            for name in ("exp", "nbf", "iat")
            for text in (
                "true",
                f'"{EXP}"',
                "NaN",
                "Infinity",
                "-Infinity",
                "1e400",
                str(2**53 + 1),
                "9" * 5000,
                "[]",
            )
        )
    ),
    *(
        refused(f"JWT-10 strict demands {name}", good(**{name: None}), issuer={"strict": True})
        for name in ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")
    ),
    accepted("JWT-10 strict", good(), issuer={"strict": True}),
    *(
        accepted(f"JWT-10 default lives without {name}", good(**{name: None}))
        for name in ("sub", "client_id", "iat", "jti")
    ),
    *(
        accepted(
            f"JWT-11 {text}", good(**{"scope": None, **claims}), adapter={"require": READ_LIST}
        )
        for text, claims in (
            ("scope string", {"scope": "list other read"}),
            ("scope array", {"scope": ["read", "list"]}),
            ("scp string", {"scp": "read list"}),
            ("scp array", {"scp": ["list", "read"]}),
        )
    ),
    *(
        Scenario(
            id=f"JWT-11 {text}",
            send=good(**{"scope": None, **claims}),
            adapter={"require": READ_LIST},
            status=403,
            error="insufficient_scope",
            scope="read list",
        )
        for text, claims in (
            ("case counts", {"scope": "READ list"}),
            ("prefixes do not count", {"scope": "read:all list"}),
            ("only spaces divide", {"scope": "read,list"}),
            ("scope comes before scp", {"scope": "read", "scp": "read list"}),
        )
    ),
    refused("JWT-12 short signature", spelled(lambda t: t[:-4])),
    refused("JWT-12 DER signature", lambda s: bearer(s.with_der_signature())),
    accepted("JWT-12 EdDSA", good(), algorithm="EdDSA"),
    accepted("JWT-12 Ed25519", good(), algorithm="Ed25519"),
    accepted(
        "JWT-12 a key named EdDSA verifies Ed25519",
        lambda s: bearer(s.forge(usual_header(s).replace(b"ES256", b"Ed25519"), usual_claims())),
        algorithm="EdDSA",
    ),
    *(accepted(f"JWT-12 {name}", good(), algorithm=name) for name in ml_dsa.NAMES),
    refused("JWT-13 JWE", lambda _s: bearer(encoded(JWE_HEADER) + "..AAAA.AAAA.AAAA")),
    accepted(
        "JWT-14 the client is no user", good(sub="robot", client_id="robot"), identity="robot"
    ),
    refused("JWT-15 deep payload", payload('{@, "x":' + DEEP + "}")),
    refused("JWT-15 payload 65 deep", payload('{@, "x":' + "[" * 64 + "]" * 64 + "}")),
    accepted("JWT-15 payload 64 deep", payload('{@, "x":' + "[" * 63 + "]" * 63 + "}")),
    refused(
        "JWT-15 payload 65 deep, objects in arrays",
        payload('{@, "x":' + '[{"a":' * 32 + "1" + "}]" * 32 + "}"),
    ),
    accepted(
        "JWT-15 payload 63 deep, objects in arrays",
        payload('{@, "x":' + '[{"a":' * 31 + "1" + "}]" * 31 + "}"),
    ),
    refused("JWT-15 deep header", raw_header('{@, "x":' + "[" * 900 + "]" * 900 + "}")),
    refused("JWT-15 lone surrogate", payload('{@, "x":"\\ud800"}'), after=_no_parser_text),
    refused("JWT-15 NUL in kid", header(kid="\x00")),
    accepted("JWT-15 malleable signature is the same bearer", _twisted, identity="twister"),
    refused("JWT-16 kid a number", header(kid=1)),
    refused("JWT-16 typ a number", header(typ=1)),
    refused("JWT-16 alg a list", raw_header('{"alg":["ES256"],"typ":"at+jwt"}')),
    *(
        refused(f"JWT-16 {name} a number", good(**{name: 1}))
        for name in ("iss", "sub", "client_id", "jti")
    ),
    refused("JWT-16 payload an array", payload("[]")),
    refused("JWT-16 payload followed by more", payload("{@} {}")),
    refused("JWT-16 header a string", raw_header('"x"')),
    refused("JWT-16 scope a number", good(scope=1)),
]
