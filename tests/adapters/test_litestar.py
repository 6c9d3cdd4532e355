"""Litestar: the plugin, the middleware, guards of routes, websockets, and OpenAPI."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from litestar import (
    Controller,
    Litestar,
    Request,
    Response,
    Router,
    WebSocket,
    asgi,
    get,
    websocket,
)
from litestar.config.cors import CORSConfig
from litestar.config.response_cache import ResponseCacheConfig
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.di import NamedDependency
from litestar.exceptions import HTTPException, NotAuthorizedException, WebSocketDisconnect
from litestar.middleware import DefineMiddleware
from litestar.middleware.authentication import (
    AbstractAuthenticationMiddleware,
    AuthenticationResult,
)
from litestar.openapi import OpenAPIConfig
from litestar.openapi.spec import Components
from litestar.testing import TestClient

from bearerguard import (
    ANONYMOUS,
    ConfigurationError,
    Guard,
    Introspection,
    Issuer,
    Principal,
    role,
    scopes,
)
from bearerguard.litestar import (
    BearerMiddleware,
    BearerPlugin,
    provide_principal,
    require,
    require_scopes,
)
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges
from tests.adapters.tokens import bearer

Caller = Request[Principal, Principal, State]
Socket = WebSocket[Principal, Principal, State]
ORIGIN = {"Origin": "https://app.test"}


@get("/who", sync_to_thread=False)
def who(principal: NamedDependency[Principal]) -> str:
    return principal.identity


@get("/write", guards=[require_scopes("write")])
async def write(request: Caller) -> list[str]:
    return [request.user.identity, *sorted(request.auth.scopes)]


@get("/free", exclude_from_auth=True)
async def free(request: Caller) -> str:
    return request.user.identity


@get("/health")
async def health() -> str:
    return "well"


@websocket("/echo", guards=[require_scopes("write")])
async def echo(socket: Socket, principal: NamedDependency[Principal]) -> None:
    await socket.accept()
    await socket.send_text(principal.identity)
    await socket.send_text(await socket.receive_text())
    await socket.close()


class Recordings(Controller):
    path = "/recordings"
    guards = (require_scopes("read"),)

    @get("/", sync_to_thread=True)
    def listed(self) -> str:
        return "listed"

    @get("/all", guards=[require(role("admin"))])
    async def all_of_them(self) -> str:
        return "all"


class Writers(Controller):
    path = "/writers"
    guards = (require_scopes("read"),)

    @get("/", guards=[require_scopes("write")])
    async def listed(self) -> str:
        return "writers"


def make(guard: Guard, *, app: dict[str, Any] | None = None, **options: Any) -> Litestar:
    handlers: list[Any] = [who, write, free, health, echo, Recordings, Writers]
    plugin = BearerPlugin(guard, **{"exclude": ("/health",), **options})
    return Litestar([*handlers, *(app or {}).pop("more", ())], plugins=[plugin], **(app or {}))


def client_of(guard: Guard, **options: Any) -> TestClient[Litestar]:
    return TestClient(make(guard, **options))


def test_handlers_get_the_principal_as_dependency_user_and_auth(
    guard: Guard, issuer: LocalIssuer
) -> None:
    client = client_of(guard)
    passed = client.get("/who", headers=bearer(issuer, subject="ada"))
    assert (passed.status_code, passed.text) == (200, "ada")
    assert int(passed.headers["access-token-expires-in"]) > 3500
    assert client.get("/write", headers=bearer(issuer, "write")).json() == ["user", "write"]
    assert client.get("/free").text == ANONYMOUS.identity
    assert client.get("/health").text == "well"
    assert client.get("/health/").text == "well"  # the same route
    excluded = client.get("/free", headers={"Authorization": "Bearer a.b.c"})
    assert excluded.text == ANONYMOUS.identity


def test_a_refusal_is_litestars_response_with_the_whole_challenge(
    guard: Guard, issuer: LocalIssuer
) -> None:
    client = client_of(guard)
    missing = client.get("/who")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == challenges.bearer()
    assert missing.headers["cache-control"] == "no-store"
    assert missing.json() == {
        "status_code": 401,
        "detail": "This request must carry an access token",
    }
    weak = client.get("/write", headers={**bearer(issuer, "read"), **ORIGIN})
    assert weak.status_code == 403
    assert 'error="insufficient_scope"' in weak.headers["www-authenticate"]
    assert 'scope="write"' in weak.headers["www-authenticate"]
    assert weak.headers.get_list("access-token-expires-in") == [
        weak.headers["access-token-expires-in"]
    ]
    assert "WWW-Authenticate" in weak.headers["access-control-expose-headers"]
    assert weak.json()["extra"] == {"error": "insufficient_scope", "scope": "write"}
    twice = [("Authorization", "Bearer a"), ("Authorization", "Bearer b")]
    malformed = client.get("/who", headers=twice)
    assert malformed.status_code == 400
    assert 'error="invalid_request"' in malformed.headers["www-authenticate"]


def test_guards_of_controllers_and_routes_add_up(guard: Guard, issuer: LocalIssuer) -> None:
    client = client_of(guard)
    assert client.get("/recordings", headers=bearer(issuer, "read")).text == "listed"
    assert client.get("/recordings", headers=bearer(issuer)).status_code == 403
    no_admin = client.get("/recordings/all", headers=bearer(issuer, "read"))
    assert no_admin.status_code == 403
    assert no_admin.headers["www-authenticate"] == challenges.bearer()  # no scope would do
    neither = client.get("/writers", headers=bearer(issuer))
    assert 'scope="read write"' in neither.headers["www-authenticate"]
    whole = bearer(issuer, "read", "write")
    assert client.get("/writers", headers=whole).text == "writers"


def test_guards_of_an_app_and_a_router_count_too(guard: Guard, issuer: LocalIssuer) -> None:
    router = Router("/inner", route_handlers=[who], guards=[require_scopes("inner")])
    app = {"more": [router], "guards": [require_scopes("outer")]}
    client = client_of(guard, app=app)
    refused = client.get("/inner/who", headers=bearer(issuer, "outer"))
    assert 'scope="outer inner"' in refused.headers["www-authenticate"]
    assert client.get("/inner/who", headers=bearer(issuer, "outer", "inner")).status_code == 200
    assert client.get("/who", headers=bearer(issuer, "inner")).status_code == 403


def test_a_guard_of_the_apps_own_may_call_ours(guard: Guard, issuer: LocalIssuer) -> None:
    async def by_method(connection: ASGIConnection[Any, Any, Any, Any], handler: Any) -> None:
        await require_scopes(Request(connection.scope).method.lower())(connection, handler)

    @get("/by-method", guards=[by_method])
    async def dynamic() -> str:
        return "passed"

    client = client_of(guard, app={"more": [dynamic]})
    assert client.get("/by-method", headers=bearer(issuer, "get")).text == "passed"
    refused = client.get("/by-method", headers=bearer(issuer))
    assert 'scope="get"' in refused.headers["www-authenticate"]


def test_exception_handlers_see_the_refusal_and_keep_its_challenge(
    guard: Guard, issuer: LocalIssuer
) -> None:
    seen: list[Any] = []

    def mine(_request: Any, exception: HTTPException) -> Response[dict[str, int]]:
        seen.append((type(exception), exception.detail))
        return Response({"mine": exception.status_code}, status_code=exception.status_code)

    def hidden(_request: Any, _exception: HTTPException) -> Response[str]:
        return Response("not for you", status_code=404)

    client = client_of(guard, app={"exception_handlers": {HTTPException: mine, 403: hidden}})
    refused = client.get("/who")
    assert refused.json() == {"mine": 401}
    assert refused.headers["www-authenticate"] == challenges.bearer()
    assert refused.headers["cache-control"] == "no-store"
    assert seen == [(NotAuthorizedException, "This request must carry an access token")]
    forbidden = client.get("/write", headers=bearer(issuer, "read"))
    assert (forbidden.status_code, forbidden.text) == (404, "not for you")
    assert "www-authenticate" not in forbidden.headers


def test_litestars_cors_sees_refusals_and_responds_to_preflights(guard: Guard) -> None:
    client = client_of(guard, app={"cors_config": CORSConfig(["https://app.test"])})
    refused = client.get("/who", headers=ORIGIN)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://app.test"
    preflight = {**ORIGIN, "Access-Control-Request-Method": "GET"}
    assert client.options("/who", headers=preflight).status_code == 204


def test_an_unavailable_issuer_is_503(issuer: LocalIssuer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard:
        refused = client_of(guard).get("/who", headers=bearer(issuer))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


def test_a_route_may_be_optional(guard: Guard, issuer: LocalIssuer) -> None:
    client = client_of(guard, optional=("/who",))
    assert client.get("/who").text == ANONYMOUS.identity
    assert "authorization" in client.get("/who").headers["vary"].lower()
    assert client.get("/who", headers=bearer(issuer, subject="ada")).text == "ada"
    assert client.get("/who", headers={"Authorization": "Bearer a.b.c"}).status_code == 401


def test_a_mounted_app_is_excluded_by_its_whole_path_only(guard: Guard) -> None:
    @asgi("/mounted", is_mount=True, copy_scope=True)
    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await Response(scope["path"]).to_asgi_response(app=None, request=Request(scope))(
            scope, receive, send
        )

    client = client_of(
        guard, app={"more": [mounted]}, exclude=("/health", "/health/", "/mounted/open")
    )
    assert client.get("/mounted/health").status_code == 401
    assert client.get("/mounted/open").status_code == 200
    assert client.get("/mounted/%6fpen?x=1").status_code == 200
    assert client.get("/mounted/closed").status_code == 401
    assert client.get("/mounted/open/../closed").status_code == 401


# Websockets


def test_a_websocket_is_guarded(guard: Guard, issuer: LocalIssuer) -> None:
    client = client_of(guard)
    sent = bearer(issuer, "write", subject="ada")
    with client.websocket_connect("/echo", headers=sent) as socket:
        assert socket.receive_text() == "ada"
        socket.send_text("hello")
        assert socket.receive_text() == "hello"
    for headers in ({}, bearer(issuer, "read")):
        with (
            pytest.raises(WebSocketDisconnect) as closed,
            client.websocket_connect("/echo", headers=headers),
        ):
            pass
        assert closed.value.code == 1008


@pytest.mark.parametrize(("scope_names", "status"), [((), 401), (("read",), 403)])
def test_a_refused_websocket_gets_a_response_where_the_server_can_send_one(
    scope_names: tuple[str, ...], status: int, guard: Guard, issuer: LocalIssuer
) -> None:
    headers = bearer(issuer, *scope_names) if scope_names else {}
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    scope: Any = {
        "type": "websocket",
        "path": "/echo",
        "raw_path": b"/echo",
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "extensions": {"websocket.http.response": {}},
    }
    anyio.run(make(guard), scope, receive, send)
    start, body = messages
    assert start["status"] == status
    assert b"www-authenticate" in dict(start["headers"])
    assert body["type"] == "websocket.http.response.body"


# Without the plugin


def test_the_middleware_works_alone_on_a_router(guard: Guard, issuer: LocalIssuer) -> None:
    middleware = DefineMiddleware(BearerMiddleware, guard=guard, require=scopes("read"))
    router = Router(
        "/inner",
        route_handlers=[who, write],
        middleware=[middleware],
        dependencies={"principal": provide_principal},
    )
    client = TestClient(Litestar([router, health]))
    assert client.get("/health").status_code == 200
    assert client.get("/inner/who").status_code == 401
    assert client.get("/inner/who", headers=bearer(issuer, "read", subject="ada")).text == "ada"
    refused = client.get("/inner/write", headers=bearer(issuer, "read"))
    assert 'scope="read write"' in refused.headers["www-authenticate"]


def test_the_middleware_may_stand_around_the_app(guard: Guard, issuer: LocalIssuer) -> None:
    inner: Any = Litestar([write])
    app: Any = BearerMiddleware(inner, guard=guard)
    client = TestClient(app)
    assert client.get("/write", headers=bearer(issuer, "write")).status_code == 200
    refused = client.get("/write", headers=bearer(issuer, "read"))
    assert (refused.status_code, 'scope="write"' in refused.headers["www-authenticate"]) == (
        403,
        True,
    )
    missing = client.get("/missing")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == challenges.bearer()


def test_misuse_is_named(guard: Guard) -> None:
    principal = {"principal": provide_principal}
    for path in ("/write", "/who"):
        client = TestClient(Litestar([write, who], dependencies=principal, debug=True))
        failed = client.get(path)
        assert failed.status_code == 500
        assert "no guard found: pass plugins=[BearerPlugin(guard)] to Litestar" in failed.text
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="pass a Guard"):
        BearerPlugin("guard")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="exclude=: pass a list of paths"):
        BearerPlugin(guard, exclude=["health"])


# OpenAPI


def test_openapi_names_the_issuer_and_each_routes_scopes(guard: Guard, issuer: LocalIssuer) -> None:
    schema = make(guard, optional=("/who",)).openapi_schema.to_schema()
    url = f"{issuer.url}/.well-known/openid-configuration"
    assert schema["components"]["securitySchemes"] == {
        "bearer": {"type": "openIdConnect", "openIdConnectUrl": url}
    }
    paths: Any = schema["paths"]
    assert paths["/who"]["get"]["security"] == [{}, {"bearer": []}]
    assert paths["/write"]["get"]["security"] == [{"bearer": ["write"]}]
    assert paths["/writers"]["get"]["security"] == [{"bearer": ["read", "write"]}]
    assert {"401", "403", "503"} <= set(paths["/write"]["get"]["responses"])
    for path in ("/free", "/health"):
        assert "security" not in paths[path]["get"]
        assert set(paths[path]["get"]["responses"]) == {"200"}


def test_openapi_of_the_apps_own_stays(guard: Guard, issuer: LocalIssuer) -> None:
    @get("/mine", security=[{"mine": []}], raises=[NotAuthorizedException])
    async def mine() -> str:
        return ""

    config = OpenAPIConfig("Recordings", "1", components=[Components()])
    schema: Any = make(
        guard, app={"more": [mine], "openapi_config": config}
    ).openapi_schema.to_schema()
    assert schema["paths"]["/mine"]["get"]["security"] == [{"mine": []}]
    assert "bearer" in schema["components"]["securitySchemes"]
    other: Any = Litestar([health]).openapi_schema.to_schema()
    assert "securitySchemes" not in other["components"]
    without = make(guard, app={"openapi_config": None})
    assert TestClient(without).get("/who", headers=bearer(issuer)).status_code == 200


KEY = LocalIssuer(algorithm="ES256").key.jwk()
SCHEMES: list[tuple[list[Issuer], dict[str, Any]]] = [
    ([Issuer("https://a.test", audience="x", keys=KEY)], {"bearer": ("http", "JWT")}),
    (
        [Issuer("https://a.test", audience="x", discovery_url="https://b.test/metadata")],
        {"bearer": ("openIdConnect", "https://b.test/metadata")},
    ),
    (
        [
            Issuer(
                "https://a.test",
                audience="x",
                tokens="opaque",
                jwks_uri="https://a.test/jwks",
                introspection=Introspection("a", client_secret="b", endpoint="https://a.test/i"),
            )
        ],
        {"bearer": ("http", None)},
    ),
    (
        [
            Issuer("https://a.test", audience="x"),
            Issuer("https://a.test/2", audience="x"),
            Issuer("urn:three", audience="x", keys=KEY),
        ],
        {
            "bearer-a.test": (
                "openIdConnect",
                "https://a.test/.well-known/openid-configuration",
            ),
            "bearer-a.test-2": (
                "openIdConnect",
                "https://a.test/2/.well-known/openid-configuration",
            ),
            "bearer-3": ("http", "JWT"),
        },
    ),
]


@pytest.mark.parametrize(("issuers", "expected"), SCHEMES)
def test_openapi_has_a_scheme_for_each_issuer(
    issuers: list[Issuer], expected: dict[str, Any]
) -> None:
    with Guard(*issuers) as guard:
        schema: Any = make(guard).openapi_schema.to_schema()
    found = {
        name: (scheme["type"], scheme.get("openIdConnectUrl") or scheme.get("bearerFormat"))
        for name, scheme in schema["components"]["securitySchemes"].items()
    }
    assert found == expected
    scopes_of = {"http": [], "openIdConnect": ["write"]}
    assert schema["paths"]["/write"]["get"]["security"] == [
        {name: scopes_of[kind]} for name, (kind, _) in expected.items()
    ]


def test_a_handler_with_two_paths_is_documented_once(guard: Guard) -> None:
    @get(["/one", "/two"], guards=[require_scopes("read")])
    async def both(request: Caller) -> str:
        return request.user.identity

    schema: Any = make(guard, app={"more": [both]}).openapi_schema.to_schema()
    for path in ("/one", "/two"):
        assert schema["paths"][path]["get"]["security"] == [{"bearer": ["read"]}]


def test_a_cached_response_is_that_of_its_token_alone(guard: Guard, issuer: LocalIssuer) -> None:
    @get("/mine", cache=60)
    async def mine(principal: NamedDependency[Principal]) -> str:
        calls.append(principal.identity)
        return principal.identity

    calls: list[str] = []
    app = Litestar([mine], plugins=[BearerPlugin(guard, optional=("/mine",))])
    with TestClient(app) as client:
        ada, bob = (bearer(issuer, subject=name) for name in ("ada", "bob"))
        for headers, name in ((ada, "ada"), (ada, "ada"), (bob, "bob"), ({}, ""), ({}, "")):
            assert client.get("/mine", headers=headers).text == name
        assert calls == ["ada", "bob", ""]
        assert client.get("/mine?n=1", headers=ada).text == "ada"
        assert calls[3:] == ["ada"]


def test_a_key_builder_of_the_apps_own_stays(guard: Guard, issuer: LocalIssuer) -> None:
    @get("/now", cache=60)
    async def now(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    config = ResponseCacheConfig(key_builder=lambda request: request.url.path)
    app = Litestar([now], plugins=[BearerPlugin(guard)], response_cache_config=config)
    with TestClient(app) as client:
        for name in ("ada", "bob"):
            assert client.get("/now", headers=bearer(issuer, subject=name)).text == "ada"


def test_the_user_of_another_middleware_is_not_the_caller(
    guard: Guard, issuer: LocalIssuer
) -> None:
    class Session(AbstractAuthenticationMiddleware):
        async def authenticate_request(
            self, connection: ASGIConnection[Any, Any, Any, Any]
        ) -> AuthenticationResult:
            return AuthenticationResult(Principal(subject="eve", scopes={"write"}), None)

    @get("/", guards=[require_scopes("write")])
    async def home(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    middleware = [DefineMiddleware(Session)]
    app = Litestar([home], plugins=[BearerPlugin(guard)], middleware=middleware)
    with TestClient(app) as client:
        assert client.get("/", headers=bearer(issuer, "read")).status_code == 403
        assert client.get("/", headers=bearer(issuer, "write")).text == "user"
