"""One guard at two places of an app: a request uses its proof once, and both requirements count."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path
from fastapi import FastAPI, Request, Security

from tests.django_project import OURS, project

# isort: split
from bearerguard import Guard, Principal, asgi, scopes, wsgi
from bearerguard.fastapi import BearerMiddleware, BearerSecurity
from bearerguard.protocol import dpop
from bearerguard.protocol.jose import signing
from bearerguard.testing import LocalIssuer
from tests.conformance.drivers import Received, Sent, through_asgi, through_wsgi

ISSUER = LocalIssuer(algorithm="ES256")
KEY = signing.PrivateKey("ES256", None, signing.generate("ES256"))
JKT = dpop.key_thumbprint(KEY)
SECRET = "a secret of the nonces, 32 bytes or more"
NONCES = dpop.Nonces(SECRET, purpose="api")

Call = Callable[[Sent], Received]


def bound(*names: str) -> str:
    return ISSUER.token(scopes=names, subject="ada", claims={"cnf": {"jkt": JKT}})


def sent(token: str, method: str = "GET", content: bytes = b"", **claims: Any) -> Sent:
    proof = dpop.proof(
        KEY,
        method,
        "https://api.test/in/who",
        now=time.time(),
        jti=uuid.uuid4().hex,
        access_token=token,
        **claims,
    )
    fields = [("Authorization", f"DPoP {token}".encode()), ("DPoP", proof.encode())]
    return Sent(fields, method, "/in/who", content)


async def app(scope: Any, receive: Any, send: Any) -> None:
    message = await receive()
    body = scope["user"].identity.encode() + message["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def wsgi_app(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    read: bytes = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
    return [environ["bearerguard.principal"].identity.encode() + read]


def of_asgi(outer: Guard, inner: Guard) -> Call:
    inside = asgi.BearerMiddleware(app, guard=inner, require=scopes("write"))

    async def mounting(scope: Any, receive: Any, send: Any) -> None:
        await inside({**scope, "root_path": "/in"}, receive, send)

    whole = asgi.BearerMiddleware(mounting, guard=outer)
    return lambda request: through_asgi(whole, request)


def of_wsgi(outer: Guard, inner: Guard) -> Call:
    inside = wsgi.BearerMiddleware(wsgi_app, guard=inner, require=scopes("write"))

    def mounting(environ: Any, start_response: Any) -> Any:
        return inside({**environ, "SCRIPT_NAME": "/in", "PATH_INFO": "/who"}, start_response)

    whole = wsgi.BearerMiddleware(mounting, guard=outer)
    return lambda request: through_wsgi(whole, request)


def of_fastapi(outer: Guard, inner: Guard) -> Call:
    bearer = BearerSecurity(inner)
    inside, whole = FastAPI(), FastAPI()

    @inside.get("/who", dependencies=[Security(bearer, scopes=["write"])])
    def who(request: Request) -> str:
        return str(request.user.identity)

    inside.add_middleware(BearerMiddleware, guard=inner)
    whole.mount("/in", inside)
    whole.add_middleware(BearerMiddleware, guard=outer)
    return lambda request: through_asgi(whole, request)


def who(request: HttpRequest) -> HttpResponse:
    principal: Principal = request.principal
    return HttpResponse(principal.identity.encode() + request.body)


def of_django(outer: Guard, inner: Guard) -> Call:
    def call(request: Sent) -> Received:
        with project(path("in/who", who), guard=inner, middleware=[OURS], REQUIRE=scopes("write")):
            return through_wsgi(wsgi.BearerMiddleware(WSGIHandler(), guard=outer), request)

    return call


def of_async_django(outer: Guard, inner: Guard) -> Call:
    def call(request: Sent) -> Received:
        with project(path("in/who", who), guard=inner, middleware=[OURS], REQUIRE=scopes("write")):
            whole: Any = asgi.BearerMiddleware(ASGIHandler(), guard=outer)
            return through_asgi(whole, request)

    return call


NESTED = [of_asgi, of_wsgi, of_fastapi, of_django, of_async_django]


@pytest.mark.parametrize("nested", NESTED)
def test_DP_06_two_places_of_one_guard_use_a_proof_once(
    nested: Callable[[Guard, Guard], Call],
) -> None:
    with ISSUER.guard(dpop="required") as guard:
        call = nested(guard, guard)
        request = sent(bound("write"))
        received = call(request)
        assert received.status == 200
        assert b"ada" in received.body
        assert call(request).status == 401  # another request with the same proof
        # What the inner place requires is required all the same.
        assert call(sent(bound())).status == 403


@pytest.mark.parametrize("nested", [of_asgi, of_wsgi])
def test_DP_06_another_guard_inside_demands_a_proof_of_its_own(
    nested: Callable[[Guard, Guard], Call],
) -> None:
    with ISSUER.guard(dpop="required") as outer, ISSUER.guard(dpop="required") as inner:
        request = sent(bound("write"))
        assert nested(outer, inner)(request).status == 200
        # The inner one has noted the proof itself, and refuses it where the outer does not know it.
        with ISSUER.guard(dpop="required") as third:
            assert nested(third, inner)(request).status == 401


@pytest.mark.parametrize("nested", [of_asgi, of_wsgi])
def test_DP_11_the_outer_place_renews_a_nonce(nested: Callable[[Guard, Guard], Call]) -> None:
    with ISSUER.guard(dpop="required", dpop_nonces=SECRET) as guard:
        received = nested(guard, guard)(sent(bound("write"), nonce=NONCES.make(time.time() - 200)))
        assert received.status == 200
        assert NONCES.accepts(received.one("dpop-nonce"), time.time())


@pytest.mark.parametrize("nested", [of_asgi, of_wsgi, of_django, of_async_django])
def test_DP_12_the_body_is_compared_once_and_reaches_the_app(
    nested: Callable[[Guard, Guard], Call],
) -> None:
    with ISSUER.guard(dpop="required", dpop_content_digest=True) as guard:
        call = nested(guard, guard)
        good = sent(bound("write"), "PATCH", b"{1}", body=b"{1}")
        assert call(good).body == b"ada{1}"
        assert call(sent(bound("write"), "PATCH", b"{2}", body=b"{1}")).status == 401


def between(change: Callable[[Any], None], guard: Guard) -> Call:
    """Return an app whose two guarded places have a change of the headers between them."""
    inside = asgi.BearerMiddleware(app, guard=guard)

    async def changing(scope: Any, receive: Any, send: Any) -> None:
        headers = dict(scope["headers"])
        change(headers)
        await inside({**scope, "headers": [*headers.items()]}, receive, send)

    return lambda request: through_asgi(asgi.BearerMiddleware(changing, guard=guard), request)


def test_DP_08_other_credentials_inside_are_proved_anew() -> None:
    with ISSUER.guard(dpop="required") as guard:
        other = sent(bound())
        foreign = dict(other.headers)

        def of_another_token(headers: Any) -> None:
            headers[b"authorization"] = foreign["Authorization"]

        def of_another_proof(headers: Any) -> None:
            headers[b"dpop"] = foreign["DPoP"]

        def without_proof(headers: Any) -> None:
            del headers[b"dpop"]

        def of_another_request(headers: Any) -> None:
            of_another_token(headers)
            of_another_proof(headers)

        for change in (of_another_token, of_another_proof, without_proof):
            assert between(change, guard)(sent(bound("write"))).status == 401
        # A whole other request in front of the inner place is decided on, once.
        assert between(of_another_request, guard)(sent(bound("write"))).status == 200
        assert between(of_another_request, guard)(sent(bound("write"))).status == 401


def test_DP_06_a_refused_request_has_used_no_proof_for_a_place_inside() -> None:
    with ISSUER.guard(dpop="required") as guard:
        inside = asgi.BearerMiddleware(app, guard=guard)

        class Passing(asgi.BearerMiddleware):
            __slots__ = ()

            async def refuse(self, scope: Any, receive: Any, send: Any, _decision: Any) -> None:
                await inside(scope, receive, send)

        whole = Passing(app, guard=guard)
        request = sent(bound())
        assert through_asgi(whole, request).status == 200
        assert through_asgi(whole, request).status == 401
