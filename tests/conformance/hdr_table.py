"""HDR-01 … HDR-17: the Authorization field, challenges, bodies."""

from __future__ import annotations

import re
from typing import Any

from bearerguard import claim, role, scopes
from tests.conformance.drivers import Headers, Received
from tests.conformance.harness import Harness, bearer
from tests.conformance.scenario import Scenario, challenge_parameters

REQUEST, TOKEN = "invalid_request", "invalid_token"
SCOPE = "insufficient_scope"


def field(before: bytes, after: bytes = b"") -> Any:
    """Send a good token with these octets around it."""

    def send(harness: Harness) -> Headers:
        return [("Authorization", before + harness.token().encode() + after)]

    return send


def fixed(*values: bytes) -> Any:
    """Send these Authorization lines."""
    return lambda _harness: [("Authorization", value) for value in values]


def nothing(_harness: Harness) -> Headers:
    return []


def good(**options: Any) -> Any:
    """Send a good token, with these claims."""
    return lambda harness: harness.bearer(**options)


def _preflight(_harness: Harness) -> Headers:
    return [("Origin", b"https://app.test"), ("Access-Control-Request-Method", b"GET")]


def with_origin(send: Any) -> Any:
    return lambda harness: [*send(harness), ("Origin", b"https://app.test")]


def no_token_in(response: Received, secret: str) -> None:
    assert secret not in response.body.decode()
    assert all(secret not in value for _, value in response.headers)


def _never_echoes(harness: Harness, response: Received) -> None:
    no_token_in(response, "forged-issuer")
    assert (
        "forged" not in challenge_parameters(response.one("www-authenticate"))["error_description"]
    )


def _only_legal_characters(_harness: Harness, response: Received) -> None:
    value = response.one("www-authenticate")
    assert re.fullmatch(r"[\x20-\x7e]*", value)
    assert challenge_parameters(value)["realm"] == 'the "inner\\outer" realm'
    assert '\\"inner\\\\outer\\"' in value


def _custom_body(_harness: Harness, response: Received) -> None:
    assert response.body == b"no: 401 missing_credentials"
    assert response.one("content-type") == "text/plain"
    assert challenge_parameters(response.one("www-authenticate")) == {
        "realm": "api",
        "resource_metadata": "https://api.test/.well-known/oauth-protected-resource",
    }


def _custom_unavailable(_harness: Harness, response: Received) -> None:
    assert response.body == b"no: 503 issuer_unavailable"


def _down(harness: Harness) -> None:
    harness.issuer.outage = True


def _denial_body(decision: Any) -> tuple[str, bytes]:
    return "text/plain", f"no: {decision.status} {decision.reason.code}".encode()


_OR = scopes("read", "list") | scopes("write")
_READ_WRITE = scopes("read") & scopes("write")

TABLE = [
    Scenario(id="HDR-01 lower-case scheme", send=field(b"bearer "), status=200),
    Scenario(id="HDR-01 upper-case scheme", send=field(b"BEARER "), status=200),
    Scenario(id="HDR-02 several spaces", send=field(b"Bearer   "), status=200),
    Scenario(id="HDR-02 TAB separates", send=field(b"Bearer\t"), status=400, error=REQUEST),
    Scenario(id="HDR-02 NBSP separates", send=field(b"Bearer\xa0"), status=400, error=REQUEST),
    Scenario(id="HDR-03 scheme alone", send=fixed(b"Bearer"), status=400, error=REQUEST),
    Scenario(id="HDR-03 scheme and space", send=fixed(b"Bearer "), status=400, error=REQUEST),
    Scenario(id="HDR-03 two tokens", send=fixed(b"Bearer a b"), status=400, error=REQUEST),
    Scenario(id="HDR-03 no token68", send=fixed(b"Bearer a%b"), status=400, error=REQUEST),
    Scenario(id="HDR-03 octets", send=fixed(b"Bearer \xff\xfe"), status=400, error=REQUEST),
    Scenario(id="HDR-03 quoted", send=fixed(b'Bearer "abc"'), status=400, error=REQUEST),
    Scenario(
        id="HDR-03 token68 but no JWT", send=fixed(b"Bearer abc~+/="), status=401, error=TOKEN
    ),
    Scenario(id="HDR-04 no credentials", send=nothing, status=401),
    Scenario(id="HDR-04 empty field", send=fixed(b""), status=401),
    Scenario(id="HDR-04 Basic", send=fixed(b"Basic dTpw"), status=401),
    Scenario(id="HDR-04 Bearerx", send=fixed(b"Bearerx abc"), status=401),
    Scenario(
        id="HDR-04 no credentials, scope known",
        send=nothing,
        status=401,
        guard={"require": _READ_WRITE},
        scope="read write",
    ),
    Scenario(
        id="HDR-05 two identical lines",
        send=lambda harness: harness.bearer() * 2,
        status=400,
        error=REQUEST,
    ),
    Scenario(
        id="HDR-05 two different lines",
        send=lambda harness: [*harness.bearer(), *bearer("other")],
        status=400,
        error=REQUEST,
    ),
    Scenario(
        id="HDR-05 comma in the value", send=field(b"Bearer ", b", x"), status=400, error=REQUEST
    ),
    Scenario(
        id="HDR-06 query token alone",
        send=nothing,
        target="/things?access_token=abc",
        status=401,
    ),
    Scenario(
        id="HDR-06 query token beside a good one",
        send=good(),
        target="/things?access_token=abc",
        status=200,
    ),
    Scenario(
        id="HDR-07 form token is not read",
        send=lambda _harness: [("Content-Type", b"application/x-www-form-urlencoded")],
        method="POST",
        body=b"access_token=abc",
        status=401,
    ),
    Scenario(
        id="HDR-08 realm is a quoted-string",
        send=nothing,
        guard={"realm": 'the "inner\\outer" realm'},
        status=401,
        after=_only_legal_characters,
    ),
    Scenario(
        id="HDR-09 claim text is never echoed",
        send=good(iss='https://forged-issuer/"\r\n'),
        status=401,
        error=TOKEN,
        after=_never_echoes,
    ),
    Scenario(
        id="HDR-10 one line per challenge",
        send=nothing,
        status=401,
        after=lambda _harness, response: challenge_parameters(response.one("www-authenticate")),
    ),
    Scenario(
        id="HDR-11 scope lacking names all",
        send=good(scope="read"),
        guard={"require": scopes("read")},
        adapter={"require": scopes("write", "admin")},
        status=403,
        error=SCOPE,
        scope="read write admin",
    ),
    Scenario(
        id="HDR-11 scope lacking on a warm token",
        before=lambda harness: harness.guard.verify(harness.token(scope="read", jti="w")),
        send=good(scope="read", jti="w"),
        adapter={"require": _READ_WRITE},
        status=403,
        error=SCOPE,
        scope="read write",
    ),
    Scenario(
        id="HDR-11 scopes held",
        send=good(scope="write read"),
        adapter={"require": _READ_WRITE},
        status=200,
    ),
    Scenario(id="HDR-12 validation failure", send=good(aud="other"), status=401, error=TOKEN),
    Scenario(id="HDR-13 issuer down", own_issuer=True, before=_down, send=good(), status=503),
    Scenario(
        id="HDR-14 optional, absent",
        send=nothing,
        adapter={"optional": True},
        status=200,
        identity="",
        absent=("access-token-expires-in", "cache-control"),
    ),
    Scenario(
        id="HDR-14 optional by path, absent",
        send=nothing,
        adapter={"optional": ("/thi*",)},
        status=200,
        identity="",
    ),
    Scenario(
        id="HDR-14 another path is optional",
        send=nothing,
        adapter={"optional": ("/x",)},
        status=401,
    ),
    Scenario(
        id="HDR-14 optional, invalid",
        send=fixed(b"Bearer abc"),
        adapter={"optional": True},
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="HDR-14 optional, malformed",
        send=fixed(b"Bearer"),
        adapter={"optional": True},
        status=400,
        error=REQUEST,
    ),
    Scenario(
        id="HDR-14 excluded",
        send=fixed(b"Bearer abc"),
        adapter={"exclude": ("/things",)},
        status=200,
        identity="",
    ),
    Scenario(
        id="HDR-14 excluded only as written",
        send=nothing,
        target="/static/%2e%2e/things",
        adapter={"exclude": ("/static/*",)},
        status=401,
    ),
    Scenario(
        id="HDR-15 preflight is refused like any other request",
        send=_preflight,
        method="OPTIONS",
        status=401,
    ),
    Scenario(
        id="HDR-15 preflight passes where that was asked for",
        send=_preflight,
        method="OPTIONS",
        adapter={"pass_preflights": True},
        status=200,
        identity="",
    ),
    Scenario(
        id="HDR-15 only an OPTIONS request is a preflight",
        send=_preflight,
        method="POST",
        adapter={"pass_preflights": True},
        status=401,
    ),
    Scenario(
        id="HDR-15 no preflight has credentials",
        send=lambda harness: [*_preflight(harness), ("Authorization", b"Bearer abc")],
        method="OPTIONS",
        adapter={"pass_preflights": True},
        status=401,
        error=TOKEN,
    ),
    Scenario(
        id="HDR-15 other OPTIONS where preflights pass",
        send=with_origin(nothing),
        method="OPTIONS",
        adapter={"pass_preflights": True},
        status=401,
    ),
    Scenario(id="HDR-15 other OPTIONS", send=nothing, method="OPTIONS", status=401),
    Scenario(
        id="HDR-15 OPTIONS with Origin alone",
        send=with_origin(nothing),
        method="OPTIONS",
        status=401,
    ),
    Scenario(
        id="HDR-15 OPTIONS with Origin on an excluded path",
        send=with_origin(nothing),
        method="OPTIONS",
        adapter={"exclude": ("/things",)},
        status=200,
    ),
    Scenario(id="HDR-15 HEAD refused has no body", send=nothing, method="HEAD", status=401),
    Scenario(id="HDR-15 HEAD allowed", send=good(), method="HEAD", status=200),
    Scenario(id="HDR-16 problem body of 400", send=fixed(b"Bearer"), status=400, error=REQUEST),
    Scenario(
        id="HDR-16 own body, same status and challenge",
        send=nothing,
        guard={"denial_body": _denial_body},
        status=401,
        after=_custom_body,
    ),
    Scenario(
        id="HDR-16 own body when unavailable",
        own_issuer=True,
        before=_down,
        send=good(),
        guard={"denial_body": _denial_body},
        status=503,
        after=_custom_unavailable,
    ),
    Scenario(
        id="HDR-17 first alternative that lacks only scopes",
        send=good(scope="x"),
        adapter={"require": _OR},
        status=403,
        error=SCOPE,
        scope="read list",
    ),
    Scenario(
        id="HDR-17 alternative with a role lacking is passed over",
        send=good(scope="x"),
        adapter={"require": (role("boss") & scopes("a")) | scopes("b", "c")},
        status=403,
        error=SCOPE,
        scope="b c",
    ),
    Scenario(
        id="HDR-17 one alternative is enough",
        send=good(scope="write"),
        adapter={"require": _OR},
        status=200,
    ),
    Scenario(id="HDR-17 role lacking", send=good(), adapter={"require": role("boss")}, status=403),
    Scenario(
        id="HDR-17 role held",
        send=good(roles=["boss"]),
        adapter={"require": role("boss")},
        status=200,
    ),
    Scenario(
        id="HDR-17 claim lacking beside a scope",
        send=good(scope="read"),
        adapter={"require": scopes("read", "write") & claim("tier", "gold")},
        status=403,
    ),
    Scenario(
        id="HDR-17 claim held, scope lacking",
        send=good(scope="read", tier="gold"),
        adapter={"require": scopes("read", "write") & claim("tier", "gold")},
        status=403,
        error=SCOPE,
        scope="read write",
    ),
]
