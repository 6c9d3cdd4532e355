"""Members of the header: kid, crit, typ, and keys that a token brings along."""

from __future__ import annotations

import base64
import datetime as dt
import json
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from bearerguard.testing import SigningKey, sign
from tests.adversary.algorithms_table import announced
from tests.adversary.attack import Attack, Send
from tests.conformance.drivers import Headers
from tests.conformance.harness import Harness, bearer
from tests.conformance.hdr_table import good
from tests.conformance.jwt_table import header, usual_claims

ANY_TYPE = {"issuer": {"token_types": ("at+jwt", "JWT")}}
OWN = {"own_issuer": True}

KIDS = (
    "",
    " ",
    "KEY-1",
    "key-1 ",
    " key-1",
    "key-1\x00",
    "key-1\x00.pem",
    "key-1#",
    "key\u20101",  # another hyphen
    "key-\uff11",
    "key-01",
    "key%2D1",
    "../../../../../../dev/null",
    "..\\..\\windows\\win.ini",
    "/proc/self/environ",
    "file:///dev/null",
    "https://evil.test/key.pem",
    "' OR '1'='1",
    "x' UNION SELECT 'AAAA",
    "key-1; DROP TABLE keys",
    "| cat /etc/passwd",
    "$(id)",
    "${jndi:ldap://evil.test/a}",
    "{{7*7}}",
    "%s%s%s%n",
    "__proto__",
    "None",
    "null",
    "*",
    "k" * 8000,
    "\U0001f511" * 500,
    '{"kid":"key-1"}',
    "key-1,key-2",
)
NO_KIDS: tuple[Any, ...] = (
    None,
    0,
    1,
    -1,
    1.0,
    True,
    False,
    [],
    ["key-1"],
    {},
    {"kid": "key-1"},
    [None],
)

CRITS: tuple[Any, ...] = (
    *([], ["exp"], ["b64"], ["alg"], ["kid"], ["typ", "kid"], ["x"], [""], [None], [1]),
    *("", "exp", "b64", {}, {"exp": 1}, 0, 1, True, False),
)
NO_B64: tuple[Any, ...] = (False, 0, "false", "true", [], {})
NO_TYPES: tuple[Any, ...] = (0, 1, True, False, [], ["at+jwt"], {})
TYPES = (
    *("at+jwt ", " at+jwt", "at+jwt\x00", "at+jwt;charset=utf-8", "at+jwt,JWT", "at jwt", "atjwt"),
    *("application/application/at+jwt", "text/at+jwt", "/at+jwt", "application/", "at+jwt/"),
    *("JWS", "JWE", "JOSE", "JOSE+JSON", "json", "id+jwt", "id_token", "refresh+jwt", "jwt+at"),
    *("secevent+jwt", "logout+jwt", "dpop+jwt", "token-introspection+jwt", "statuslist+jwt"),
    *("oauth-authz-req+jwt", "client-authentication+jwt", "vc+jwt", "vp+jwt", "kb+jwt", "wit+jwt"),
    *("openid4vci-proof+jwt", "entity-statement+jwt", "jwk-set+jwt", "txntoken+jwt", "wpt+jwt"),
    *("oauth-id-jag+jwt", "authorization-grant+jwt", "dc+sd-jwt", "\u0430t+jwt", "at\uff0bjwt"),
)


BEGINS, ENDS = (dt.datetime(year, 1, 1, tzinfo=dt.UTC) for year in (2026, 2036))


def own_key(harness: Harness, algorithm: str = "ES256") -> SigningKey:
    """Return a key of the attacker's, under the name of the issuer's."""
    return SigningKey.generate(algorithm, harness.issuer.key.kid)


def certificate(key: SigningKey) -> str:
    """Return a certificate that the key has signed for itself, as `x5c` has it."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "issuer.test")])
    builder = x509.CertificateBuilder(name, name, key.private.public_key(), 7, BEGINS, ENDS)
    der = builder.sign(key.private, hashes.SHA256()).public_bytes(Encoding.DER)
    return base64.b64encode(der).decode()


def brought(*names: str, named: bool) -> Send:
    """Send a token that is signed by a key which it brings along, by these header members."""

    def send(harness: Harness) -> Headers:
        own = own_key(harness)
        ways: dict[str, Any] = {
            "jwk": own.jwk(),
            "jku": f"{harness.issuer.url}/evil",
            "x5u": f"{harness.issuer.url}/evil",
            "x5c": [certificate(own)],
            "x5t#S256": "A" * 43,
            "jwks": {"keys": [own.jwk()]},
            "cnf": {"jwk": own.jwk()},
            "key": own.jwk(),
        }
        head = {"alg": "ES256", "typ": "at+jwt", **{name: ways[name] for name in names}}
        return bearer(sign({**head, "kid": own.kid} if named else head, usual_claims(), own))

    return send


def brought_secret(harness: Harness) -> Headers:
    octets = base64.urlsafe_b64encode(b"s" * 32).decode().rstrip("=")
    jwk = {"kty": "oct", "k": octets, "alg": "HS256"}
    key = SigningKey("HS256", harness.issuer.key.kid, b"s" * 32)
    head = {"alg": "HS256", "typ": "at+jwt", "kid": key.kid, "jwk": jwk}
    return bearer(sign(head, usual_claims(), key))


def nothing_fetched_from_the_token(harness: Harness) -> None:
    assert harness.issuer.hits["/evil"] == 0


def renamed(kid: str | None) -> Any:
    return lambda harness: harness.issuer.rename(kid)


TABLE = [
    *(Attack(id=f"JWKS-01 kid {kid[:30]!r}", hostile=header(kid=kid)) for kid in KIDS),
    *(
        Attack(id=f"JWT-16 kid {json.dumps(kid)}", hostile=announced({"alg": "ES256", "kid": kid}))
        for kid in NO_KIDS
    ),
    *(
        Attack(
            id=f"JWT-16 kid {json.dumps(kid)}, though the key has no kid",
            hostile=announced({"alg": "ES256", "kid": kid}),
            control=good(header={"kid": "any"}),
            prepare=renamed(None),
            options=OWN,
        )
        for kid in NO_KIDS
    ),
    *(
        Attack(
            id=f"JWT-03 crit {json.dumps(crit)}", hostile=announced({"alg": "ES256", "crit": crit})
        )
        for crit in CRITS
    ),
    *(
        Attack(
            id=f"JWT-03 crit {json.dumps(crit)}, and b64 {json.dumps(b64)}",
            hostile=announced({"alg": "ES256", "crit": crit, "b64": b64, "exp": 1}),
        )
        for crit, b64 in ((["b64"], True), (["b64"], False), (["exp"], True))
    ),
    *(
        Attack(id=f"JWT-03 b64 {json.dumps(b64)}", hostile=announced({"alg": "ES256", "b64": b64}))
        for b64 in NO_B64
    ),
    *(Attack(id=f"JWT-05 typ {typ!r}", hostile=header(typ=typ), options=ANY_TYPE) for typ in TYPES),
    *(
        Attack(id=f"JWT-16 typ {json.dumps(typ)}", hostile=header(typ=typ), options=ANY_TYPE)
        for typ in NO_TYPES
    ),
    *(
        Attack(
            id=f"JWT-03 {' and '.join(names)} in the header, {'with' if named else 'without'} kid",
            hostile=brought(*names, named=named),
            after=nothing_fetched_from_the_token,
            options=OWN,
        )
        for names in (
            *(("jwk",), ("jku",), ("x5u",), ("x5c",), ("jwks",), ("cnf",), ("key",)),
            *(("x5c", "x5t#S256"), ("jwk", "jku"), ("jwk", "x5c", "x5u", "jku")),
        )
        for named in (True, False)
    ),
    Attack(id="JWT-03 a symmetric jwk in the header", hostile=brought_secret),
]
