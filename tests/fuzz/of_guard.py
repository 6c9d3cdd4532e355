"""The whole guard through both adapters, and what it reads from a shared store.

Nothing is awaited: the issuer's keys are static, so that each request is decided at once.
"""

from __future__ import annotations

import json
import math
import struct
from contextlib import suppress
from typing import Any

from bearerguard import Guard, Introspection, Issuer, Request, TokenError, asgi, wsgi
from bearerguard.errors import BearerGuardError, IssuerUnavailable
from bearerguard.guard.revocation import epoch, revocation_list
from bearerguard.protocol.jose.thumbprint import public_jwk
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import Response
from bearerguard.testing.signing_key import sign
from tests.fuzz.of_jose import ED25519
from tests.fuzz.of_protocol import NOW
from tests.fuzz.target import response, target, text

ISSUER, AUDIENCE = "https://id.example", "https://api.example"
USUAL: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "exp": NOW + 3600,
    "iat": NOW,
    "sub": "ada",
    "client_id": "app",
    "jti": "1",
}
HEADER = {"alg": "EdDSA", "kid": "ed", "typ": "at+jwt"}
_KEYS = {"keys": [{"kid": "ed", **public_jwk(ED25519.private.public_key())}]}
_STATUSES = {200, 400, 401, 403}


def _issuer(**options: Any) -> Issuer:
    return Issuer(ISSUER, audience=AUDIENCE, keys=_KEYS, **options)


GUARD = Guard(_issuer(), clock=lambda: NOW)
# Every other rule for the kind of a token is off: what is left must hold by itself.
LAX = Guard(_issuer(token_types=("at+jwt", "JWT"), accept_id_tokens=True), clock=lambda: NOW)


def signed(claims: bytes, header: bytes = json.dumps(HEADER).encode()) -> bytes:
    return sign(header, claims, ED25519).encode()


TOKEN = signed(json.dumps(USUAL).encode())
_ISSUED = frozenset({TOKEN})


async def _asgi_app(scope: Any, _receive: Any, send: Any) -> None:
    assert scope["user"].is_authenticated
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["user"].identity.encode()})


def _wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["bearerguard.principal"].identity.encode()]


_ASGI = asgi.BearerMiddleware(_asgi_app, guard=GUARD)
_WSGI = wsgi.BearerMiddleware(_wsgi_app, guard=GUARD)


def through_asgi(fields: list[tuple[bytes, bytes]], path: str) -> tuple[int, bytes]:
    """Return the status and the body; fails if the adapter waits for anything."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        raise AssertionError("the guard reads no body")

    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode("latin-1"),
        "headers": fields,
    }
    try:
        _ASGI(scope, receive, send).send(None)
    except StopIteration:
        start, *chunks = sent
        for name, value in start["headers"]:
            assert name == name.lower()
            assert not set(name + value) & set(b"\r\n\0")
        return start["status"], b"".join(each["body"] for each in chunks)
    raise AssertionError("it waits")


def through_wsgi(fields: list[tuple[bytes, bytes]], path: str) -> tuple[int, bytes]:
    environ: dict[str, Any] = {"REQUEST_METHOD": "GET", "PATH_INFO": path}
    for name, value in fields:
        key = "HTTP_" + text(name).upper().replace("-", "_")
        environ[key] = f"{environ[key]},{text(value)}" if key in environ else text(value)
    started: list[Any] = []

    def start_response(status: str, headers: list[tuple[str, str]]) -> Any:
        started[:] = status, headers

    body = b"".join(_WSGI(environ, start_response))
    for name, value in started[1]:
        assert not set(name + value) & set("\r\n\0")
    return int(started[0][:3]), body


@target(
    b"/things\nAuthorization: Bearer " + TOKEN,
    b"/things\nAuthorization: DPoP " + TOKEN + b"\nDPoP: " + TOKEN,
    b"/\nAuthorization: Bearer " + TOKEN + b"\nAuthorization: Bearer " + TOKEN,
    b"/%2e%2e//\nOrigin: null\nAccess-Control-Request-Method: GET",
    b"/.well-known/oauth-protected-resource\nAuthorization: Bearer a.b.c",
    b"\nauthorization: Bearer \xff",
)
def guarded_request(octets: bytes) -> None:
    path, *lines = octets.split(b"\n")
    pairs = (line.partition(b":") for line in lines)
    # A server hands over no CR or NUL within a field, and names in lower case (RFC 9110 §5.5).
    fields = [
        (name.strip().lower(), value.strip(b" \t").translate(None, b"\r\0"))
        for name, _, value in pairs
    ]
    status, body = through_asgi(fields, text(path))
    assert status in _STATUSES
    wsgi_status, wsgi_body = through_wsgi(fields, text(path))
    repeats = [name for name, _ in fields].count(b"authorization") > 1
    if repeats and status != 200:  # WSGI has them as one
        assert {status, wsgi_status} <= {400, 401}
    else:
        assert (status, body) == (wsgi_status, wsgi_body)
    if body == b"ada":  # else the API's metadata, which is public
        (value,) = (value for name, value in fields if name == b"authorization")
        assert value.split()[-1] in _ISSUED
    assert status != 200 or body == b"ada" or b"/.well-known/" in path
    assert TOKEN.rpartition(b".")[2] not in body


@target(
    TOKEN,
    signed(json.dumps({**USUAL, "scope": "read"}).encode()),
    signed(json.dumps({**USUAL, "exp": NOW - 60}).encode()),
    signed(b"{}"),
    sign(json.dumps({**HEADER, "alg": "none"}).encode(), json.dumps(USUAL).encode(), ED25519)
    .rpartition(".")[0]
    .encode()
    + b".",
)
def presented_token(octets: bytes) -> None:
    for guard in (GUARD, LAX):
        with suppress(TokenError):
            assert guard.verify(octets).subject == "ada"
            assert octets in {TOKEN, *presented_seeds}


presented_seeds = {signed(json.dumps({**USUAL, "scope": "read"}).encode())}


@target(
    json.dumps(HEADER).encode() + b"\n" + json.dumps(USUAL).encode(),
    json.dumps({**HEADER, "typ": "JWT", "x5u": "https://evil.example"}).encode()
    + b"\n"
    + json.dumps({**USUAL, "roles": ["a"], "act": {"sub": "b"}, "cnf": None}).encode(),
    b'{"alg":"EdDSA","kid":"ed","typ":"at+jwt","crit":["exp"]}\n' + json.dumps(USUAL).encode(),
    b'{"alg":"Ed25519","kid":"ed"}\n{"iss":"https://id.example","aud":[],"exp":NaN}',
    json.dumps(HEADER).encode() + b"\n" + json.dumps({**USUAL, "cnf": {"jkt": "a"}}).encode(),
    json.dumps(HEADER).encode() + b"\n" + json.dumps({**USUAL, "aud": ["b", AUDIENCE]}).encode(),
)
def signed_content(octets: bytes) -> None:
    """Any header and payload under the issuer's own signature: valid, or refused with 401."""
    header, _, payload = octets.partition(b"\n")
    token = signed(payload, header)
    for guard in (GUARD, LAX):
        try:
            principal = guard.verify(token)
        except TokenError:
            continue
        found = json.loads(payload)
        audience = found["aud"]
        assert found["iss"] == ISSUER
        assert AUDIENCE in (audience if isinstance(audience, list) else [audience])
        assert not isinstance(found["exp"], bool)
        assert found["exp"] > NOW - 30
        assert found.get("nbf") is None or found["nbf"] <= NOW + 30
        assert found.get("cnf") is None
        assert json.loads(header)["alg"] in {"EdDSA", "Ed25519"}
        assert principal.subject == found.get("sub")
        json.dumps(principal.to_dict())
    status, _ = through_asgi([(b"authorization", b"Bearer " + token)], "/")
    assert status in _STATUSES


class _Answering:
    """A transport whose only response is the one under test."""

    def __init__(self, answer: Response) -> None:
        self._answer = answer

    def fetch(self, _request: Fetch) -> Response:
        return self._answer

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


_JSON = b"200\nContent-Type: application/json\n\n"


@target(
    _JSON + json.dumps({"active": True, **USUAL}).encode(),
    _JSON + json.dumps({"active": True, "scope": "a", "exp": NOW + 1, "aud": AUDIENCE}).encode(),
    _JSON + b'{"active":false}',
    _JSON + b'{"active":true,"exp":0,"aud":[],"token_type":"DPoP","cnf":{}}',
    b"200\nContent-Type: application/token-introspection+jwt\n\n" + TOKEN,
    b"401\n\n",
    b"500\n\n<html>",
)
def introspected_token(octets: bytes) -> None:
    given = response(octets)
    how = Introspection("api", client_secret="s", endpoint=ISSUER + "/introspect")
    with Guard(
        _issuer(introspection=how, tokens="opaque"),
        transport=_Answering(given),
        clock=lambda: NOW,
    ) as guard:
        try:
            principal = guard.verify("opaque-token")
        except (TokenError, IssuerUnavailable):
            return
        assert given.status == 200
        members = json.loads(given.body.removeprefix(b"\xef\xbb\xbf"))
        assert members["active"] is True
        assert members.get("exp") is None or members["exp"] == 0 or members["exp"] > NOW - 30
        json.dumps(principal.to_dict())


@target(
    b'{"keys":[]}\n' + TOKEN,
    json.dumps(_KEYS).encode() + b"\n" + TOKEN,
    b"<html>\n" + TOKEN,
)
def published_keys(octets: bytes) -> None:
    """Whatever is published for keys: the token passes by its own key alone, or 503, or 401."""
    document, _, token = octets.partition(b"\n")
    answer = Response(200, (), document)
    issuer = Issuer(ISSUER, audience=AUDIENCE, jwks_uri=ISSUER + "/jwks")
    with Guard(issuer, transport=_Answering(answer), clock=lambda: NOW) as guard:
        decision = guard.run(
            guard.authenticate(Request("GET", "/", {"Authorization": f"Bearer {text(token)}"}))
        )
        status = getattr(decision, "status", 200)
        assert status in {200, 400, 401, 503}
        if status == 200:
            assert token in _ISSUED


_MARK = epoch.Mark(b"e" * 16, 3600.0, 3, NOW + 60.0, NOW + 0.0, again=True)
_REVOCATIONS = [
    revocation_list.Revocation("token", ISSUER, "jti", None, NOW + 60.0),
    revocation_list.Revocation("subject", ISSUER, "\xe9", NOW + 0.0, NOW + 60.0),
]


@target(
    _MARK.encode(), revocation_list.encode(_REVOCATIONS), b'{"revoked":[["token"]]}', b"", b"{}"
)
def shared_revocations(octets: bytes) -> None:
    with suppress(ValueError):
        assert epoch.Mark.decode(octets).encode() in {octets, _padded(octets)}
    with suppress(ValueError):
        found = revocation_list.decode(octets)
        assert revocation_list.decode(revocation_list.encode(found)) == found


def _padded(octets: bytes) -> bytes:
    """Return a mark whose last octet, a truth value, is in its usual spelling."""
    return octets[:-1] + bytes([bool(octets[-1])])


@target(*_MARK.extended(_REVOCATIONS, 3600.0, NOW + 0.0)[1])
def shared_entry(octets: bytes) -> None:
    # Entries are sealed, so that only a bug or another version makes one that cannot be read.
    with suppress(ValueError, IndexError, struct.error):
        entry = epoch.decode_entry(octets, 3600.0)
        assert entry.revocation.before is None or not math.isnan(entry.revocation.before)


@target(b"realm_access.roles", b"https://a.example/roles", b".", b"a..b", b"\0")
def claim_path(octets: bytes) -> None:
    from bearerguard import ClaimMapping

    with suppress(BearerGuardError, ValueError):
        issuer = _issuer(claims=ClaimMapping(roles=[text(octets)], scopes=[text(octets)]))
        with Guard(issuer, clock=lambda: NOW) as guard:
            assert guard.verify(TOKEN).subject == "ada"
