"""Bound tokens in every framework: the proof is checked, and a new nonce reaches the client."""

from __future__ import annotations

import json
import sys
import time
import uuid
from typing import Any

import anyio
import httpx2
import pytest
from fastapi import FastAPI

import tests.django_project  # noqa: F401 - before anything that reads Django's settings
from bearerguard import ConfigurationError, Guard, Request, Revocations, asgi, wsgi
from bearerguard.client import BearerAuth, TokenManager
from bearerguard.client.dpop import new_key
from bearerguard.client.token import Token
from bearerguard.errors import REVOKED
from bearerguard.fastapi import BearerSecurity
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.protocol.jose.signing import PrivateKey
from bearerguard.runtime.flow import Flow
from bearerguard.testing import LocalIssuer

# isort: split
from tests.adapters.frameworks import ALONE, FRAMEWORKS
from tests.conformance.drivers import Received, Sent, through_asgi, through_wsgi
from tests.processes import free_port
from tests.uvicorn_thread import running

ISSUER = LocalIssuer(algorithm="ES256")
KEY = PrivateKey("ES256", None, signing.generate("ES256"))
JKT = dpop.key_thumbprint(KEY)
SECRET = "a secret of the nonces, 32 bytes or more"
NONCES = dpop.Nonces(SECRET, purpose="api")
HOST = "https://api.test"
# Those whose middleware sees the body before the framework does.
# Where a view authenticates, nothing completes its response: a 401 brings the next nonce.
WITHOUT_RENEWAL = ("rest framework alone", "ninja alone", "async ninja alone")
READING = [each for each in FRAMEWORKS if each != "fastapi alone"]


def bound(*names: str) -> str:
    return ISSUER.token(scopes=names, subject="ada", claims={"cnf": {"jkt": JKT}})


def proof(token: str, target: str = "/who", method: str = "GET", **more: Any) -> bytes:
    made = dpop.proof(
        KEY,
        method,
        HOST + target,
        now=time.time(),
        jti=uuid.uuid4().hex,
        access_token=token,
        **more,
    )
    return made.encode()


def sent(token: str, target: str, *proofs: bytes, scheme: str = "DPoP", **more: Any) -> Sent:
    fields = [("Authorization", f"{scheme} {token}".encode())]
    return Sent([*fields, *(("DPoP", each) for each in proofs)], target=target, **more)


def schemes(received: Received) -> list[str]:
    # Some frameworks send all challenges in one line.
    challenges = ", ".join(received.values("www-authenticate"))
    return [scheme for scheme in ("Bearer", "DPoP") if f"{scheme} realm=" in challenges]


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_DP_00_each_request_with_a_bound_token_needs_a_proof_of_its_own(framework: str) -> None:
    token = bound("write")
    with ISSUER.guard(dpop="allowed") as guard, FRAMEWORKS[framework](guard) as served:
        good = proof(token)
        received = served.call(sent(token, "/who?page=2", good))
        assert received.status == 200
        assert b"ada" in received.body
        for refused in (
            sent(token, "/who", good),
            sent(token, "/who"),
            sent(token, "/who", proof(token, "/write")),
            sent(token, "/who", proof(token, method="POST")),
            sent(token, "/who", scheme="Bearer"),
        ):
            answer = served.call(refused)
            assert answer.status == 401
            assert schemes(answer) == ["Bearer", "DPoP"]
            assert b"ada" not in answer.body
        assert served.call(sent(token, "/write", proof(token, "/write"))).status == 200
        poor = bound()
        answer = served.call(sent(poor, "/write", proof(poor, "/write")))
        assert (answer.status, schemes(answer)) == (403, ["DPoP"])


def test_STREAM_01_the_stream_of_a_bound_token_ends_when_its_key_is_withdrawn() -> None:
    token = bound()
    fields = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", proof(token))]
    request = Request("GET", HOST + "/who", tuple(fields))
    with ISSUER.guard(dpop="allowed", revocations=Revocations()) as guard:
        principal = guard.verify(token, request)
        tokens = guard.stream_tokens
        assert tokens is not None
        held = guard.stream_token(principal, [fields[0][1]])
        assert tokens.ending(held) is None
        guard.revoke(key_id=ISSUER.key.kid)
        assert tokens.ending(held) is REVOKED


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_DP_11_a_client_gets_the_nonce_it_needs(framework: str) -> None:
    token = bound()
    options: dict[str, Any] = {"dpop": "required", "dpop_nonces": SECRET}
    with ISSUER.guard(**options) as guard, FRAMEWORKS[framework](guard) as served:
        refused = served.call(sent(token, "/who", proof(token)))
        assert refused.status == 401
        assert 'error="use_dpop_nonce"' in ", ".join(refused.values("www-authenticate"))
        assert refused.values("cache-control") == ["no-store"]
        passed = served.call(sent(token, "/who", proof(token, nonce=refused.one("dpop-nonce"))))
        assert (passed.status, passed.values("dpop-nonce")) == (200, [])
        if framework in WITHOUT_RENEWAL:
            return
        old = NONCES.make(time.time() - 200)
        renewed = served.call(sent(token, "/who", proof(token, nonce=old)))
        assert renewed.status == 200
        assert NONCES.accepts(renewed.one("dpop-nonce"), time.time())
        assert renewed.values("cache-control") == ["no-store"]


@pytest.mark.parametrize("framework", READING)
def test_DP_12_another_body_never_reaches_the_app(framework: str) -> None:
    token = bound()
    options: dict[str, Any] = {"dpop": "required", "dpop_content_digest": True}
    with ISSUER.guard(**options) as guard, FRAMEWORKS[framework](guard) as served:
        assert served.call(sent(token, "/who", proof(token, body=b""))).status == 200
        assert served.call(sent(token, "/who", proof(token))).status == 401
        assert served.call(sent(token, "/who", proof(token, body=b"{}"))).status == 401
        body = b"x" * (4 * 1024 * 1024 + 1)
        long = sent(token, "/who", proof(token, body=body), body=body)
        assert served.call(long).status == 413


def test_DP_12_a_dependency_alone_says_that_it_is_too_late() -> None:
    token = bound()
    options: dict[str, Any] = {"dpop": "required", "dpop_content_digest": True}
    with ISSUER.guard(**options) as guard:
        with pytest.raises(ConfigurationError, match="add BearerMiddleware with this guard"):
            BearerSecurity(guard).init_app(FastAPI())
        # Without init_app, no request passes until the app is corrected.
        with ALONE["fastapi alone"](guard) as served:
            for request in (sent(token, "/who", proof(token, body=b"")), Sent([], target="/who")):
                with pytest.raises(ConfigurationError, match="dpop_content_digest="):
                    served.call(request)


@pytest.mark.parametrize("kind", ["asgi", "wsgi"])
def test_DP_12_the_app_reads_the_body_that_was_checked(kind: str) -> None:
    token, read = bound(), []
    guard = ISSUER.guard(dpop="required", dpop_content_digest=True)
    request = sent(
        token, "/who", proof(token, method="POST", body=b"{1}"), method="POST", body=b"{1}"
    )

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        read.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
        read.append(environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])))
        start_response("200 OK", [])
        return []

    if kind == "asgi":
        assert through_asgi(asgi.BearerMiddleware(app, guard=guard), request).status == 200
    else:
        assert through_wsgi(wsgi.BearerMiddleware(wsgi_app, guard=guard), request).status == 200
    assert read == [b"{1}"]


def test_DP_11_a_nonce_is_kept_when_a_wsgi_app_reports_an_error() -> None:
    token = bound()

    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        try:
            int("too late")
        except ValueError:
            start_response("500 Internal Server Error", [], sys.exc_info())
        return []

    middleware = wsgi.BearerMiddleware(app, guard=ISSUER.guard(dpop="required", dpop_nonces=SECRET))
    made = proof(token, nonce=NONCES.make(time.time() - 200))
    received = through_wsgi(middleware, sent(token, "/who", made))
    assert received.status == 500
    assert NONCES.accepts(received.one("dpop-nonce"), time.time())


def test_DP_12_a_client_that_disconnects_is_not_refused_for_its_body() -> None:
    token, seen = bound(), []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        seen.append((await receive())["type"])

    guard = ISSUER.guard(dpop="required", dpop_content_digest=True)
    middleware = asgi.BearerMiddleware(app, guard=guard)
    made = proof(token, method="POST", body=b"{}")
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/who",
        "headers": [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)],
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(_message: Any) -> None:
        raise AssertionError("nobody is there")

    anyio.run(middleware, scope, receive, send)
    assert seen == ["http.disconnect"]


def test_DP_04_a_websocket_proves_the_https_url_of_its_handshake() -> None:
    token, sent_messages = bound(), []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})

    guard = ISSUER.guard(dpop="required", dpop_nonces=SECRET)
    middleware = asgi.BearerMiddleware(app, guard=guard)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent_messages.append(message)

    for nonce in (NONCES.make(time.time()), NONCES.make(time.time() - 200), None):
        made = proof(token, "/live", nonce=nonce)
        scope = {
            "type": "websocket",
            "scheme": "wss",
            "path": "/live",
            "headers": [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)],
        }
        anyio.run(middleware, scope, receive, send)
    fresh, old, refused = sent_messages
    assert fresh == {"type": "websocket.accept"}
    assert dict(old["headers"]).keys() == {b"cache-control", b"dpop-nonce"}
    assert (refused["type"], refused["code"]) == ("websocket.close", 1008)


def test_DP_12_the_digest_of_a_websocket_is_that_of_no_body() -> None:
    token = bound()
    received: list[str] = []
    answered: list[str] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        received.append((await receive())["type"])
        await send({"type": "websocket.accept"})

    guard = ISSUER.guard(dpop="required", dpop_content_digest=True)
    middleware = asgi.BearerMiddleware(app, guard=guard)

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        answered.append(message["type"])

    for body in (b"", b"x"):
        made = proof(token, "/live", body=body)
        headers = [(b"authorization", b"DPoP " + token.encode()), (b"dpop", made)]
        scope = {"type": "websocket", "scheme": "wss", "path": "/live", "headers": headers}
        anyio.run(middleware, scope, receive, send)
    assert received == ["websocket.connect"]
    assert answered == ["websocket.accept", "websocket.close"]


def test_DP_04_the_mount_of_an_app_is_in_the_url() -> None:
    token = bound()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    middleware = asgi.BearerMiddleware(app, guard=ISSUER.guard(dpop="required"))
    for path, raw in (("/v1/who", b"/v1/who"), ("/who", b"/who"), ("/v1/who", b"/who")):

        async def mounted(
            scope: Any, receive: Any, send: Any, path: str = path, raw: bytes = raw
        ) -> None:
            await middleware(
                {**scope, "root_path": "/v1", "path": path, "raw_path": raw}, receive, send
            )

        request = sent(token, "/ignored", proof(token, "/v1/who"))
        assert through_asgi(mounted, request).status == 200


class Given:
    """A source of one token that is bound to a key."""

    key = "given"
    resources: tuple[str, ...] = ()

    def __init__(self, guard_url: str) -> None:
        self.resources = (guard_url,)
        self._key = new_key()
        thumbprint = dpop.key_thumbprint(signing.private_key(json.loads(self._key)))
        self._token = ISSUER.token(subject="ada", claims={"cnf": {"jkt": thumbprint}})

    def token(self, _previous: Token | None) -> Flow[Token]:
        yield from ()
        return Token(self._token, "DPoP", dpop_key=self._key)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_CL_06_our_client_passes_our_guard_with_nonces(kind: str) -> None:
    seen: list[int] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        body = scope["user"].identity.encode()
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [length]})
        await send({"type": "http.response.body", "body": body})

    def serve(guard: Guard) -> Any:
        middleware = asgi.BearerMiddleware(app, guard=guard)

        async def counted(scope: Any, receive: Any, send: Any) -> None:
            async def noting(message: Any) -> None:
                if message["type"] == "http.response.start":
                    seen.append(message["status"])
                await send(message)

            await middleware(scope, receive, noting)

        return counted

    port = free_port()
    url = f"http://127.0.0.1:{port}"
    guard = ISSUER.guard(dpop="required", dpop_nonces=SECRET, public_url=url)
    with guard, running(serve(guard), port):
        auth = BearerAuth(TokenManager(Given(url)))
        if kind == "sync":
            with httpx2.Client(auth=auth) as client:
                answers = [client.get(f"{url}/a?b={number}") for number in range(3)]
        else:

            async def main() -> list[Any]:
                async with httpx2.AsyncClient(auth=auth) as client:
                    return [await client.get(f"{url}/a?b={number}") for number in range(3)]

            answers = anyio.run(main)
    assert [answer.text for answer in answers] == ["ada"] * 3
    assert seen == [401, 200, 200, 200], "one nonce is demanded, and used from then on"
