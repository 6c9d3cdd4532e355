"""The metadata of an API (RFC 9728) in every framework: where it is, and how it is served."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from wsgiref.validate import validator

import pytest

import tests.django_project  # noqa: F401 - before anything that reads Django's settings
from bearerguard import (
    ConfigurationError,
    Fetch,
    Guard,
    HttpTransport,
    ProtectedResource,
    asgi,
    run,
    scopes,
    wsgi,
)
from bearerguard import fastapi as ours_fastapi
from bearerguard.client.discovery import protected_resource
from bearerguard.litestar import BearerPlugin
from bearerguard.middleware.app_guard import guard_in
from bearerguard.runtime.fetching import tables
from bearerguard.testing import LocalIssuer

# isort: split
from django.urls import include
from django.urls import path as django_path
from fastapi import Depends, FastAPI
from litestar import Controller, Litestar, Router
from litestar import get as litestar_get
from litestar.handlers import WebsocketListener
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.adapters.frameworks import ALONE, WHOLE, Served, by_asgi, of_django, text_of
from tests.conformance.drivers import Received, Sent, through_asgi, through_wsgi
from tests.uvicorn_thread import running

ISSUER = LocalIssuer(algorithm="ES256")
ROOT = "/.well-known/oauth-protected-resource"
RESOURCE = "https://api.example.com/v1/mcp"
PLACE = f"{ROOT}/v1/mcp"
# The headers of requests without a good token.
ANYBODY: list[dict[str, Any]] = [
    {},
    {"authorization": b"Bearer no.such.token"},
    {"origin": b"null"},
]

whole = pytest.mark.parametrize("framework", WHOLE)
both = pytest.mark.parametrize("world", ["asgi", "wsgi"])


def guarding(**options: Any) -> Guard:
    return ISSUER.guard(**{"resource": RESOURCE, **options})


def get(served: Any, target: str, method: str = "GET", **headers: bytes) -> Received:
    sent = [(name.replace("_", "-"), value) for name, value in headers.items()]
    received: Received = served.call(Sent(sent, method=method, target=target))
    return received


def check_document(received: Received, **members: Any) -> None:
    assert received.status == 200, received.body
    assert received.one("content-type") == "application/json"
    assert received.one("content-length") == str(len(received.body))
    assert received.one("cache-control") == "public, max-age=3600"
    assert received.one("access-control-allow-origin") == "*"
    assert received.values("www-authenticate") == []
    assert json.loads(received.body) == {
        "resource": RESOURCE,
        "authorization_servers": [ISSUER.url],
        "bearer_methods_supported": ["header"],
        **members,
    }


@whole
def test_PRM_02_the_metadata_needs_no_token(framework: str) -> None:
    with guarding(require=scopes("read")) as guard, WHOLE[framework](guard) as served:
        for place in (PLACE, ROOT):
            for sent in ANYBODY:
                check_document(get(served, place, **sent), scopes_supported=["read"])
        token = ISSUER.token(scopes=["read"])
        for _ in range(2):  # the second time, the token is cached
            assert get(served, "/who", authorization=f"Bearer {token}".encode()).status == 200
            held = f"Bearer {token}".encode()
            check_document(get(served, PLACE, authorization=held), scopes_supported=["read"])


@whole
def test_PRM_02_what_the_middleware_requires_is_published(framework: str) -> None:
    with guarding() as guard, WHOLE[framework](guard, require=scopes("write")) as served:
        check_document(get(served, PLACE), scopes_supported=["write"])


@whole
def test_PRM_02_head_has_the_headers_of_get(framework: str) -> None:
    with guarding() as guard, WHOLE[framework](guard) as served:
        received, head = get(served, PLACE), get(served, PLACE, "HEAD")
    assert (head.status, head.body) == (200, b"")
    assert dict(head.headers) == dict(received.headers)


@whole
def test_PRM_02_pages_of_every_origin_may_send_every_header(framework: str) -> None:
    wanted = "authorization, mcp-protocol-version, traceparent, x-requested-with"
    with guarding() as guard, WHOLE[framework](guard) as served:
        preflight = get(
            served,
            PLACE,
            "OPTIONS",
            origin=b"https://app.test",
            access_control_request_method=b"GET",
            access_control_request_headers=wanted.encode(),
        )
    assert (preflight.status, preflight.body) == (204, b"")
    assert preflight.one("access-control-allow-origin") == "*"
    assert preflight.one("access-control-allow-methods") == "GET, HEAD"
    assert preflight.one("access-control-allow-headers") == wanted
    assert int(preflight.one("access-control-max-age")) > 0
    assert "access-control-request-headers" in preflight.one("vary").lower()


@whole
def test_PRM_02_other_methods_are_not_allowed(framework: str) -> None:
    with guarding() as guard, WHOLE[framework](guard) as served:
        received = get(served, PLACE, "POST")
    assert (received.status, received.body) == (405, b"")
    assert received.one("allow") == "GET, HEAD, OPTIONS"


@whole
def test_PRM_04_another_path_is_the_apps(framework: str) -> None:
    with guarding() as guard, WHOLE[framework](guard) as served:
        for place in (f"{PLACE}/more", f"{ROOT}/v1", f"{ROOT}x", f"/v1/mcp{ROOT}"):
            # Litestar finds no route before its middleware is called.
            assert get(served, place).status == (404 if framework == "litestar" else 401)


@whole
def test_no_metadata_is_served_if_that_is_asked_for(framework: str) -> None:
    with guarding(resource=False) as guard, WHOLE[framework](guard) as served:
        assert get(served, ROOT).status in {401, 404}
        received = get(served, "/who")
    assert "resource_metadata" not in received.one("www-authenticate")


@pytest.mark.parametrize("framework", ["starlette", "litestar", "django"])
def test_PRM_04_it_is_served_where_preflights_pass(framework: str) -> None:
    with guarding() as guard, WHOLE[framework](guard, pass_preflights=True) as served:
        check_document(get(served, PLACE))


def test_PRM_04_it_is_served_though_all_paths_are_excluded_or_optional() -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError

    for options in ({"exclude": ["/*"]}, {"optional": True}, {"exclude": ["/health"]}):
        with guarding() as guard:
            guarded = asgi.BearerMiddleware(app, guard=guard, **options)
            check_document(through_asgi(guarded, Sent([], target=PLACE)))


@both
def test_a_path_that_is_excluded_by_its_name_is_the_apps_own(world: str) -> None:
    with guarding() as guard:
        call = CALLS[world](guard, exclude=[PLACE])
        assert call(Sent([], target=PLACE)).body == b"of the app"
        check_document(call(Sent([], target=ROOT)))


def asgi_app(guard: Guard, **options: Any) -> Any:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"of the app"})
        else:
            await send({"type": "lifespan.startup.complete"})

    return asgi.BearerMiddleware(app, guard=guard, **options)


def wsgi_app(guard: Guard, **options: Any) -> Any:
    def app(_environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"of the app"]

    return wsgi.BearerMiddleware(app, guard=guard, **options)


CALLS: dict[str, Any] = {
    "asgi": lambda guard, **options: lambda sent: through_asgi(asgi_app(guard, **options), sent),
    "wsgi": lambda guard, **options: (
        lambda sent: through_wsgi(validator(wsgi_app(guard, **options)), sent)
    ),
}


def under(world: str, app: Any, root: str, *, whole_path: bool = True) -> Any:
    """Return an app that a server or a router mounts below `root`."""

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        path = root + scope["path"] if whole_path else scope["path"]
        await app({**scope, "root_path": root, "path": path}, receive, send)

    def mounted_by_wsgi(environ: Any, start_response: Any) -> Any:
        return app({**environ, "SCRIPT_NAME": root}, start_response)

    if world == "asgi":
        return lambda sent: through_asgi(mounted, sent)
    return lambda sent: through_wsgi(validator(mounted_by_wsgi), sent)


@pytest.mark.parametrize(("world", "whole_path"), [("asgi", True), ("asgi", False), ("wsgi", True)])
@pytest.mark.parametrize("place", [ROOT, f"{ROOT}/mcp", PLACE, f"{PLACE}/"])
def test_PRM_04_it_is_found_behind_a_root_path(world: str, whole_path: bool, place: str) -> None:
    with guarding() as guard:
        app = asgi_app(guard) if world == "asgi" else wsgi_app(guard)
        call = under(world, app, "/v1", whole_path=whole_path)
        check_document(call(Sent([], target=place)))
        assert call(Sent([], target=f"{ROOT}/other")).status == 401


def test_PRM_04_a_websocket_there_needs_a_token() -> None:
    with guarding() as guard:
        app = asgi_app(guard)
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "websocket.connect"}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "websocket", "path": PLACE, "headers": [], "extensions": {}}
        coroutine = app(scope, receive, send)
        with pytest.raises(StopIteration):
            coroutine.send(None)
    assert sent == [{"type": "websocket.close", "code": 1008}]


async def hello(_request: Any) -> PlainTextResponse:
    return PlainTextResponse("hello")


def mounted_starlette(guard: Guard) -> Any:
    inner = Starlette(
        routes=[Route("/mcp", hello)], middleware=[Middleware(asgi.BearerMiddleware, guard=guard)]
    )
    return Starlette(routes=[Route("/", hello), Mount("/v1", inner)])


def mounted_fastapi(guard: Guard) -> Any:
    inner, outer = FastAPI(), FastAPI()
    inner.add_middleware(ours_fastapi.BearerMiddleware, guard=guard)
    outer.mount("/v1", inner)
    return outer


@pytest.mark.parametrize("make", [mounted_starlette, mounted_fastapi])
def test_PRM_01_below_a_mount_it_is_served_at_the_root_by_its_own_middleware(make: Any) -> None:
    with guarding() as guard:
        bare = by_asgi(make(guard))
        assert get(bare, PLACE).status == 404
        check_document(get(bare, f"/v1{ROOT}"))
        outside = by_asgi(asgi.ResourceMetadata(make(guard), guard=guard))
        for place in (PLACE, ROOT):
            check_document(get(outside, place))
        assert get(outside, PLACE, "POST").status == 405
        refused = get(outside, "/v1/mcp")
    assert refused.status == 401
    url = f"https://api.example.com{PLACE}"
    assert f'resource_metadata="{url}"' in refused.one("www-authenticate")


def test_the_guard_of_an_app_is_found_inside_it() -> None:
    with guarding() as guard:
        needed = scopes("write")
        inner = Starlette(
            middleware=[Middleware(asgi.BearerMiddleware, guard=guard, require=needed)]
        )
        root = Starlette(routes=[Mount("/v1", inner)])
        for app in (inner, root):
            found = guard_in(asgi.ResourceMetadata(app, guard=guard))
            assert (found.guard, found.requirement) == (guard, needed)


def test_PRM_01_one_app_has_the_metadata_of_several_resources() -> None:
    with guarding() as guard, guarding(resource="https://api.example.com/v2") as second:
        inner = asgi.ResourceMetadata(mounted_starlette(guard), guard=second)
        served = by_asgi(asgi.ResourceMetadata(inner, guard=guard))
        check_document(get(served, PLACE))
        assert json.loads(get(served, f"{ROOT}/v2").body)["resource"].endswith("/v2")
        assert get(served, "/").body == b"hello"


@both
def test_alone_it_knows_no_other_path(world: str) -> None:
    with guarding() as guard:
        if world == "asgi":
            handler: Any = asgi.ResourceMetadata(guard=guard)
            call = by_asgi(Starlette(routes=[Mount("/", handler)])).call
        else:
            handler = wsgi.ResourceMetadata(guard=guard)
            call = lambda sent: through_wsgi(validator(handler), sent)  # noqa: E731 - as the other
        check_document(call(Sent([], target=PLACE)))
        received = call(Sent([], target="/other"))
    assert (received.status, received.body) == (404, b"Not Found")


def test_a_lifespan_is_nothing_to_it_alone() -> None:
    with guarding() as guard:
        coroutine = asgi.ResourceMetadata(guard=guard)({"type": "lifespan"}, None, None)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            coroutine.send(None)


@both
def test_it_passes_other_requests_on(world: str) -> None:
    with guarding() as guard:
        if world == "asgi":
            outside: Any = asgi.ResourceMetadata(asgi_app(guard, optional=True), guard=guard)
            received = through_asgi(outside, Sent([]))
        else:
            outside = wsgi.ResourceMetadata(wsgi_app(guard, optional=True), guard=guard)
            received = through_wsgi(validator(outside), Sent([]))
    assert received.body == b"of the app"


@pytest.mark.parametrize("kind", [asgi.ResourceMetadata, wsgi.ResourceMetadata])
def test_a_guard_without_a_resource_has_nothing_to_serve(kind: Any) -> None:
    with pytest.raises(ConfigurationError, match="pass a Guard"):
        kind(guard=None)
    with (
        guarding(resource=False) as guard,
        pytest.raises(ConfigurationError, match="pass resource= to the Guard"),
    ):
        kind(guard=guard)


def fastapi_alone(guard: Guard, app: FastAPI, **options: Any) -> Served:
    bearer = ours_fastapi.BearerSecurity(guard, **options)
    bearer_dependency = Depends(bearer)

    @app.get("/who")
    async def who(principal: Any = bearer_dependency) -> str:
        return str(principal.identity)

    bearer.init_app(app)
    bearer.init_app(app)
    return by_asgi(app)


def test_PRM_02_fastapi_serves_it_without_the_middleware() -> None:
    app = FastAPI()
    app.mount("/", Starlette(routes=[Route("/", hello)]))
    with guarding() as guard:
        served = fastapi_alone(guard, app)
        for place in (PLACE, ROOT):
            check_document(get(served, place))
        assert get(served, PLACE, "POST").status == 405
        assert ROOT not in json.dumps(app.openapi())


def test_PRM_02_fastapi_publishes_what_its_security_requires() -> None:
    with guarding() as guard:
        served = fastapi_alone(guard, FastAPI(), require=scopes("read"))
        check_document(get(served, PLACE), scopes_supported=["read"])


def test_a_route_of_fastapi_for_it_is_the_apps_own() -> None:
    app = FastAPI()
    app.add_api_route(PLACE, lambda: "of the app")
    with guarding() as guard:
        served = fastapi_alone(guard, app)
        assert get(served, PLACE).body == b'"of the app"'
        check_document(get(served, ROOT))
    with guarding(resource=False) as guard:
        assert get(fastapi_alone(guard, FastAPI()), ROOT).status == 404


@litestar_get(PLACE, exclude_from_auth=True)
async def own_route() -> str:
    return "of the app"


@litestar_get("/mcp", exclude_from_auth=True)
async def route_below() -> str:
    return "of the app"


class OwnController(Controller):
    path = PLACE

    @litestar_get("/", exclude_from_auth=True)
    async def own_route(self) -> str:
        return "of the app"


@pytest.mark.parametrize(
    "handler", [own_route, OwnController, Router(f"{ROOT}/v1", route_handlers=[route_below])]
)
def test_a_route_of_litestar_for_it_is_the_apps_own(handler: Any) -> None:
    with guarding() as guard:
        served = by_asgi(Litestar([handler], plugins=[BearerPlugin(guard)]))
        assert get(served, PLACE).body == b"of the app"
        check_document(get(served, ROOT))


class Listener(WebsocketListener):
    path = "/live"

    def on_receive(self, data: str) -> None:
        raise AssertionError(data)


def test_two_routes_of_litestar_for_it_leave_none_to_add() -> None:
    own = litestar_get([ROOT, PLACE], exclude_from_auth=True)(route_below.fn)
    with guarding() as guard:
        served = by_asgi(Litestar([own, Listener], plugins=[BearerPlugin(guard)]))
        assert get(served, ROOT).body == get(served, PLACE).body == b"of the app"


@pytest.mark.parametrize("middleware", [[], ["django.middleware.csrf.CsrfViewMiddleware"]])
def test_PRM_02_a_project_without_the_middleware_includes_its_url(middleware: list[str]) -> None:
    patterns = [django_path("", include("bearerguard.django.urls")), django_path("who", text_of)]
    with guarding() as guard, of_django(patterns, guard, None, middleware, {}) as served:
        for place in (PLACE, ROOT):
            check_document(get(served, place))
        assert get(served, PLACE, "POST").status == 405
        assert get(served, f"{ROOT}/other").status == 404
        assert get(served, f"{ROOT}x").status == 404


@pytest.mark.parametrize("framework", ALONE)
def test_PRM_03_the_challenges_of_routes_name_it(framework: str) -> None:
    with guarding() as guard, ALONE[framework](guard) as served:
        received = get(served, "/who")
    assert received.status == 401
    url = f"https://api.example.com{PLACE}"
    assert f'resource_metadata="{url}"' in received.one("www-authenticate")


@contextmanager
def live() -> Iterator[tuple[str, str]]:
    """Serve an API and its issuer on loopback; yield the URLs of both."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await guarded[0](scope, receive, send)

    guarded: list[Any] = []
    with ISSUER.serve() as issuer, running(app) as url:
        resource = ProtectedResource(f"{url}/v1/mcp", scopes=["read"])
        with ISSUER.guard(resource=resource) as guard:
            guarded.append(asgi_app(guard))
            yield f"{url}/v1/mcp", issuer


def test_PRM_04_our_client_finds_the_issuer_from_nothing_but_the_url() -> None:
    handlers, _ = tables(HttpTransport())
    with live() as (url, issuer):
        response = HttpTransport().fetch(Fetch("GET", url))
        challenge = response.header("www-authenticate")
        assert challenge is not None
        for challenges in ([challenge], []):  # by the challenge, and by the well-known place
            found = run(protected_resource(f"{url}?page=1", challenges), handlers)
            assert (found.resource, found.authorization_servers) == (url, (issuer,))
            assert found.scopes == ("read",)
