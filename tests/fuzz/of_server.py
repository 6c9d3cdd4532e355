"""The authorization server: its parsers, and any request to any of its endpoints."""

from __future__ import annotations

import atexit
import ipaddress
import sqlite3
from contextlib import closing, suppress
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlencode

from bearerguard import Request
from bearerguard.protocol.http.proxies import Proxies
from bearerguard.server import PersonalTokens, Registration
from bearerguard.server.http.cookies import Cookies
from bearerguard.server.http.oauth_error import OAuthError
from bearerguard.server.http.parameters import from_form, parse
from bearerguard.server.login.ticket import TicketError, Tickets
from bearerguard.server.settings import is_resource_identifier
from bearerguard.server.tokens import personal_token_format
from tests.fuzz.of_jose import SEALER
from tests.fuzz.of_protocol import NOW
from tests.fuzz.target import target, text
from tests.server.harness import CALLBACK, FORM, Harness

# What the documentation of the endpoints has (docs/server.md), and nothing of 5xx.
STATUSES = frozenset({200, 201, 204, 303, 400, 401, 403, 404, 405, 413, 429})
_COOKIES = Cookies("https://as.example")
_TICKETS = Tickets(SEALER, lambda: NOW)


@target(b"a=b&c=%20d&resource=x&resource=y&a=z", b"&=&==&a", b"a=%ff", b"audience=&audience=b")
def form_parameters(octets: bytes) -> None:
    with suppress(OAuthError):
        found = parse(octets)
        assert all(found.values.values())
        assert "resource" not in found.values
    for kind in (FORM, f"{FORM}; charset=UTF-8", text(octets)):
        with suppress(OAuthError):
            assert not from_form(Request("POST", "/", {"content-type": kind}, octets)).repeated


@target(
    f"{_COOKIES.full_name('a')}=1; {_COOKIES.full_name('a')}=1".encode(),
    f"x; {_COOKIES.full_name('a')}=\xff".encode(),
    b";;=;",
)
def cookie_field(octets: bytes) -> None:
    found = _COOKIES.read(Request("GET", "/", [("cookie", octets)]), "a")
    assert found is None or _COOKIES.full_name("a").encode() in octets


@target(b"1.2.3.4, 10.0.0.1", b"[::1]:80, 10.0.0.2:99", b"unknown", b"::ffff:10.0.0.1", b"," * 99)
def forwarded_for(octets: bytes) -> None:
    found = Proxies(["10.0.0.0/8"]).client("10.0.0.9", octets.split(b"\n"))
    assert ipaddress.ip_address(found)
    assert Proxies([]).client("192.0.2.1", octets.split(b"\n")) == "192.0.2.1"


@target(_TICKETS.issue("other", {"a": 1}, lifetime=60).encode(), b"", b"AAAA", b"\xff")
def ticket(octets: bytes) -> None:
    try:
        _TICKETS.open("purpose", text(octets))
    except TicketError:
        return
    raise AssertionError("it was never issued for this purpose")


@target(b"https://api.example/a?b", b"urn:a:b", b"https://[", b"a#b", b"//a")
def resource_identifier(octets: bytes) -> None:
    if is_resource_identifier(text(octets)):
        assert b":" in octets
        assert b"#" not in octets


_PERSONAL = personal_token_format.make("bgp_").encode()


@target(_PERSONAL, _PERSONAL[:-1] + b"\n", b"bgp_", b"a_" + b"0" * 36, b"bgp_\xd9\xa1")
def personal_token(octets: bytes) -> None:
    found = text(octets)
    if personal_token_format.is_token(found):
        assert octets.isascii()
        assert len(found.rpartition("_")[2]) == 36
        # Any other last character is wrong: the checksum is of what precedes it.
        assert not personal_token_format.is_token(found[:-1] + ("0" if found[-1] != "0" else "1"))


class Guarded:
    """A server, and how many rows each of its tables has."""

    def __init__(self, folder: Path) -> None:
        self.harness = Harness(
            folder,
            registration=Registration(),
            personal_tokens=PersonalTokens(scopes=["read"], api_scope="write"),
        )
        self._path = folder / "auth.db"

    def rows(self) -> dict[str, int]:
        with closing(sqlite3.connect(self._path)) as connection:
            tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            return {
                name: connection.execute(f"SELECT count(*) FROM {name}").fetchone()[0]
                for (name,) in tables.fetchall()
                if "attempt" not in name and "throttle" not in name  # refusals are counted there
            }

    def send(self, request: Request) -> int:
        """Return the status; an error has changed nothing, and no header can be split."""
        before = self.rows()
        response = self.harness.server.handle(request)
        assert response.status in STATUSES, response.status
        for name, value in response.headers:
            assert (name + value).isascii()
            assert not set("\r\n\0") & set(name + value)
        if response.status >= 400:
            assert self.rows() == before
        return response.status


@cache
def _server() -> Guarded:
    folder = TemporaryDirectory()
    made = Guarded(Path(folder.name))
    atexit.register(folder.cleanup)
    return made


def request(octets: bytes, harness: Harness) -> Request:
    """Read a request: its line, header lines, an empty line, and the body."""
    head, _, body = octets.partition(b"\n\n")
    line, *lines = head.split(b"\n")
    method, _, url = text(line).partition(" ")
    pairs = (each.partition(b":") for each in lines)
    known = {b"APP": harness.app.client_id, b"SECRET": harness.app.client_secret or ""}
    for name, value in known.items():
        body = body.replace(name, value.encode())
        url = url.replace(name.decode(), value)
    headers = [(name.strip(), value.strip()) for name, _, value in pairs]
    return Request(method, url, headers, body, peer="192.0.2.1")


_FORM = b"\nContent-Type: application/x-www-form-urlencoded\n\n"
_APP = b"client_id=APP&client_secret=SECRET&"
_AUTHORIZE = urlencode(
    {
        "client_id": "APP",
        "redirect_uri": CALLBACK,
        "response_type": "code",
        "code_challenge": "m" * 43,
        "code_challenge_method": "S256",
        "state": "s",
        "scope": "read",
    }
).encode()


@target(
    b"POST /oauth/token" + _FORM + _APP + b"grant_type=client_credentials",
    b"POST /oauth/token" + _FORM + _APP + b"grant_type=refresh_token&refresh_token=bgr_AAAA",
    b"POST /oauth/token" + _FORM + _APP + b"grant_type=authorization_code&code=a&code_verifier=b",
    b"POST /oauth/token"
    + _FORM
    + b"grant_type=urn:ietf:params:oauth:grant-type:token-exchange&subject_token=a.b.c",
    b"POST /oauth/token" + _FORM + b"client_assertion=a.b.c&client_assertion_type=urn",
    b"POST /oauth/revoke" + _FORM + _APP + b"token=a.b.c&token_type_hint=x",
    b"POST /oauth/introspect\nAuthorization: Basic YTpi" + _FORM + b"token=a",
    b"POST /oauth/device_authorization" + _FORM + _APP + b"scope=read&resource=a",
    b"GET /oauth/device?user_code=BCDF-GHJK\nCookie: a=b\n\n",
    b"POST /oauth/device\nSec-Fetch-Site: same-origin" + _FORM + b"user_code=BCDFGHJK&csrf=a",
    b"POST /oauth/device" + _FORM + b"decision=allow&request=a&csrf=a",
    b"GET /oauth/authorize?" + _AUTHORIZE,
    b"POST /oauth/par" + _FORM + b"client_secret=SECRET&" + _AUTHORIZE,
    b"POST /oauth/par\nDPoP: a.b.c" + _FORM + _APP + b"request_uri=a&request=b&resource=c",
    b"GET /oauth/authorize?client_id=APP&request_uri=urn:ietf:params:oauth:request_uri:x",
    b"GET /oauth/authorize?" + _AUTHORIZE + b"&prompt=none&max_age=-1&request=a\nCookie: a=b",
    b"POST /oauth/consent\nSec-Fetch-Site: same-origin" + _FORM + b"decision=allow&csrf=a",
    b"POST /oauth/register\nContent-Type: application/json\n\n"
    b'{"redirect_uris":["https://app.example/cb"]}',
    b"GET /.well-known/oauth-authorization-server\nIf-None-Match: *\nOrigin: null\n\n",
    b"GET /oauth/jwks\n\n",
    b"OPTIONS /oauth/token\nOrigin: https://a\nAccess-Control-Request-Headers: \xff,*\n\n",
    b"HEAD /oauth/login?next=//evil\n\n",
    b"POST /oauth/login" + _FORM + b"username=a&password=b&csrf=",
    b"GET //[\n\n",
    b"GET /oauth/account/tokens?sign_in=again\nCookie: a=b\n\n",
    b"POST /oauth/account/tokens" + _FORM + b"csrf=a&name=b&days=1&scope+read=yes",
    b"POST /oauth/account/api/tokens\nAuthorization: Bearer "
    + _PERSONAL
    + b'\nContent-Type: application/json\n\n{"name":"x","scope":"read","expires_in":1e999}',
    b"DELETE /oauth/account/api/tokens/x\nAuthorization: DPoP a\nDPoP: a.b.c\n\n",
)
def server_request(octets: bytes) -> None:
    server = _server()
    server.send(request(octets, server.harness))
