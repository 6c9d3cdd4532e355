"""Starlette: its own features keep working, and decorators carry the whole challenge."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Any, Literal

import anyio
import pytest
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from bearerguard import EXPOSED_HEADERS, ConfigurationError, Guard, role, scopes
from bearerguard.starlette import BearerMiddleware, require, require_scopes
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def bearer(issuer: LocalIssuer) -> Bearer:
    return lambda **claims: {"Authorization": f"Bearer {issuer.token(claims=claims)}"}


@require_scopes("write")
async def asynchronous(_request: Request) -> Response:
    return PlainTextResponse("async")


@require_scopes("write")
def synchronous(_request: Request) -> Response:
    return PlainTextResponse("sync")


@require(scopes("a"))
@require_scopes("b")
def stacked(request: Request) -> Response:
    return PlainTextResponse("stacked")


@require_scopes("write")
class Whole(HTTPEndpoint):
    async def get(self, _request: Request) -> Response:
        return PlainTextResponse("whole")


class Inherited(Whole):
    pass


class Methods(HTTPEndpoint):
    @require_scopes("write")
    async def get(self, _request: Request) -> Response:
        return PlainTextResponse("method")

    @require_scopes("write")
    def post(self, _request: Request) -> Response:
        return PlainTextResponse("method")


@require(role("boss"))
async def bosses(_request: Request) -> Response:
    return PlainTextResponse("boss")


@requires("write")
async def starlettes_own(request: Request) -> Response:
    return JSONResponse({"user": request.user.display_name, "scopes": sorted(request.auth.scopes)})


async def who(request: Request) -> Response:
    return JSONResponse(
        {
            "identity": request.user.identity,
            "authenticated": request.user.is_authenticated,
            "same": request.state.principal is request.user,
        }
    )


def streaming(_request: Request) -> Response:
    return StreamingResponse(iter(["a", "b"]))


@require_scopes("write")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("hello")
    await websocket.close()


@require_scopes("write")
class Socket(WebSocketEndpoint):
    encoding = "text"

    async def on_connect(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")


def partly(_extra: str, request: Request) -> Response:
    return PlainTextResponse("partial")


ROUTES = [
    Route("/async", asynchronous),
    Route("/sync", synchronous),
    Route("/stacked", stacked),
    Route("/whole", Whole),
    Route("/inherited", Inherited),
    Route("/methods", Methods),
    Route("/bosses", bosses),
    Route("/own", starlettes_own),
    Route("/who", who),
    Route("/streaming", streaming),
    Route("/partial", functools.partial(require_scopes("write")(partly), "x")),
    WebSocketRoute("/socket", socket),
    WebSocketRoute("/socket-class", Socket),
    Mount("/mounted", routes=[Route("/async", asynchronous), Route("/health", who)]),
]


@pytest.fixture
def client(guard: Guard) -> TestClient:
    bearer = Middleware(BearerMiddleware, guard=guard, exclude=("/open", "/mounted/health"))
    routes = [*ROUTES, Route("/open", asynchronous)]
    return TestClient(Starlette(routes=routes, middleware=[bearer]))


PATHS = ["/async", "/sync", "/whole", "/inherited", "/methods", "/partial", "/mounted/async"]


@pytest.mark.parametrize("path", PATHS)
def test_a_route_of_any_kind_is_guarded(path: str, client: TestClient, bearer: Bearer) -> None:
    assert client.get(path, headers=bearer(scope="write")).status_code == 200
    weak = client.get(path, headers=bearer(scope="read"))
    assert weak.status_code == 403
    assert 'scope="write"' in weak.headers["www-authenticate"]
    assert client.get(path).status_code == 401


def test_a_routes_refusal_is_the_middlewares(
    client: TestClient, guard: Guard, bearer: Bearer
) -> None:
    strict = Middleware(BearerMiddleware, guard=guard, require=scopes("write"))
    outer = TestClient(Starlette(routes=[Route("/async", who)], middleware=[strict]))
    token = {**bearer(scope="read"), "Origin": "https://app.test"}
    by_route, by_middleware = (
        client.get("/async", headers=token),
        outer.get("/async", headers=token),
    )
    assert by_route.status_code == by_middleware.status_code == 403
    assert by_route.content == by_middleware.content
    left = "access-token-expires-in"
    assert {**by_route.headers, left: ""} == {**by_middleware.headers, left: ""}
    open_route = client.get("/open")
    assert open_route.status_code == 401
    assert open_route.headers["www-authenticate"] == challenges.bearer("write")
    assert open_route.headers["cache-control"] == "no-store"
    assert client.post("/methods", headers=bearer(scope="read")).status_code == 403


def test_stacked_decorators_name_all_scopes(client: TestClient, bearer: Bearer) -> None:
    refused = client.get("/stacked", headers=bearer(scope="a"))
    assert 'scope="a b"' in refused.headers["www-authenticate"]
    assert client.get("/stacked", headers=bearer(scope="b a")).text == "stacked"


def test_a_missing_role_adds_no_scope_to_the_challenge(client: TestClient, bearer: Bearer) -> None:
    assert client.get("/bosses", headers=bearer(roles=["boss"])).text == "boss"
    refused = client.get("/bosses", headers=bearer())
    assert (refused.status_code, refused.headers["www-authenticate"]) == (403, challenges.bearer())


def test_starlettes_own_authentication_works(client: TestClient, bearer: Bearer) -> None:
    response = client.get("/own", headers=bearer(scope="write read", name="Ada"))
    assert response.json() == {"user": "Ada", "scopes": ["read", "write"]}
    assert client.get("/own", headers=bearer(scope="read")).status_code == 403
    expected = {"identity": "user", "authenticated": True, "same": True}
    assert client.get("/who", headers=bearer()).json() == expected
    assert client.get("/mounted/health").json()["authenticated"] is False
    assert client.get("/streaming", headers=bearer()).text == "ab"


@pytest.mark.parametrize("path", ["/socket", "/socket-class"])
def test_websockets_are_guarded(path: str, client: TestClient, bearer: Bearer) -> None:
    with client.websocket_connect(path, headers=bearer(scope="write")) as connected:
        assert connected.receive_text() == "hello"
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect(path, headers=bearer(scope="read")),
    ):
        pass
    assert denied.value.status_code == 403
    assert 'scope="write"' in denied.value.headers["www-authenticate"]
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
        pass


def test_cors_outside_the_guard_sees_refusals(guard: Guard) -> None:
    cors = Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=EXPOSED_HEADERS)
    bearer = Middleware(BearerMiddleware, guard=guard)
    client = TestClient(Starlette(routes=ROUTES, middleware=[cors, bearer]))
    refused = client.get("/async", headers={"Origin": "https://app.test"})
    assert refused.headers["access-control-allow-origin"] == "*"
    assert "WWW-Authenticate" in refused.headers["access-control-expose-headers"]


def test_misuse_is_named() -> None:
    client = TestClient(Starlette(routes=ROUTES))
    with pytest.raises(ConfigurationError, match="no guard found"):
        client.get("/async")
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="decorate its methods"):
        require_scopes("read")(type("Other", (), {}))
    with pytest.raises(ConfigurationError, match="must take its request"):
        require_scopes("read")(lambda request: None)("none")
    with pytest.raises(ConfigurationError, match="must take its request"):
        require_scopes("read")(getattr)(None, "name")  # written in C: its signature is unknown


class _OwnRequest(Request):
    """A framework's own."""


async def _annotated(q: str, own: _OwnRequest) -> None: ...
async def _optional(q: str, own: Request | None = None) -> None: ...
async def _unknown(own: NobodyKnows) -> None: ...  # type: ignore[name-defined] # noqa: F821
def _by_name(q: str, **others) -> None: ...
async def _bare() -> None: ...
async def _query(q: str, count: int = 0, names: list[str] | None = None) -> None: ...
async def _method(self) -> None: ...
async def _item(kind: Literal["a"], user: Annotated[str, Request]) -> None: ...


@pytest.mark.parametrize("function", [_annotated, _optional, _unknown, _by_name])
def test_a_route_that_may_take_a_request_can_be_decorated(function):
    assert require_scopes("read")(function).__name__ == function.__name__


@pytest.mark.parametrize("function", [_bare, _query, _method, _item])
def test_a_route_that_takes_no_request_is_refused_when_it_is_decorated(function):
    with pytest.raises(ConfigurationError, match=rf"{function.__name__} takes no request"):
        require_scopes("read")(function)


class Outer:
    """Middleware around the guard, which uses the request's state before and after."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            request = Request(scope)
            request.state.request_id = "r1"
            await self.app(scope, receive, send)
            scope["outer"].append(dict(request.state._state))


def test_what_an_endpoint_sets_in_its_state_reaches_middleware_around_the_guard(guard, bearer):
    async def home(request: Request) -> Response:
        assert request.state.request_id == "r1"
        request.state.rows = 7
        request.scope["state"].update(more=1, less=2)
        request.scope["state"] |= {"most": 3}
        request.scope["state"].setdefault("kept", 4)
        del request.state.less
        request.state.principal = "the endpoint's own"
        del request.state.principal
        request.scope["state"].pop("request_id")
        return PlainTextResponse("ok")

    outer: list[dict[str, object]] = []
    shared: dict[str, object] = {"pool": "from the lifespan"}
    stack = [Middleware(Outer), Middleware(BearerMiddleware, guard=guard)]
    app = Starlette(routes=[Route("/", home)], middleware=stack)

    async def server(scope, receive, send):
        scope["state"] = shared  # some servers give the same dict to all requests
        scope["outer"] = outer
        await app(scope, receive, send)

    TestClient(server).get("/", headers=bearer())
    assert outer == [{"pool": "from the lifespan", "rows": 7, "more": 1, "most": 3, "kept": 4}]
    assert "principal" not in shared


@pytest.mark.parametrize("order", ["added later", "given", "app"])
def test_cors_middleware_inside_the_guard_is_reported_at_the_start(issuer, caplog, order):
    guard = issuer.guard()  # of its own: a line is written once a minute
    cors, bearer_middleware = (
        Middleware(CORSMiddleware, allow_origins=["*"]),
        Middleware(BearerMiddleware, guard=guard),
    )
    app: Any
    if order == "app":
        app = BearerMiddleware(Starlette(middleware=[cors]), guard=guard)
    elif order == "given":
        app = Starlette(middleware=[bearer_middleware, cors])
    else:
        app = Starlette(middleware=[cors])
        app.add_middleware(BearerMiddleware, guard=guard)
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "GET"}
    assert TestClient(app).options("/", headers=headers).status_code == 401
    assert "CORSMiddleware lies inside the guard" in caplog.text
    assert (
        "a CORS preflight was refused: put the CORS middleware outside, or pass_preflights=True"
        in caplog.text
    )


def test_an_app_that_wraps_itself_is_searched_once_and_reports_nothing(guard, caplog):
    async def own(scope, receive, send): ...

    own.app = own  # type: ignore[attr-defined]
    BearerMiddleware(own, guard=guard)
    assert not caplog.text


def test_pass_preflights_is_true_or_false(guard):
    with pytest.raises(ConfigurationError, match="pass_preflights=: pass True or False"):
        BearerMiddleware(Starlette(), guard=guard, pass_preflights="no")  # type: ignore[arg-type]


def test_nothing_is_reported_where_preflights_work(guard, caplog):
    cors = Middleware(CORSMiddleware, allow_origins=["*"])
    outside = Starlette(middleware=[cors, Middleware(BearerMiddleware, guard=guard)])
    inside = BearerMiddleware(Starlette(middleware=[cors]), guard=guard, pass_preflights=True)
    headers = {"Origin": "https://app.test", "Access-Control-Request-Method": "GET"}
    for app in (outside, inside):
        assert TestClient(app).options("/", headers=headers).status_code == 200
    assert "preflight" not in caplog.text


@pytest.mark.parametrize("wrap", ["app", "middleware", "mounted"])
def test_a_decorator_above_the_routes_own_is_refused_at_the_start(wrap, guard):
    async def home(request: Request) -> Response:
        return PlainTextResponse("open")

    routes: list[Any] = [Route("/", home), WebSocketRoute("/socket", socket)]
    require_scopes("write")(home)  # as a decorator above `@app.route("/")`
    if wrap == "app":
        with pytest.raises(ConfigurationError, match="home is a route without its requirement"):
            BearerMiddleware(Starlette(routes=routes), guard=guard)
        return
    if wrap == "mounted":
        routes = [Mount("/inner", routes=routes), Mount("/other", app=PlainTextResponse("x"))]
    app = Starlette(routes=routes, middleware=[Middleware(BearerMiddleware, guard=guard)])
    with (
        pytest.raises(ConfigurationError, match=r"put require\(\) below the route's decorator"),
        TestClient(app),  # its lifespan
    ):
        pass


def test_a_server_is_told_that_the_app_cannot_start(guard):
    """An exception alone would mean an app without a lifespan, which is served."""

    async def home(request: Request): ...

    require_scopes("write")(home)
    bearer = Middleware(BearerMiddleware, guard=guard)
    app = Starlette(routes=[Route("/", home)], middleware=[bearer])
    messages: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        messages.append(message)

    with pytest.raises(ConfigurationError):
        anyio.run(app, {"type": "lifespan", "state": {}}, receive, send)
    (message,) = messages
    assert message["type"] == "lifespan.startup.failed"
    assert "home is a route without its requirement" in message["message"]
    with pytest.raises(ConfigurationError, match="home is a route"):  # without a lifespan
        TestClient(app).get("/nowhere")


def test_scopes_that_are_no_connection_pass_untouched(guard):
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)

    middleware: Any = BearerMiddleware(app, guard=guard)
    anyio.run(middleware, {"type": "own"}, None, None)
    assert seen == [{"type": "own"}]


def test_a_route_that_takes_a_bare_connection_gets_a_response(client: TestClient, bearer: Bearer):
    @require_scopes("write")
    async def home(connection: HTTPConnection) -> Response:
        return PlainTextResponse("open")

    async def bare(request: Request) -> Response:
        return await home(HTTPConnection(request.scope))

    assert isinstance(client.app, Starlette)
    client.app.router.routes.append(Route("/bare", bare))
    assert client.get("/bare", headers=bearer(scope="write")).text == "open"
    assert client.get("/bare", headers=bearer(scope="read")).status_code == 403
