"""An authorization server and an API on loopback, whose answers a test may replace.

What was asked is remembered, and every DPoP proof is verified with PyJWT.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest

from bearerguard.client import ClientCredentials, TokenManager

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, Any]
METADATA = "/.well-known/oauth-authorization-server"
RESOURCE = "/.well-known/oauth-protected-resource"


class Time:
    """Time that passes when a test says so; the calendar and the monotonic seconds apart."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self.monotonic = 1000.0

    def pass_by(self, seconds: float) -> None:
        self.now += seconds
        self.monotonic += seconds

    def clock(self) -> float:
        return self.now

    @property
    def options(self) -> dict[str, Callable[[], float]]:
        return {"clock": self.clock, "monotonic": lambda: self.monotonic}


@dataclass
class Asked:
    """One request that came."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.url).path

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode()))

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.url).query))

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").partition(" ")[2]

    def proof(self, **expected: Any) -> dict[str, Any]:
        """Return the claims of its DPoP proof, verified as RFC 9449 §4.3 says."""
        given = self.headers["dpop"]
        header = jwt.get_unverified_header(given)
        assert header["typ"] == "dpop+jwt"
        assert "d" not in header["jwk"]
        key = jwt.PyJWK({**header["jwk"], "alg": header["alg"]})
        options: Any = {"verify_aud": False, "verify_iat": False}
        claims: dict[str, Any] = jwt.decode(given, key, algorithms=["ES256"], options=options)
        assert (claims["htm"], claims["htu"]) == (self.method, self.url.partition("?")[0])
        if self.token and self.headers["authorization"].startswith("DPoP "):
            digest = hashlib.sha256(self.token.encode()).digest()
            assert claims["ath"] == base64.urlsafe_b64encode(digest).decode().rstrip("=")
        for name, value in expected.items():
            assert claims.get(name) == value
        return claims


@dataclass
class ScriptedServer:
    """The running server: `answers` maps paths to what answers there."""

    url: str
    asked: list[Asked] = field(default_factory=list)
    answers: dict[str, Callable[[Asked], Answer]] = field(default_factory=dict)
    lifetime: float | None = 3600
    good: set[str] = field(default_factory=set)
    metadata: dict[str, Any] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.Lock)

    def at(self, path: str) -> list[Asked]:
        return [each for each in self.asked if each.path == path]

    def answer(self, asked: Asked) -> Answer:
        with self.lock:
            self.asked.append(asked)
        found = self.answers.get(asked.path)
        if found is not None:
            return found(asked)
        if asked.path == METADATA:
            return 200, [], self.metadata
        if asked.path == "/token":
            return 200, [], self.granted()
        if asked.path.startswith("/api"):
            if asked.token in self.good:
                return 200, [], asked.token.encode()
            return 401, [("WWW-Authenticate", 'Bearer error="invalid_token"')], b""
        return 404, [], b""

    def granted(self, **members: Any) -> dict[str, Any]:
        """Return another token."""
        with self.lock:
            token = f"t{len(self.at('/token'))}"
            self.good.add(token)
        given: dict[str, Any] = {"access_token": token, "token_type": "Bearer"}
        if self.lifetime is not None:
            given["expires_in"] = self.lifetime
        return given | members

    def revoke(self) -> None:
        """Refuse the tokens given so far."""
        self.good.clear()


class _Handler(BaseHTTPRequestHandler):
    scripted: ScriptedServer

    def _serve(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        url = f"http://{self.headers['host']}{self.path}"
        status, lines, content = self.scripted.answer(Asked(self.command, url, headers, body))
        octets = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in lines:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(octets)))
        self.end_headers()
        self.wfile.write(octets)

    do_GET = do_POST = do_PUT = _serve  # noqa: N815 - as the library names them

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def manager(
    server: ScriptedServer, time: Time, storage: Any = None, **options: Any
) -> TokenManager:
    """Return a manager of client credentials, asked of `server`."""
    source = ClientCredentials(
        server.url,
        **{"client_id": "c", "client_secret": "s", "scopes": "read", "resources": server.url}
        | options,
        clock=time.clock,
    )
    given: dict[str, Any] = {**time.options}
    return TokenManager(source, storage=storage, **given)


def settle() -> None:
    """Wait for what goes on behind."""
    for each in threading.enumerate():
        if each.name == "bearerguard-token":
            each.join(10)


@contextmanager
def opened() -> Generator[ScriptedServer]:
    handler = type("Handler", (_Handler,), {})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        http.daemon_threads = True
        url = f"http://127.0.0.1:{http.server_port}"
        scripted = ScriptedServer(url)
        scripted.metadata = {
            "issuer": url,
            "token_endpoint": f"{url}/token",
            "authorization_endpoint": f"{url}/authorize",
            "device_authorization_endpoint": f"{url}/device",
            "revocation_endpoint": f"{url}/revoke",
            "code_challenge_methods_supported": ["S256"],
        }
        handler.scripted = scripted  # type: ignore[attr-defined]
        thread = threading.Thread(target=http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield scripted
        finally:
            http.shutdown()
            thread.join(10)


@pytest.fixture
def server() -> Generator[ScriptedServer]:
    with opened() as running:
        yield running


@pytest.fixture
def other() -> Generator[ScriptedServer]:
    with opened() as running:
        yield running


@pytest.fixture
def another() -> Generator[ScriptedServer]:
    with opened() as running:
        yield running


@pytest.fixture
def time() -> Time:
    return Time()
