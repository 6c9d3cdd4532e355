"""Claims: numbers, audiences and issuers that almost fit, and JWTs that are no access tokens."""

from __future__ import annotations

import json
from typing import Any

from tests.adversary.attack import Attack, Send
from tests.conformance.drivers import Headers
from tests.conformance.harness import NOON, Harness, bearer
from tests.conformance.hdr_table import good
from tests.conformance.jwt_table import payload, usual_header

AUDIENCE, URL = "https://api.test", "https://issuer.test"
EXP = int(NOON) + 3600
ANY_TYPE = {"issuer": {"token_types": ("at+jwt", "JWT")}}
ID_TOKENS = {"issuer": {"accept_id_tokens": True}}

DATES = (
    *("-1", "0", "-0", "-0.0", "0.0", "1e-400", "-1e400", "-1e308", "1e308", "1e16"),
    *("9007199254740993", "-9007199254740993", "18446744073709551616", "1" + "0" * 30),
    *("9" * 4299, "-" + "9" * 4299, "1" * 400 + ".5", "false", '""', '"never"', '"1.8e9"'),
    *(f'"{EXP}"', f'" {EXP}"', f'"{EXP}.0"', '"2099-01-01T00:00:00Z"', "{}", "[]", f"[{EXP}]"),
    *(f'{{"$date":{EXP}}}', f'{{"seconds":{EXP}}}', "[[]]"),
)
# For the start of a token: what is no date, or is far ahead.
STARTS = (
    *("1e308", "1e16", "9007199254740993", "9" * 4299, "true", "false", '""', '"0"', "{}", "[]"),
    *(str(EXP), f"{EXP}.5", "[0]", '"now"'),
)
AUDIENCES: tuple[Any, ...] = (
    *("https://api.test/", "https://api.test ", " https://api.test", "https://api.test\x00"),
    *("https://api.tes", "https://api.testx", "https://api.test.evil.test", "api.test"),
    *("HTTPS://API.TEST", "https://API.test", "http://api.test", "https://api.test:443"),
    *("https://api.test?", "https://api.test#", "https://x@api.test", "https://api%2Etest"),
    *("https://api\u3002test", "https://\u0430pi.test", "https://api.test\u200b", "*", "", "null"),
    *("https://api.test,https://other.test", "https://api.test https://other.test"),
    *('["https://api.test"]', "https://other.test", "https://*.test", "account"),
    *([], [[]], [["https://api.test"]], [None], ["https://api.test", None], [True], [1]),
    *(["https://api.test", 1], ["https://api.test", ["https://api.test"]], {}, {"0": AUDIENCE}),
    *({AUDIENCE: True}, {"https://api.test": "https://api.test"}, 0, 1, True, False, 1.5),
    *(["https://api.test "], ["https://api.test", {}], [""]),
)
ISSUERS: tuple[Any, ...] = (
    *("https://issuer.test/", "https://issuer.test ", "https://issuer.test\x00", "issuer.test"),
    *(
        "http://issuer.test",
        "https://issuer.test:443",
        "https://issuer.test?",
        "https://issuer.test#",
    ),
    *("https://issuer.test/../", "https://x@issuer.test", "https://issuer.test.evil.test"),
    *(
        "https://issuer%2Etest",
        "https://\u0456ssuer.test",
        "https://issuer.test,x",
        "",
        "*",
        "null",
    ),
    *([], ["https://issuer.test"], {}, {"url": URL}, 0, 1, True, False, 1.5),
)
# What an issuer signs that is no access token, with a typ that is accepted here.
NO_ACCESS_TOKENS: dict[str, dict[str, Any]] = {
    "an ID token with at_hash": {"at_hash": "x", "nonce": "n", "azp": "app"},
    "an ID token with c_hash": {"c_hash": "x"},
    "an ID token by token_use": {"token_use": "id"},
    "an ID token by typ": {"typ": "ID"},
    "an ID token by token_type": {"token_type": "id_token"},
    "an ID token by its URN": {"token_type": "urn:ietf:params:oauth:token-type:id_token"},
    "a logout token": {"events": {"http://schemas.openid.net/event/backchannel-logout": {}}},
    "a security event": {"events": {"https://schemas.openid.net/secevent/caep/event-type/x": {}}},
    "events that are empty": {"events": {}},
    "events that are a list": {"events": []},
    "a refresh token by typ": {"typ": "Refresh"},
    "a refresh token by token_use": {"token_use": "refresh"},
    "a refresh token by tokenName": {"tokenName": "refresh_token"},
    "an offline token": {"typ": "Offline"},
    "a refresh token by its URN": {"token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
    "an authorization code": {"token_use": "authorization_code"},
    "a client assertion": {"token_use": "client_assertion"},
    "a registration access token": {"purpose": "registration_access_token"},
}
BOUND: dict[str, Any] = {
    "a thumbprint": {"jkt": "x"},
    "a certificate": {"x5t#S256": "x"},
    "an unknown method": {"future": "x"},
    "an empty one": {},
    "text": "jkt",
    "a list": [],
    "false": False,
    "zero": 0,
}


def dated(name: str, text: str) -> Send:
    usual = f'"iss":"{URL}","aud":"{AUDIENCE}","sub":"user"'
    rest = f'"{name}":{text}' if name == "exp" else f'"exp":{EXP},"{name}":{text}'
    return payload(f"{{{usual},{rest}}}")  # type: ignore[no-any-return]


def document(typ: str, claims: dict[str, Any], **header: Any) -> Send:
    """Send a JWT of another kind, as its RFC has it, with the issuer's genuine signature."""

    def send(harness: Harness) -> Headers:
        head = {**json.loads(usual_header(harness)), "typ": typ, **header}
        return bearer(harness.forge(head, claims))

    return send


_TIMES = {"iat": int(NOON), "exp": EXP}
DOCUMENTS: dict[str, tuple[str, dict[str, Any]]] = {
    "an ID token (OpenID Connect Core §2)": (
        "JWT",
        {"iss": URL, "sub": "user", "aud": AUDIENCE, "nonce": "n", "at_hash": "x", **_TIMES},
    ),
    "a logout token (Back-Channel Logout §2.4)": (
        "logout+jwt",
        {"iss": URL, "aud": AUDIENCE, "jti": "j", "sid": "s", "events": {"x": {}}, **_TIMES},
    ),
    "a DPoP proof (RFC 9449 §4.2)": (
        "dpop+jwt",
        {"jti": "j", "htm": "GET", "htu": AUDIENCE, "iat": int(NOON), "ath": "x"},
    ),
    "an introspection response (RFC 9701 §5)": (
        "token-introspection+jwt",
        {"iss": URL, "aud": AUDIENCE, "token_introspection": {"active": True}, **_TIMES},
    ),
    "a status list (Token Status List §5.1)": (
        "statuslist+jwt",
        {
            "iss": URL,
            "sub": AUDIENCE,
            "status_list": {"bits": 1, "lst": "eNrbuRgAAhcBXQ"},
            **_TIMES,
        },
    ),
    "a client assertion (RFC 7523 §3)": (
        "JWT",
        {"iss": "app", "sub": "app", "aud": AUDIENCE, "jti": "j", **_TIMES},
    ),
    "an authorization request (RFC 9101 §4)": (
        "oauth-authz-req+jwt",
        {"iss": URL, "aud": AUDIENCE, "client_id": "app", "response_type": "code", **_TIMES},
    ),
    "a security event (RFC 8417 §2)": (
        "secevent+jwt",
        {"iss": URL, "aud": AUDIENCE, "jti": "j", "events": {"x": {}}, **_TIMES},
    ),
    "an ID-JAG": (
        "oauth-id-jag+jwt",
        {"iss": URL, "aud": AUDIENCE, "sub": "user", "client_id": "app", "jti": "j", **_TIMES},
    ),
}

TABLE = [
    *(Attack(id=f"JWT-09 exp {text[:24]}", hostile=dated("exp", text)) for text in DATES),
    *(
        Attack(id=f"JWT-09 {name} {text[:24]}", hostile=dated(name, text))
        for name in ("nbf", "iat")
        for text in STARTS
    ),
    *(
        Attack(id=f"JWT-07 aud {json.dumps(value)}", hostile=good(aud=value))
        for value in AUDIENCES
        if value is not None
    ),
    *(Attack(id=f"JWT-06 iss {json.dumps(value)}", hostile=good(iss=value)) for value in ISSUERS),
    *(
        Attack(
            id=f"JWT-05 {name}",
            hostile=good(header={"typ": "JWT"}, **claims),
            control=good(header={"typ": "JWT"}),
            options=ANY_TYPE,
        )
        for name, claims in NO_ACCESS_TOKENS.items()
    ),
    *(
        Attack(
            id=f"JWT-05 {name}, though ID tokens are accepted",
            hostile=good(header={"typ": "JWT"}, **claims),
            control=good(header={"typ": "JWT"}, at_hash="x"),
            options=ID_TOKENS,
        )
        for name, claims in NO_ACCESS_TOKENS.items()
        if not name.startswith("an ID token")
    ),
    *(
        Attack(
            id=f"JWT-05 {name} by its typ alone",
            hostile=good(header={"typ": typ}),
            options=ANY_TYPE,
        )
        for name, (typ, _) in DOCUMENTS.items()
        if typ != "JWT"
    ),
    *(
        Attack(id=f"JWT-05 {name}", hostile=document(typ, claims), options=ANY_TYPE)
        for name, (typ, claims) in DOCUMENTS.items()
    ),
    *(
        Attack(
            id=f"JWT-05 {name}, relabelled as an access token", hostile=document("at+jwt", claims)
        )
        for name, (typ, claims) in DOCUMENTS.items()
        if not {"iss", "aud", "exp"} <= set(claims) or "events" in claims or claims["iss"] != URL
    ),
    *(
        Attack(id=f"CNF-01 {name} as cnf, sent as Bearer", hostile=good(cnf=value))
        for name, value in BOUND.items()
    ),
    *(
        Attack(id=f"JWT-16 {name} {json.dumps(value)}", hostile=good(**{name: value}))
        for name in ("sub", "client_id", "jti")
        for value in (0, 1.5, True, False, [], ["user"], {}, {"user": 1})
    ),
]
