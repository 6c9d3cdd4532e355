"""FastAPI: `BearerSecurity` alone, behind the middleware, on websockets, overridden, in OpenAPI.

Annotations are not postponed here: FastAPI finds names of functions, such as fixtures, only so.
"""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any

import anyio
import pytest
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    Request,
    Response,
    Security,
    WebSocket,
)
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import FastAPIError
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import HTTPConnection
from starlette.routing import Mount
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from bearerguard import (
    ANONYMOUS,
    ConfigurationError,
    Guard,
    Issuer,
    Principal,
    role,
    scopes,
    starlette,
)
from bearerguard.fastapi import BearerMiddleware, BearerSecurity
from bearerguard.starlette import require_scopes
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges, fastapi_app

Wrap = Callable[..., TestClient]
ALONE, BEHIND = "alone", "behind the middleware"


@pytest.fixture
def events() -> list[str]:
    return []


@pytest.fixture
def guard(issuer: LocalIssuer, events: list[str]) -> Iterator[Guard]:
    with issuer.guard(on_event=lambda event: events.append(event.code)) as guard:
        guard.warm()
        yield guard


@pytest.fixture
def bearer(guard: Guard) -> BearerSecurity:
    return BearerSecurity(guard, scopes={"read": "Read"})


@pytest.fixture
def sent(issuer: LocalIssuer) -> Callable[..., dict[str, str]]:
    return lambda *names, **more: {"Authorization": f"Bearer {issuer.token(scopes=names, **more)}"}


@pytest.fixture(params=[ALONE, BEHIND])
def wrap(request: pytest.FixtureRequest, guard: Guard) -> Wrap:
    """Return a client of an app, alone or behind the middleware."""

    def wrapped(app: FastAPI, **options: Any) -> TestClient:
        if request.param == BEHIND:
            app.add_middleware(BearerMiddleware, guard=guard, **options)
        return TestClient(app)

    return wrapped


def who(principal: Principal) -> dict[str, Any]:
    return {"identity": principal.identity, "scopes": sorted(principal.scopes)}


# --- Alone and behind the middleware alike


def test_a_route_gets_its_principal(bearer, wrap, sent):
    app = FastAPI()

    @app.get("/async")
    async def asynchronous(principal: Annotated[Principal, Security(bearer, scopes=["read"])]):
        return who(principal)

    @app.get("/sync")
    def synchronous(principal: Annotated[Principal, Depends(bearer)]):
        return who(principal)

    client = wrap(app)
    for path in ("/async", "/sync"):
        response = client.get(path, headers=sent("read"))
        assert response.json() == {"identity": "user", "scopes": ["read"]}
        assert int(response.headers["access-token-expires-in"]) > 3500
        assert response.headers["cache-control"] == "private"
        assert len(response.headers.get_list("access-token-expires-in")) == 1
        assert client.get(path).status_code == 401


def test_a_refusal_is_complete_in_every_way(bearer, wrap, sent):
    app = FastAPI()

    @app.get("/")
    def home(principal: Annotated[Principal, Security(bearer, scopes=["write", "read"])]): ...

    client = wrap(app, require=scopes("write", "read"))
    missing = client.get("/")
    assert missing.status_code == 401
    assert missing.headers["www-authenticate"] == challenges.bearer("write read")
    assert missing.headers["cache-control"] == "no-store"
    assert missing.headers["content-type"] == "application/problem+json"
    assert missing.json()["title"] == "Unauthorized"
    weak = client.get("/", headers={**sent("read"), "Origin": "https://app.test"})
    assert weak.status_code == 403
    assert 'error="insufficient_scope"' in weak.headers["www-authenticate"]
    assert weak.json()["scope"] == "write read"
    assert "WWW-Authenticate" in weak.headers["access-control-expose-headers"]
    assert int(weak.headers["access-token-expires-in"]) > 3500
    expired = client.get("/", headers=sent("read", expires_in=-60))
    assert expired.status_code == 401
    assert expired.headers["access-token-expires-in"] == "0"
    assert 'error="invalid_token"' in expired.headers["www-authenticate"]
    malformed = client.get("/", headers={"Authorization": "Bearer a b"})
    assert malformed.status_code == 400
    assert malformed.json()["error"] == "invalid_request"


def test_an_outage_of_the_issuer_is_503_with_a_time_to_wait(wrap):
    down = LocalIssuer(algorithm="ES256")
    down.outage = True
    bearer = BearerSecurity(down.guard())
    app = FastAPI()

    @app.get("/")
    def home(principal: Annotated[Principal, Depends(bearer)]): ...

    client = TestClient(app)
    response = client.get("/", headers={"Authorization": f"Bearer {down.token()}"})
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) >= 1
    assert response.json()["status"] == 503
    assert "www-authenticate" not in response.headers


def test_scopes_of_app_routers_and_routes_add_up_and_a_refusal_names_them_all(bearer, wrap, sent):
    def nested(principal: Annotated[Principal, Security(bearer, scopes=["d"])]):
        return principal

    app = FastAPI(dependencies=[Security(bearer, scopes=["a"])])
    router = APIRouter(prefix="/r", dependencies=[Security(bearer, scopes=["b"])])

    @router.get("/x")
    def x(principal: Annotated[Principal, Security(nested, scopes=["c"])]):
        return who(principal)

    @app.get("/direct")
    def direct(): ...

    app.include_router(router)
    client = wrap(app)
    assert client.get("/r/x", headers=sent(*"abcd")).status_code == 200
    for lacking in "abcd":
        refused = client.get("/r/x", headers=sent(*set("abcd") - {lacking}))
        assert refused.status_code == 403
        assert set(refused.json()["scope"].split()) == set("abcd")
    if not app.user_middleware:  # the middleware knows no route
        assert set(client.get("/r/x").json()["scope"].split()) == set("abcd")
    assert client.get("/direct", headers=sent("a")).status_code == 200
    assert client.get("/direct", headers=sent("b")).json()["scope"] == "a"


def test_roles_and_claims_are_required_per_dependency_and_per_route(guard, wrap, sent):
    bearer = BearerSecurity(guard, require=role("staff"))
    app = FastAPI()

    @app.get("/staff")
    def staff(principal: Annotated[Principal, Depends(bearer)]): ...

    @app.get("/admin", dependencies=[Security(bearer.require(role("admin")), scopes=["write"])])
    def admin(): ...

    client = wrap(app)
    assert client.get("/staff", headers=sent(roles=["staff"])).status_code == 200
    refused = client.get("/staff", headers=sent())
    assert (refused.status_code, refused.headers["www-authenticate"]) == (403, challenges.bearer())
    both = sent("write", roles=["staff", "admin"])
    assert client.get("/admin", headers=both).status_code == 200
    # Where a role is missing, more scopes would not help: none is named.
    for headers in (sent(roles=["staff"]), sent("write", roles=["staff"])):
        refused = client.get("/admin", headers=headers)
        assert refused.headers["www-authenticate"] == challenges.bearer()
    refused = client.get("/admin", headers=sent(roles=["staff", "admin"]))
    assert refused.json()["scope"] == "write"


def test_a_requirement_of_the_guard_holds_too(issuer, sent):
    bearer = BearerSecurity(issuer.guard(require=scopes("base")))
    app = FastAPI()

    @app.get("/")
    def home(principal: Annotated[Principal, Security(bearer, scopes=["read"])]): ...

    client = TestClient(app)
    assert client.get("/", headers=sent("read")).json()["scope"] == "base read"
    assert client.get("/", headers=sent("read", "base")).status_code == 200


def test_a_token_is_validated_once_however_many_dependencies_ask(bearer, guard, wrap, sent):
    calls: list[object] = []
    decide_now, recent = guard.decide_now, guard.cached

    def counted(*args: Any, **options: Any) -> Any:
        calls.append(args)
        return decide_now(*args, **options)

    guard.decide_now = counted
    app = FastAPI(dependencies=[Depends(bearer)])

    @app.get("/")
    def home(
        one: Annotated[Principal, Security(bearer, scopes=["a"])],
        two: Annotated[Principal, Security(bearer, scopes=["b"])],
        three: Annotated[Principal, Depends(bearer.require(scopes("a")))],
    ):
        return one is two is three

    client = wrap(app)
    assert client.get("/", headers=sent("a", "b")).json() is True
    assert len(calls) == 1
    assert recent is guard.cached


def test_websockets_are_refused_before_they_are_accepted(bearer, wrap, sent):
    app = FastAPI()
    router = APIRouter(dependencies=[Security(bearer, scopes=["a"])])

    @router.websocket("/socket")
    async def socket(
        websocket: WebSocket, principal: Annotated[Principal, Security(bearer, scopes=["b"])]
    ):
        await websocket.accept()
        await websocket.send_text(principal.identity)
        await websocket.close()

    app.include_router(router)
    client = wrap(app)
    with client.websocket_connect("/socket", headers=sent("a", "b")) as connected:
        assert connected.receive_text() == "user"
    with (
        pytest.raises(WebSocketDenialResponse) as denied,
        client.websocket_connect("/socket", headers=sent("a")),
    ):
        pass
    assert denied.value.status_code == 403
    assert 'scope="a b"' in denied.value.headers["www-authenticate"]
    assert denied.value.headers["cache-control"] == "no-store"
    with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect("/socket"):
        pass
    assert denied.value.status_code == 401


def test_a_websocket_is_closed_by_1008_where_the_server_cannot_send_a_response(bearer, wrap):
    app = FastAPI()

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, principal: Annotated[Principal, Depends(bearer)]): ...

    client = wrap(app)

    async def server(scope, receive, send):
        scope["extensions"] = {}
        await client.app(scope, receive, send)

    with (
        pytest.raises(WebSocketDisconnect) as closed,
        TestClient(server).websocket_connect("/socket"),
    ):
        pass
    assert closed.value.code == 1008


def test_an_optional_token_may_be_absent_and_not_invalid(guard, sent):
    maybe = BearerSecurity(guard, optional=True)
    app = FastAPI()

    @app.get("/")
    def home(principal: Annotated[Principal, Security(maybe, scopes=["read"])]):
        return principal.is_authenticated

    @app.get("/role")
    def by_role(principal: Annotated[Principal, Depends(maybe.require(role("admin")))]):
        return principal.is_authenticated

    for client in (TestClient(app), _behind(app, guard, optional=True)):
        absent = client.get("/")
        assert absent.json() is False
        assert "Authorization" in absent.headers["vary"]
        assert client.get("/", headers=sent("read")).json() is True
        assert client.get("/", headers={"Authorization": "Bearer x"}).status_code == 401
        assert client.get("/", headers=sent("write")).status_code == 403
        assert client.get("/role").json() is False
        assert client.get("/role", headers=sent()).status_code == 403
        assert client.get("/role", headers=sent(roles=["admin"])).json() is True


def _behind(app: FastAPI, guard: Guard, **options: Any) -> TestClient:
    return TestClient(BearerMiddleware(app, guard=guard, **options))


def test_a_required_principal_is_demanded_where_the_middleware_lets_anybody_through(
    bearer, guard, sent
):
    app = FastAPI()

    @app.get("/public/mine")
    def mine(principal: Annotated[Principal, Security(bearer, scopes=["read"])]):
        return who(principal)

    client = _behind(app, guard, optional=("/public/*",), require=scopes("base"))
    assert client.get("/public/mine").headers["www-authenticate"] == challenges.bearer("base read")
    assert client.get("/public/mine", headers=sent("base", "read")).status_code == 200
    # What the middleware excludes, the dependency authenticates by itself.
    client = _behind(app, guard, exclude=("/public/*",), require=scopes("base"))
    response = client.get("/public/mine", headers=sent("read"))
    assert response.json()["identity"] == "user"
    assert "access-token-expires-in" in response.headers
    assert client.get("/public/mine").json()["scope"] == "read"


def test_what_the_middleware_excludes_in_a_mounted_app_is_authenticated_there(bearer, guard, sent):
    inner, app = FastAPI(), FastAPI()

    @inner.get("/mine")
    def mine(principal: Annotated[Principal, Security(bearer)]):
        return principal.identity

    app.mount("/inner", inner)
    client = _behind(app, guard, exclude=("/inner/mine",))
    assert client.get("/inner/mine", headers=sent()).json() == "user"
    assert client.get("/inner/mine").status_code == 401
    # A pattern that only looks like the path below the mount excludes nothing.
    client = _behind(app, guard, exclude=("/mine",))
    assert client.get("/inner/mine", headers=sent()).json() == "user"
    assert client.get("/inner/mine").status_code == 401


def test_a_request_carries_the_principal_for_other_code(bearer, sent):
    app = FastAPI(dependencies=[Depends(bearer)])

    @app.get("/")
    def home(request: Request):
        return request.state.principal.identity, request.user.identity

    assert TestClient(app).get("/", headers=sent()).json() == ["user", "user"]


def test_the_user_of_another_package_stays(bearer, sent):
    app = FastAPI(dependencies=[Depends(bearer)])

    @app.get("/")
    def home(connection: HTTPConnection):
        return connection.user

    async def sessions(scope, receive, send):
        scope["user"] = "of a session"
        await app(scope, receive, send)

    assert TestClient(sessions).get("/", headers=sent()).json() == "of a session"


def test_cors_middleware_of_the_app_sees_refusals_and_responds_to_preflights(bearer, sent):
    app = FastAPI()

    @app.get("/")
    def home(principal: Annotated[Principal, Depends(bearer)]): ...

    origin = {"Origin": "https://app.test"}
    response = TestClient(app).get("/", headers={**sent(), **origin})
    assert "Access-Token-Expires-In" in response.headers["access-control-expose-headers"]
    app = FastAPI(
        middleware=[Middleware(CORSMiddleware, allow_origins=["*"], expose_headers=["X"])]
    )
    app.add_api_route("/", home)
    client = TestClient(app)
    preflight = client.options("/", headers={**origin, "Access-Control-Request-Method": "GET"})
    assert preflight.status_code == 200
    refused = client.get("/", headers=origin)
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, "*")
    assert refused.headers.get_list("access-control-expose-headers") == ["X"]  # as the app has it


def test_trio_works_too(bearer, issuer, sent):
    app = FastAPI()
    other = BearerSecurity(issuer.guard())  # it has no keys yet

    @app.get("/")
    async def home(principal: Annotated[Principal, Depends(other)]):
        return principal.identity

    with TestClient(app, backend="trio") as client:
        assert client.get("/", headers=sent()).json() == "user"
        assert client.get("/").status_code == 401


def test_a_stream_has_the_headers_of_its_token(bearer, sent):
    app = FastAPI()

    @app.get("/")
    async def lines(principal: Annotated[Principal, Depends(bearer)]) -> AsyncIterator[int]:
        yield 1
        yield 2

    response = TestClient(app).get("/", headers=sent())
    assert response.text == "1\n2\n"
    assert "access-token-expires-in" in response.headers


def test_postponed_annotations_work():
    client, token = TestClient(fastapi_app.app), fastapi_app.issuer.token
    reader = {"Authorization": f"Bearer {token(scopes=['read'])}"}
    admin = {"Authorization": f"Bearer {token(scopes=['read'], roles=['admin'])}"}
    assert client.get("/recordings", headers=reader).json() == {"for": "user"}
    assert client.get("/admin/name", headers=reader).status_code == 403
    assert client.get("/admin/name", headers=admin).status_code == 200
    with client.websocket_connect("/live", headers=reader) as connected:
        assert connected.receive_text() == "user"


# --- Exception handlers


def _refused_by(app: FastAPI, bearer: BearerSecurity, **headers: str) -> Any:
    @app.get("/")
    def home(principal: Annotated[Principal, Depends(bearer)]): ...

    return TestClient(app).get("/", headers=headers)


@pytest.mark.parametrize("kind", [HTTPException, StarletteHTTPException])
@pytest.mark.parametrize("is_async", [True, False])
def test_an_apps_own_handler_sees_a_refusal_and_the_challenge_stays(kind, is_async, bearer):
    app = FastAPI()

    def handler(request: Request, error: HTTPException) -> Response:
        return JSONResponse({"message": error.detail}, status_code=error.status_code)

    async def async_handler(request: Request, error: HTTPException) -> Response:
        return handler(request, error)

    app.add_exception_handler(kind, async_handler if is_async else handler)  # type: ignore[arg-type]
    response = _refused_by(app, bearer)
    assert response.json() == {"message": "This request must carry an access token"}
    assert response.headers["content-type"] == "application/json"
    assert response.headers["www-authenticate"] == challenges.bearer()
    assert response.headers["cache-control"] == "no-store"


def test_a_handler_that_reuses_fastapis_gets_its_headers_once(bearer):
    app = FastAPI()

    @app.exception_handler(StarletteHTTPException)
    async def reuse(request: Request, error: StarletteHTTPException) -> Response:
        return await http_exception_handler(request, error)

    response = _refused_by(app, bearer)
    assert response.json() == {"detail": "This request must carry an access token"}
    assert response.headers.get_list("www-authenticate") == [challenges.bearer()]
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("kind", [401, HTTPException])
def test_a_handler_may_lead_a_browser_to_a_login(bearer, kind):
    app = FastAPI()

    @app.exception_handler(kind)
    def login(request: Request, error: HTTPException) -> Response:
        assert error.headers is not None
        return PlainTextResponse("log in", 303, {"Location": "/login", **error.headers})

    @app.get("/")
    def home(principal: Annotated[Principal, Depends(bearer)]): ...

    response = TestClient(app, follow_redirects=False).get("/")
    assert (response.status_code, response.text) == (303, "log in")
    assert response.headers["www-authenticate"] == challenges.bearer()


def test_a_body_of_the_guards_own_is_sent(issuer):
    guard = issuer.guard(denial_body=lambda decision: ("text/plain", b"no"))
    response = _refused_by(FastAPI(), BearerSecurity(guard))
    assert (response.text, response.headers["content-type"]) == ("no", "text/plain")
    assert "content" not in BearerSecurity(guard).responses[401]


# --- Tests of an app


def test_a_test_overrides_the_dependency(bearer, wrap, guard, caplog):
    ada = Principal(issuer="https://issuer.test", subject="ada", scopes={"read"})
    app = FastAPI()
    router = APIRouter(prefix="/r", dependencies=[Depends(bearer)])

    @app.get("/mine")
    def mine(principal: Annotated[Principal, Security(bearer, scopes=["write"])]):
        return principal.identity

    @app.get("/admin")
    def admin(principal: Annotated[Principal, Depends(bearer.require(role("admin")))]):
        return principal.identity

    @app.get("/other")
    def other():
        return "not guarded by the dependency"

    @router.get("/x")
    def x(): ...

    @router.websocket("/socket")
    async def socket(websocket: WebSocket, principal: Annotated[Principal, Depends(bearer)]):
        await websocket.accept()
        await websocket.send_text(principal.identity)
        await websocket.close()

    app.include_router(router)
    client = wrap(app)
    assert client.get("/mine").status_code == 401
    app.dependency_overrides[bearer] = lambda: ada
    assert client.get("/mine").json() == "ada"
    assert client.get("/r/x").status_code == 200
    with client.websocket_connect("/r/socket") as connected:
        assert connected.receive_text() == "ada"
    assert client.get("/admin").status_code == 403  # ada is none
    app.dependency_overrides[bearer] = lambda: Principal(subject="ada", roles={"admin"})
    assert client.get("/admin").json() == "ada"
    app.dependency_overrides[bearer] = lambda: {"sub": "ada"}
    with pytest.raises(ConfigurationError, match="must return a Principal"):
        client.get("/admin")
    if app.user_middleware:  # it lets through only what the override decides
        assert client.get("/other").status_code == 401
        assert client.get("/nowhere").status_code == 401
        assert client.post("/mine").status_code == 401
        assert "dependency_overrides replaces a BearerSecurity" in caplog.text
    app.dependency_overrides.clear()
    assert client.get("/mine").status_code == 401


def test_an_override_in_a_mounted_app_works_there_alone(bearer, guard):
    inner, app = FastAPI(), FastAPI()

    @inner.get("/mine")
    @app.get("/mine")
    def mine(principal: Annotated[Principal, Depends(bearer)]):
        return principal.identity

    app.mount("/inner", inner)
    app.mount("/plain", PlainTextResponse("not FastAPI's"))
    client = _behind(app, guard)
    inner.dependency_overrides[bearer] = lambda: Principal(subject="ada")
    assert client.get("/inner/mine").json() == "ada"
    assert client.get("/inner/other").status_code == 401
    assert client.get("/mine").status_code == 401
    assert client.get("/plain").status_code == 401


def test_an_override_of_anything_else_opens_nothing(bearer, guard):
    def database() -> str:
        return "production"

    def current_user(principal: Annotated[Principal, Depends(bearer)]) -> str:
        return principal.identity

    app = FastAPI()

    @app.get("/")
    def home(
        user: Annotated[str, Depends(current_user)], database: Annotated[str, Depends(database)]
    ):
        return user

    client = _behind(app, guard)
    app.dependency_overrides[database] = lambda: "test"
    app.dependency_overrides[current_user] = lambda: "ada"
    app.dependency_overrides[BearerSecurity(guard)] = lambda: ANONYMOUS
    assert client.get("/").status_code == 401


# --- What cannot work


def _starting(app: FastAPI) -> None:
    with TestClient(app):
        pass


def _string_of_scopes(app: FastAPI, bearer: BearerSecurity) -> None:
    @app.get("/x")
    def x(principal: Annotated[Principal, Security(bearer, scopes="read")]): ...


def _string_of_scopes_by_default(app: FastAPI, bearer: BearerSecurity) -> None:
    router = APIRouter()

    @router.get("/x")
    def x(principal: Principal = Security(bearer, scopes="read")): ...  # noqa: B008, FAST002

    app.include_router(router)


def _string_of_scopes_of_a_router(app: FastAPI, bearer: BearerSecurity) -> None:
    router = APIRouter(dependencies=[Security(bearer, scopes="read")])

    @router.get("/x")
    def x(): ...

    app.include_router(router)


def _malformed_scope(app: FastAPI, bearer: BearerSecurity) -> None:
    @app.get("/x")
    def x(principal: Annotated[Principal, Security(bearer, scopes=["read write"])]): ...


def _require_without_a_request(app: FastAPI, bearer: BearerSecurity) -> None:
    @app.get("/x")
    @require_scopes("read")
    def x(request): ...  # no annotation: FastAPI takes it for a query parameter


def _require_above_the_route(app: FastAPI, bearer: BearerSecurity) -> None:
    router = APIRouter()

    @require_scopes("read")
    @router.get("/x")
    def x(request: Request): ...

    app.include_router(router)


def _two_guards_of_one_name(app: FastAPI, bearer: BearerSecurity) -> None:
    other = BearerSecurity(LocalIssuer().guard())

    @app.get("/x")
    def x(
        one: Annotated[Principal, Depends(bearer)], two: Annotated[Principal, Depends(other)]
    ): ...


MISUSES = [
    (
        fastapi_app.unreadable,
        r"route '/x': parameter principal: FastAPI cannot read its annotation",
    ),
    (_string_of_scopes, r"route '/x': Security\(scopes='read'\): pass a list"),
    (_string_of_scopes_by_default, r"route '/x': Security\(scopes='read'\): pass a list"),
    (_string_of_scopes_of_a_router, r"route '/x': Security\(scopes='read'\): pass a list"),
    (_malformed_scope, r"route '/x': scopes\('read write'\)"),
    (_require_without_a_request, r"route '/x': require.*takes no request"),
    (_require_above_the_route, "below the route's decorator"),
    (
        _two_guards_of_one_name,
        "scheme_name=: two guards have the scheme name|its guard is not that",
    ),
]


@pytest.mark.parametrize("start", ["init_app", "middleware", "around", "first request"])
@pytest.mark.parametrize(
    ("misuse", "message"), MISUSES, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_route_that_cannot_work_is_refused_when_the_app_starts(misuse, message, start, guard):
    bearer = BearerSecurity(guard)
    app = FastAPI()

    @app.get("/fine")
    def fine(principal: Annotated[Principal, Depends(bearer)]): ...

    misuse(app, bearer)
    if start == "init_app":
        bearer.init_app(app)
    elif start == "middleware":
        app.add_middleware(BearerMiddleware, guard=guard)
    begin = {
        "around": lambda: BearerMiddleware(app, guard=guard),
        # Of a server without a lifespan, whatever the request.
        "first request": lambda: TestClient(app).get("/fine"),
    }.get(start, lambda: _starting(app))
    with pytest.raises(ConfigurationError, match=message):
        begin()


def test_an_app_that_was_not_started_does_not_respond_either(bearer, guard, sent):
    app = FastAPI()
    _malformed_scope(app, bearer)
    app.add_middleware(BearerMiddleware, guard=guard)
    client = TestClient(app)
    for headers in (None, sent("read")):
        with pytest.raises(ConfigurationError, match="route '/x'"):
            client.get("/anything", headers=headers)


def test_a_server_is_told_that_the_app_cannot_start(bearer, guard):
    """An exception alone would mean an app without a lifespan, which is served."""
    app = FastAPI()
    _malformed_scope(app, bearer)
    app.add_middleware(BearerMiddleware, guard=guard)
    messages: list[Any] = []

    async def receive() -> dict[str, str]:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        messages.append(message)

    with pytest.raises(ConfigurationError):
        anyio.run(app, {"type": "lifespan", "state": {}}, receive, send)
    (message,) = messages
    assert message["type"] == "lifespan.startup.failed"
    assert "route '/x'" in message["message"]


def test_routes_that_come_after_the_middleware_are_checked_too(bearer, guard):
    app = FastAPI()
    around = BearerMiddleware(app, guard=guard)
    _malformed_scope(app, bearer)
    with pytest.raises(ConfigurationError, match="route '/x'"), TestClient(around):
        pass


def test_another_guard_than_the_middlewares_is_refused(guard, issuer, sent):
    other = BearerSecurity(issuer.guard())
    inner = FastAPI()

    @inner.get("/x")
    def x(principal: Annotated[Principal, Depends(other)]): ...

    app = FastAPI(routes=[Mount("/admin", inner)])
    with pytest.raises(ConfigurationError, match=r"route '/admin/x'.*is not that of"):
        BearerMiddleware(app, guard=guard)
    # It guards alone what the middleware excludes.
    client = TestClient(BearerMiddleware(app, guard=guard, exclude=("/admin/*",)))
    assert client.get("/admin/x").status_code == 401
    assert client.get("/admin/x", headers=sent()).status_code == 200


def test_a_class_or_a_method_instead_of_a_dependency_is_refused(bearer):
    app = FastAPI()
    with pytest.raises(ConfigurationError, match=r"Depends\(BearerSecurity\): pass an instance"):

        @app.get("/class")
        def by_class(principal: Annotated[Principal, Depends(BearerSecurity)]): ...

    with pytest.raises(ConfigurationError, match=r"require\(\): call it"):

        @app.get("/method")
        def by_method(principal: Annotated[Principal, Depends(bearer.require)]): ...


def test_a_request_cannot_bring_a_principal_along():
    app = FastAPI()
    with pytest.raises(FastAPIError):

        @app.post("/body")
        def of_the_body(principal: Principal): ...

    with pytest.raises(FastAPIError):

        @app.get("/query")
        def of_the_query(principal: Annotated[Principal, Depends()]): ...


def test_wrong_options_are_named(guard):
    with pytest.raises(ConfigurationError, match="guard=: pass a Guard"):
        BearerSecurity(None)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="optional=: pass True or False"):
        BearerSecurity(guard, optional=("/x",))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="scopes=: pass a dict"):
        BearerSecurity(guard, scopes=["read"])  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="require"):
        BearerSecurity(guard, require="admin")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"require\(\): pass a requirement"):
        BearerSecurity(guard).require("admin")  # type: ignore[arg-type]


def test_a_decorator_of_starlettes_module_works_on_a_route_with_a_request(guard, sent):
    app = FastAPI()

    @app.get("/x")
    @require_scopes("read")
    async def x(request: Request, count: int = 1):
        return count

    app.add_middleware(BearerMiddleware, guard=guard)
    client = TestClient(app)
    assert client.get("/x?count=3", headers=sent("read")).json() == 3
    assert client.get("/x", headers=sent()).json()["scope"] == "read"


def test_the_middleware_guards_an_app_that_is_not_a_fastapi_app(guard, sent):
    async def app(scope, receive, send):
        await PlainTextResponse("plain")(scope, receive, send)

    client = TestClient(BearerMiddleware(app, guard=guard))
    assert client.get("/").status_code == 401
    assert client.get("/", headers=sent()).text == "plain"
    with TestClient(BearerMiddleware(APIRouter(), guard=guard)) as client:  # its lifespan
        assert client.get("/").status_code == 401


def test_starlettes_middleware_sees_the_routes_of_included_routers(bearer, guard):
    app = FastAPI()
    _require_above_the_route(app, bearer)
    with pytest.raises(ConfigurationError, match="below the route's decorator"):
        starlette.BearerMiddleware(app, guard=guard)


# --- OpenAPI


ENDPOINTS = {
    "authorization_endpoint": "https://issuer.test/authorize",
    "token_endpoint": "https://issuer.test/token",
    "grant_types_supported": ["authorization_code", "client_credentials"],
}


class Publishing:
    """A transport whose issuer publishes its endpoints too."""

    def __init__(self, issuer: LocalIssuer, **members: Any) -> None:
        self.inner, self.members = issuer.transport(), members

    def fetch(self, request: Any) -> Any:
        response = self.inner.fetch(request)
        if ".well-known" not in request.url or "jwks" in request.url:
            return response
        body = json.loads(response.body) | self.members
        return type(response)(response.status, response.headers, json.dumps(body).encode())

    async def afetch(self, request: Any) -> Any:
        return self.fetch(request)


def _described_app(bearer: BearerSecurity, maybe: BearerSecurity | None = None) -> FastAPI:
    app = FastAPI()
    router = APIRouter(dependencies=[Security(bearer, scopes=["list"])])

    @app.get("/one")
    def one(principal: Annotated[Principal, Security(bearer, scopes=["read"])]): ...

    @app.get("/any", responses={401: {"description": "Of our own"}})
    def anybody(principal: Annotated[Principal, Depends(bearer)]): ...

    @app.get("/open")
    def open_to_all(): ...

    @app.get("/hidden", include_in_schema=False)
    def hidden(principal: Annotated[Principal, Depends(bearer)]): ...

    if maybe is not None:

        @app.get("/maybe")
        def optional(principal: Annotated[Principal, Depends(maybe)]): ...

    @router.post("/two")
    def two(): ...

    app.include_router(router, dependencies=[Depends(bearer.require(role("admin")))])
    return app


def test_openapi_names_the_issuers_metadata_without_any_fetch(guard):
    bearer = BearerSecurity(guard, description="Sign in at Example", scheme_name="example")
    app = _described_app(bearer)
    schema = app.openapi()
    assert schema["components"]["securitySchemes"] == {
        "example": {
            "type": "openIdConnect",
            "description": "Sign in at Example",
            "openIdConnectUrl": "https://issuer.test/.well-known/openid-configuration",
        }
    }
    assert schema["paths"]["/one"]["get"]["security"] == [{"example": ["read"]}]
    assert schema["paths"]["/two"]["post"]["security"] == [{"example": ["list"]}]
    assert "security" not in schema["paths"]["/open"]["get"]


@pytest.mark.parametrize("start", ["init_app", "middleware"])
def test_openapi_has_the_endpoints_that_the_issuer_publishes(issuer, start):
    guard = Guard(issuer.issuer(), transport=Publishing(issuer, **ENDPOINTS))
    bearer = BearerSecurity(guard, scopes={"read": "Read"}, description="Sign in")
    maybe = BearerSecurity(guard, optional=True, scopes={"read": "Read"}, description="Sign in")
    app = _described_app(bearer, maybe)
    around: Any = app
    if start == "init_app":
        bearer.init_app(app)
        maybe.init_app(app)
    else:
        around = BearerMiddleware(app, guard=guard, exclude=("/openapi.json",))
    with TestClient(around) as client:
        schema = client.get("/openapi.json").json()
    described = {"read": "Read", "list": ""}
    assert schema["components"]["securitySchemes"]["BearerSecurity"] == {
        "type": "oauth2",
        "description": "Sign in",
        "flows": {
            "authorizationCode": {
                "authorizationUrl": "https://issuer.test/authorize",
                "tokenUrl": "https://issuer.test/token",
                "scopes": described,
            },
            "clientCredentials": {"tokenUrl": "https://issuer.test/token", "scopes": described},
        },
    }
    assert schema["paths"]["/maybe"]["get"]["security"] == [{"BearerSecurity": []}, {}]


def test_openapi_documents_refusals_where_they_can_happen(bearer):
    app = _described_app(bearer)
    bearer.init_app(app)
    schema = app.openapi()
    assert schema is app.openapi()  # as FastAPI, it makes it once
    refusals = {
        path: {status for status in operation["responses"] if status in {"401", "403", "503"}}
        for path, item in schema["paths"].items()
        for operation in item.values()
    }
    assert refusals == {
        "/one": {"401", "403", "503"},
        "/any": {"401", "503"},
        "/open": set(),
        "/two": {"401", "403", "503"},
    }
    found = schema["paths"]["/one"]["get"]["responses"]["403"]
    content = found["content"]["application/problem+json"]
    assert content["schema"] == {"$ref": "#/components/schemas/BearerProblem"}
    assert "detail" in schema["components"]["schemas"]["BearerProblem"]["properties"]
    assert "WWW-Authenticate" in found["headers"]
    assert schema["paths"]["/any"]["get"]["responses"]["401"]["description"] == "Of our own"


def test_refusals_can_be_documented_as_fastapi_does(bearer):
    app = FastAPI(responses=bearer.responses)

    @app.get("/one")
    def one(principal: Annotated[Principal, Security(bearer, scopes=["read"])]): ...

    found = app.openapi()["paths"]["/one"]["get"]["responses"]
    assert set(found) == {"200", "401", "403", "503"}
    assert "detail" in found["401"]["content"]["application/problem+json"]["schema"]["properties"]


@pytest.mark.parametrize(
    "published",
    [
        {},
        {**ENDPOINTS, "grant_types_supported": ["urn:ietf:params:oauth:grant-type:device_code"]},
        {**ENDPOINTS, "grant_types_supported": "authorization_code"},
        {**ENDPOINTS, "token_endpoint": "http://issuer.test/token"},
        {"token_endpoint": "https://issuer.test/token"},
    ],
)
def test_endpoints_that_no_flow_can_use_are_left_out(issuer, published):
    guard = Guard(issuer.issuer(), transport=Publishing(issuer, **published))
    bearer = BearerSecurity(guard)
    app = _described_app(bearer)
    bearer.init_app(app)
    with TestClient(app) as client:
        schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["BearerSecurity"]["type"] == "openIdConnect"


def test_an_issuer_that_is_down_does_not_keep_the_app_from_starting(caplog):
    down = LocalIssuer()
    down.refuses = True
    bearer = BearerSecurity(down.guard())
    app = _described_app(bearer)
    bearer.init_app(app)
    with TestClient(app) as client:
        assert client.get("/one").status_code == 401
        assert client.get("/docs").status_code == 200
    assert "OpenAPI does not show the endpoints of the issuer" in caplog.text


@pytest.mark.parametrize(
    "issuers",
    [
        [Issuer("https://a.test", audience="api"), Issuer("https://b.test", audience="api")],
        [Issuer("https://a.test/{tenant}", audience="api", tenants=["t"])],
        [Issuer("https://a.test", audience="api", jwks_uri="https://a.test/jwks")],
        [Issuer("https://a.test", audience="api", shared_secret="s" * 32)],
    ],
)
def test_without_metadata_of_one_issuer_the_scheme_is_a_plain_bearer_token(issuers):
    bearer = BearerSecurity(Guard(*issuers))
    app = _described_app(bearer)
    bearer.init_app(app)
    with TestClient(app) as client:
        schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"]["BearerSecurity"] == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
    }


def test_a_discovery_url_is_named_in_openapi():
    given = "https://a.test/custom/metadata"
    bearer = BearerSecurity(Guard(Issuer("https://a.test", audience="api", discovery_url=given)))
    assert bearer.model.model_dump()["openIdConnectUrl"] == given


def test_an_app_without_openapi_starts_without_a_fetch(issuer):
    bearer = BearerSecurity(issuer.guard())
    app = FastAPI(openapi_url=None)
    bearer.init_app(app)
    before = issuer.hits.total()
    _starting(app)
    assert issuer.hits.total() == before


def test_the_apps_own_lifespan_runs(bearer):
    from contextlib import asynccontextmanager

    happened: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI):
        happened.append("started")
        yield {"pool": "a pool"}
        happened.append("ended")

    app = FastAPI(lifespan=lifespan)
    bearer.init_app(app)

    @app.get("/")
    def home(request: Request):
        return request.state.pool

    with TestClient(app) as client:
        assert client.get("/").json() == "a pool"
    assert happened == ["started", "ended"]
