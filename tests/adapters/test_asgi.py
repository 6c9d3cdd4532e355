"""What is particular to ASGI."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from bearerguard import ANONYMOUS, Allow, Guard, Principal, Request, scopes
from bearerguard.asgi import BearerMiddleware
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges

DENIAL: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}


class App:
    """Records the scopes it was called with; responds 200, or accepts."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200})
            for chunk in (b"a", b"b"):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body"})
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})


def scope(kind: str = "http", token: str | None = None, **more: Any) -> dict[str, Any]:
    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    given = {"type": kind, "method": "GET", "path": "/x", "headers": headers, **more}
    return {name: value for name, value in given.items() if value is not None}


def call(middleware: Any, scope: dict[str, Any], backend: str = "asyncio") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": f"{scope['type']}.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    anyio.run(middleware, scope, receive, send, backend=backend)
    return sent


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_cold_request_runs_on_asyncio_and_trio(backend: str, issuer: LocalIssuer) -> None:
    app = App()
    with issuer.guard() as cold:
        sent = call(
            BearerMiddleware(app, guard=cold), scope(token=issuer.token(scopes=["read"])), backend
        )
    assert [message.get("body") for message in sent[1:]] == [b"a", b"b", None]
    principal = app.scopes[0]["user"]
    assert isinstance(principal, Principal)
    assert app.scopes[0]["auth"].scopes == {"read"}
    assert app.scopes[0]["state"]["principal"] is principal


def test_authenticate_returns_the_decision_on_a_request(issuer: LocalIssuer) -> None:
    with issuer.guard(require=scopes("write")) as guard:

        def decide(token: str) -> Any:
            headers = {"Authorization": f"Bearer {token}"}
            return guard.run(guard.authenticate(Request("GET", "/x", headers)))

        strong = issuer.token(scopes=["write"])
        assert decide(strong) == Allow(guard.verify(strong))
        denied = decide(issuer.token(scopes=["read"]))
        assert (denied.status, denied.scope) == (403, "write")
        assert decide("abc").reason.code == "malformed_token"
        issuer.outage = True
        unknown = decide(issuer.token(header={"kid": "unknown"}))
        issuer.outage = False
        assert (unknown.status, unknown.retry_after) == (503, 1)


def test_a_warm_request_never_suspends(issuer: LocalIssuer, guard: Guard) -> None:
    token = issuer.token()
    guard.verify(token)

    async def send(_message: Any) -> None: ...

    async def step() -> None:
        request: Any = BearerMiddleware(App(), guard=guard)(scope(token=token), send, send)  # type: ignore[arg-type]
        with pytest.raises(StopIteration):
            request.send(None)

    anyio.run(step)


@pytest.mark.parametrize("kind", ["lifespan", "whatever"])
def test_lifespan_and_unknown_scopes_pass_untouched(kind: str, guard: Guard) -> None:
    app = App()
    given = {"type": kind}
    call(BearerMiddleware(app, guard=guard), given)
    assert app.scopes[0] is given
    assert given == {"type": kind}


def test_no_websocket_is_a_preflight(guard: Guard) -> None:
    middleware = BearerMiddleware(App(), guard=guard, pass_preflights=True)
    asked = scope("websocket", method="OPTIONS")
    asked["headers"] = [(b"origin", b"https://a.test"), (b"access-control-request-method", b"GET")]
    assert call(middleware, asked) == [{"type": "websocket.close", "code": 1008}]


def test_a_websocket_is_accepted_or_refused(issuer: LocalIssuer, guard: Guard) -> None:
    middleware = BearerMiddleware(App(), guard=guard, require=scopes("read"))
    good = scope("websocket", issuer.token(scopes=["read"]), method=None)
    assert call(middleware, good) == [{"type": "websocket.accept"}]
    bare = scope("websocket", method=None)
    assert call(middleware, bare) == [{"type": "websocket.close", "code": 1008}]
    start, body = call(middleware, {**bare, **DENIAL})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
    assert (b"www-authenticate", challenges.bearer("read").encode()) in start["headers"]
    assert body["type"] == "websocket.http.response.body"
    assert b'"status": 401' in body["body"]
    weak = {**scope("websocket", issuer.token(scopes=["x"]), method=None), **DENIAL}
    assert call(middleware, weak)[0]["status"] == 403


def test_requests_that_share_a_state_do_not_share_a_principal(
    issuer: LocalIssuer, guard: Guard
) -> None:
    app, state = App(), {"database": object()}
    middleware = BearerMiddleware(app, guard=guard, optional=True)
    call(middleware, scope(token=issuer.token(), state=state))
    call(middleware, scope(state=state))
    assert list(state) == ["database"]
    assert [each["state"]["principal"].is_authenticated for each in app.scopes] == [True, False]
    assert all(each["state"]["database"] is state["database"] for each in app.scopes)


@pytest.mark.parametrize(
    ("path", "more", "excluded"),
    [
        ("/health", {}, True),
        ("/api/health", {"root_path": "/api"}, True),
        ("/api/health", {"root_path": "/api/"}, True),
        ("/health", {"root_path": "/api"}, True),
        ("/api", {"root_path": "/api"}, False),
        ("/apihealth", {"root_path": "/api"}, False),
        ("/static/logo.png", {}, True),
        ("/static", {}, False),
        ("/Health", {}, False),
        ("/health/", {}, False),
        ("/static//x", {}, False),
        ("/static/../admin", {}, False),
        ("/static/./x", {}, False),
        ("/static/..", {}, False),
        ("/static/a\\b", {}, False),
        ("/static/a/b", {"raw_path": b"/static/a%2Fb"}, False),
        ("/static/a\\b", {"raw_path": b"/static/a%5cb"}, False),
        ("/static/.x", {"raw_path": b"/static/%2ex"}, False),
        ("/static/ä", {"raw_path": "/static/ä".encode()}, True),
        ("/static/%2e%2e/x", {"raw_path": b"/static/%252e%252e/x"}, False),
        ("/static/%252E%252e/x", {}, False),
        ("/static/a%2fx", {}, False),
        ("/static/..;a=1/x", {}, False),
        ("/static/.\t./x", {"raw_path": b"/static/.%09./x"}, False),
        ("/static/x\x00", {"raw_path": b"/static/x%00"}, False),
        ("/static/100%", {"raw_path": b"/static/100%25"}, True),
    ],
)
def test_only_paths_as_written_are_excluded(
    path: str, more: dict[str, Any], excluded: bool, guard: Guard
) -> None:
    app = App()
    middleware = BearerMiddleware(app, guard=guard, exclude=("/health", "/static/*"))
    status = call(middleware, scope(path=path, **more))[0]["status"]
    assert (status == 200) is excluded
    assert all(each["user"] is ANONYMOUS for each in app.scopes)


def test_cache_control_is_added_without_expiry_headers(issuer: LocalIssuer) -> None:
    with issuer.guard(expiry_headers=None) as guard:
        start, *_ = call(BearerMiddleware(App(), guard=guard), scope(token=issuer.token()))
    assert start["headers"] == [(b"cache-control", b"private")]


def test_a_guard_that_adds_no_headers_leaves_the_response_as_it_is(issuer: LocalIssuer) -> None:
    with issuer.guard(expiry_headers=None, cache_control=None) as guard:
        start, *_ = call(BearerMiddleware(App(), guard=guard), scope(token=issuer.token()))
    assert start == {"type": "http.response.start", "status": 200}


def test_a_guard_that_adds_nothing_and_ends_nothing_passes_on_the_servers_own_send(
    issuer: LocalIssuer,
) -> None:
    given: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        given.append(send)

    async def send(_message: Any) -> None: ...

    options: dict[str, Any] = {"expiry_headers": None, "cache_control": None}
    with issuer.guard(**options, stream_until_expiry=False) as guard:
        middleware: Any = BearerMiddleware(app, guard=guard)
        anyio.run(middleware, scope(token=issuer.token()), None, send)
    assert given == [send]


def test_the_innermost_middleware_counts(issuer: LocalIssuer, guard: Guard) -> None:
    app = App()
    inner = BearerMiddleware(app, guard=guard, require=scopes("read"))
    outer = BearerMiddleware(inner, guard=guard, exclude=("/*",))
    assert call(outer, scope())[0]["status"] == 401
    call(outer, scope(token=issuer.token(scopes=["read"])))
    assert app.scopes[-1]["bearerguard"].requirement == scopes("read")


def test_nothing_is_added_to_vary_star(issuer: LocalIssuer, guard: Guard) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        headers = [(b"vary", b"*")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})

    start, *_ = call(BearerMiddleware(app, guard=guard, optional=True), scope())
    assert start["headers"] == [(b"vary", b"*")]


def test_what_an_endpoint_sets_in_the_state_reaches_middleware_outside(
    issuer: LocalIssuer, guard: Guard
) -> None:
    """Of two guards, one inside the other, and of each way to write."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        state = scope["state"]
        state["rows"] = 7
        state.update({"a": 1}, b=2)
        state |= {"c": 3}
        assert (state.setdefault("d", 4), state.setdefault("d", 5)) == (4, 4)
        assert (state.pop("a"), state.pop("a", "none")) == (1, "none")
        del state["old"]
        assert state["principal"].is_authenticated
        await send({"type": "http.response.start", "status": 200, "headers": []})

    state: dict[str, Any] = {"old": 1, "database": 2}
    nested = BearerMiddleware(BearerMiddleware(app, guard=guard), guard=guard)
    call(nested, scope(token=issuer.token(), state=state))
    assert state == {"database": 2, "rows": 7, "b": 2, "c": 3, "d": 4}
    empty: dict[str, Any] = {}
    with pytest.raises(KeyError):  # of "old", which was never there
        call(nested, scope(token=issuer.token(), state=empty))
    assert empty == {"rows": 7, "b": 2, "c": 3, "d": 4}


def test_emptying_the_state_reaches_middleware_outside_and_leaves_no_principal(
    issuer: LocalIssuer, guard: Guard
) -> None:
    app = App()
    outer: dict[str, Any] = {"principal": "the app's own", "rows": 1}
    call(BearerMiddleware(app, guard=guard), scope(token=issuer.token(), state=outer))
    state = app.scopes[0]["state"]
    state["principal"] = "another"
    assert outer == {"principal": "the app's own", "rows": 1}
    with pytest.raises(KeyError):
        state.pop("nothing")
    assert {state.popitem()[0], state.popitem()[0]} == {"principal", "rows"}
    assert outer == {"principal": "the app's own"}
    state.update(principal="again", rows=2)
    state.clear()
    assert (state, outer) == ({}, {"principal": "the app's own"})


def test_HDR_05_header_names_are_case_insensitive(issuer: LocalIssuer, guard: Guard) -> None:
    app = App()
    middleware = BearerMiddleware(app, guard=guard)
    line = b"Bearer " + issuer.token().encode()
    for name in (b"Authorization", b"AUTHORIZATION"):
        for _ in ("cold", "warm"):
            started = call(middleware, scope() | {"headers": [(name, line)]})[0]
            assert started.get("status") == 200
    assert len(app.scopes) == 4
    for other in (line, b"Bearer other"):
        twice = [(b"authorization", line), (b"Authorization", other)]
        for headers in (twice, twice[::-1]):
            assert call(middleware, scope() | {"headers": headers})[0]["status"] == 400
    headers = [(b"Authorization", line), (b"Origin", b"https://page.example.com")]
    names = [name for name, _ in call(middleware, scope() | {"headers": headers})[0]["headers"]]
    assert b"access-control-expose-headers" in names
    refused = call(middleware, scope() | {"headers": [(b"ORIGIN", b"https://page.example.com")]})[0]
    assert b"access-control-expose-headers" in dict(refused["headers"])


def test_HDR_05_authorization_is_found_among_any_number_of_headers(
    issuer: LocalIssuer, guard: Guard
) -> None:
    middleware = BearerMiddleware(App(), guard=guard)
    line = (b"AUTHORIZATION", b"Bearer " + issuer.token().encode())
    others = [(b"x-%d" % number, b"") for number in range(1000)] + [(b"x" * 100, b"")]
    for _ in range(2):
        assert call(middleware, scope() | {"headers": [*others, line]})[0]["status"] == 200
        assert call(middleware, scope() | {"headers": [line, *others, line]})[0]["status"] == 400


def test_the_middleware_is_a_class(issuer: LocalIssuer, guard: Guard) -> None:
    """It can be annotated, subclassed, and refuse in another way."""

    class Teapot(BearerMiddleware):
        async def refuse(self, scope: Any, receive: Any, send: Any, decision: Any) -> None:
            await send({"type": "http.response.start", "status": 418, "headers": []})

    app = App()
    middleware: BearerMiddleware = Teapot(app, guard=guard)
    assert (middleware.app, middleware.guard) == (app, guard)
    assert call(middleware, scope())[0]["status"] == 418
    assert call(middleware, scope(token=issuer.token()))[0]["status"] == 200
    assert app.scopes[0]["bearerguard"] is middleware.admission


def test_a_refused_caller_is_nobody_to_an_app_behind_an_override(
    issuer: LocalIssuer, guard: Guard
) -> None:
    """Nor is it whom a guard outside has allowed."""

    class Lenient(BearerMiddleware):
        async def refuse(self, scope: Any, receive: Any, send: Any, decision: Any) -> None:
            await self.app(scope, receive, send)

    app = App()
    inner = Lenient(app, guard=guard, require=scopes("admin"))
    call(BearerMiddleware(inner, guard=guard), scope(token=issuer.token(), state={}))
    call(inner, scope())
    for seen in app.scopes:
        assert seen["bearerguard"] is inner.admission
        assert seen["user"] is seen["auth"] is seen["state"]["principal"] is ANONYMOUS


@pytest.mark.parametrize("name", ["app", "guard", "admission"])
def test_what_a_warm_request_relies_on_cannot_be_replaced(guard: Guard, name: str) -> None:
    middleware = BearerMiddleware(App(), guard=guard)
    with pytest.raises(AttributeError, match=f"{name}: cannot be replaced"):
        setattr(middleware, name, getattr(middleware, name))
