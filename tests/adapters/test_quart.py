"""Quart: the extension, its decorators, websockets, and what error handlers see."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import Any

import pytest
from quart import (
    Blueprint,
    Quart,
    Response,
    abort,
    jsonify,
    redirect,
    request_started,
    websocket,
)
from quart.testing.connections import WebsocketResponseError
from quart.views import MethodView, View
from werkzeug.exceptions import HTTPException

from bearerguard import ANONYMOUS, ConfigurationError, Guard, scopes
from bearerguard.quart import BearerGuard, current_principal, require, require_scopes
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges
from tests.adapters.tokens import bearer

STRANGERS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer a.b.c"},
    {"Authorization": "Bearer"},
)
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"  # Quart runs on nothing else


@require_scopes("write")
def synchronous() -> str:
    return current_principal.identity


@require_scopes("write")
async def asynchronous() -> str:
    return current_principal.identity


@require_scopes("write")
class Whole(View):
    async def dispatch_request(self, **_: Any) -> str:
        return current_principal.identity


class Methods(MethodView):
    @require_scopes("write")
    async def get(self) -> str:
        return current_principal.identity


@require_scopes("write")
class WholeMethods(MethodView):
    def get(self) -> str:
        return current_principal.identity


@require(scopes("a"))
@require_scopes("b")
async def stacked() -> str:
    return "stacked"


async def who() -> Response:
    return jsonify(current_principal.identity)


@require_scopes("write")
async def echo() -> None:
    await websocket.send(current_principal.identity)
    await websocket.send(await websocket.receive())


async def unguarded_socket() -> None:
    await websocket.send(current_principal.identity)


def make(guard: Guard, **options: Any) -> Quart:
    app = Quart("recordings")
    BearerGuard(app, guard=guard, **options)
    blueprint = Blueprint("inner", __name__, url_prefix="/inner")
    for place in (app, blueprint):
        place.add_url_rule("/sync", view_func=synchronous)
        place.add_url_rule("/async", view_func=asynchronous)
        place.add_url_rule("/whole", view_func=Whole.as_view("whole"))
        place.add_url_rule("/methods", view_func=Methods.as_view("methods"))
        place.add_url_rule("/whole-methods", view_func=WholeMethods.as_view("whole_methods"))
        place.add_url_rule("/stacked", view_func=stacked)
        place.add_url_rule("/who", view_func=who)
        place.add_websocket("/echo", view_func=echo)
        place.add_websocket("/socket", view_func=unguarded_socket)
    app.register_blueprint(blueprint)
    return app


PATHS = ["/sync", "/async", "/whole", "/methods", "/whole-methods", "/inner/sync", "/inner/whole"]


@pytest.mark.parametrize("path", PATHS)
async def test_a_view_of_any_kind_is_guarded(path: str, guard: Guard, issuer: LocalIssuer) -> None:
    client = make(guard).test_client()
    passed = await client.get(path, headers=bearer(issuer, "write", subject="ada"))
    assert (passed.status_code, await passed.get_data(as_text=True)) == (200, "ada")
    assert int(passed.headers["Access-Token-Expires-In"]) > 3500
    weak = await client.get(path, headers=bearer(issuer, "read"))
    assert weak.status_code == 403
    assert 'scope="write"' in weak.headers["WWW-Authenticate"]
    assert (await client.get(path)).status_code == 401


async def test_a_views_refusal_is_the_middlewares(guard: Guard, issuer: LocalIssuer) -> None:
    token = {**bearer(issuer, "read"), "Origin": "https://app.test"}
    by_view = await make(guard).test_client().get("/sync", headers=token)
    strict = make(guard, require=scopes("write")).test_client()
    by_middleware = await strict.get("/who", headers=token)
    assert by_view.status_code == by_middleware.status_code == 403
    assert await by_view.get_data() == await by_middleware.get_data()
    # The second may have changed in between.
    first, second = (
        {name.lower(): value for name, value in each.headers.items()}
        for each in (by_view, by_middleware)
    )
    left = "access-token-expires-in"
    assert first | {left: ""} == second | {left: ""}


async def test_stacked_decorators_name_all_scopes(guard: Guard, issuer: LocalIssuer) -> None:
    refused = await make(guard).test_client().get("/stacked", headers=bearer(issuer, "a"))
    assert 'scope="a b"' in refused.headers["WWW-Authenticate"]


async def test_current_principal_is_the_caller_of_the_request(
    guard: Guard, issuer: LocalIssuer
) -> None:
    client = make(guard, exclude=("/who", "/sync"), optional=("/inner/who",)).test_client()
    sent = bearer(issuer, subject="ada")
    assert await (await client.get("/inner/who", headers=sent)).json == "ada"
    assert await (await client.get("/inner/who")).json == ANONYMOUS.identity
    assert await (await client.get("/who")).json == ANONYMOUS.identity
    excluded = await client.get("/sync")
    assert excluded.status_code == 401
    assert excluded.headers["WWW-Authenticate"] == challenges.bearer("write")


async def test_an_error_handlers_own_response_keeps_the_challenge(
    guard: Guard, issuer: LocalIssuer
) -> None:
    app = make(guard)

    @app.errorhandler(401)
    async def unauthorized(error: HTTPException) -> Any:
        return jsonify(mine=error.code), 401

    @app.errorhandler(403)
    async def forbidden(_error: HTTPException) -> Any:
        return "not for you", 404

    client = app.test_client()
    refused = await client.get("/who")
    assert await refused.json == {"mine": 401}
    assert refused.headers.getlist("WWW-Authenticate") == [challenges.bearer()]
    assert refused.headers["Cache-Control"] == "no-store"
    hidden = await client.get("/sync", headers=bearer(issuer, "read"))
    assert (hidden.status_code, await hidden.get_data()) == (404, b"not for you")
    assert "WWW-Authenticate" not in hidden.headers


async def test_a_general_error_handler_receives_the_refusal(guard: Guard) -> None:
    app, seen = make(guard), []

    @app.errorhandler(HTTPException)
    async def note(error: HTTPException) -> HTTPException:
        seen.append((error.code, error.description))
        return error

    assert (await app.test_client().get("/who")).status_code == 401
    assert seen == [(401, "This request must carry an access token")]


async def test_an_error_handler_may_redirect_but_not_let_a_request_pass(guard: Guard) -> None:
    app = make(guard)
    responses: list[Any] = [redirect("/login"), "welcome", ("broken", 500)]

    @app.errorhandler(401)
    async def respond(_error: HTTPException) -> Any:
        return responses.pop(0)

    client = app.test_client()
    assert (await client.get("/who")).location == "/login"
    for _ in range(2):
        refused = await client.get("/who")
        assert refused.status_code == 401
        assert refused.headers["WWW-Authenticate"] == challenges.bearer()
    assert responses == []


@pytest.mark.parametrize("sent", STRANGERS)
@pytest.mark.parametrize("is_muted", [False, True])
async def test_a_stranger_is_not_told_what_a_url_preprocessor_finds(
    is_muted: bool, sent: dict[str, str], guard: Guard
) -> None:
    app, looked_up = Quart("projects"), []

    @app.url_value_preprocessor
    def find(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        looked_up.append(values)
        if values is not None and values.get("name") != "known":
            abort(404)

    @app.route("/<name>")
    async def project(name: str) -> str:
        return name

    BearerGuard(app, guard=guard)
    client = app.test_client()
    with request_started.muted() if is_muted else nullcontext():
        found, missing = [await client.get(path, headers=sent) for path in ("/known", "/other")]
    assert found.status_code == missing.status_code
    assert found.status_code in {400, 401}
    assert found.headers == missing.headers
    assert await found.get_data() == await missing.get_data()
    assert len(looked_up) == (2 if is_muted else 0)


@pytest.mark.parametrize("sent", STRANGERS)
async def test_nothing_of_the_app_runs_before_a_refusal(sent: dict[str, str], guard: Guard) -> None:
    app, called = Quart("order"), []

    @app.before_request
    async def early() -> None:
        called.append("before")

    @app.after_request
    async def late(response: Response) -> Response:
        called.append("after")
        response.headers["X-Late"] = "yes"
        return response

    BearerGuard(app, guard=guard)
    app.add_url_rule("/who", view_func=who)
    refused = await app.test_client().get("/missing", headers=sent)
    assert refused.status_code in {400, 401}
    assert refused.headers["X-Late"] == "yes"  # as quart-cors adds its headers
    assert called == ["after"]


async def test_an_exception_in_a_hook_leaves_the_refusal_as_it_is(
    guard: Guard, caplog: pytest.LogCaptureFixture
) -> None:
    app = make(guard)
    app.config["PROPAGATE_EXCEPTIONS"] = True

    @app.after_request
    async def broken(_response: Response) -> Response:
        raise RuntimeError("a bug of the app")

    with caplog.at_level(logging.ERROR):
        refused = await app.test_client().get("/who")
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == challenges.bearer()
    assert "raised an exception while it handled a refused request" in caplog.text


async def test_an_unavailable_issuer_is_503(issuer: LocalIssuer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard:
        refused = await make(guard).test_client().get("/who", headers=bearer(issuer))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


PREFLIGHT = {"Origin": "https://app.test", "Access-Control-Request-Method": "GET"}


async def test_quarts_own_response_to_options_passes_and_no_other(
    guard: Guard, issuer: LocalIssuer
) -> None:
    app = make(guard)

    @app.route("/own", methods=["OPTIONS"])
    async def own() -> str:
        return "my options"

    client = app.test_client()
    allowed = await client.options("/who", headers=PREFLIGHT)
    assert allowed.status_code == 200
    assert "GET" in allowed.headers["Allow"]
    assert (await client.options("/own")).status_code == 401
    assert (await client.options("/who", headers=STRANGERS[1])).status_code == 401
    assert (await client.options("/own", headers=bearer(issuer))).status_code == 200


# Websockets

ACCEPTS_RESPONSES: dict[str, Any] = {"extensions": {"websocket.http.response": {}}}
Connect = Callable[..., Awaitable[list[Any]]]


def connect(app: Quart, path: str, headers: dict[str, str], **scope: Any) -> Awaitable[list[Any]]:
    """Open a websocket as a server does, and return the messages that the app sends."""
    sent: list[Any] = []
    received = [{"type": "websocket.connect"}, {"type": "websocket.receive", "text": "hello"}]

    async def receive() -> Any:
        return received.pop(0) if received else await forever()

    async def send(message: Any) -> None:
        sent.append(message)

    async def run() -> list[Any]:
        raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        whole: Any = {
            "type": "websocket",
            "asgi": {"spec_version": "2.3"},
            "path": path,
            "scheme": "ws",
            "query_string": b"",
            "headers": raw,
            **scope,
        }
        await app(whole, receive, send)
        return sent

    return run()


async def forever() -> Any:
    import anyio

    await anyio.sleep_forever()


@pytest.mark.parametrize("path", ["/echo", "/inner/echo"])
async def test_a_websocket_is_guarded(path: str, guard: Guard, issuer: LocalIssuer) -> None:
    client = make(guard).test_client()
    async with client.websocket(path, headers=bearer(issuer, "write", subject="ada")) as socket:
        assert await socket.receive() == "ada"
        await socket.send("hello")
        assert await socket.receive() == "hello"
    for sent, status, challenge in (
        ({}, 401, challenges.bearer()),
        (bearer(issuer, "read"), 403, 'scope="write"'),
    ):
        with pytest.raises(WebsocketResponseError) as refused:
            async with client.websocket(path, headers=sent) as socket:
                await socket.receive()
        assert refused.value.response.status_code == status
        assert challenge in refused.value.response.headers["WWW-Authenticate"]


@pytest.mark.parametrize("extensions", [{}, ACCEPTS_RESPONSES])
async def test_a_refused_websocket_is_closed_by_1008_or_gets_a_response(
    extensions: dict[str, Any], guard: Guard, issuer: LocalIssuer
) -> None:
    app = make(guard)
    refusals = [
        await connect(app, "/echo", {}, **extensions),
        await connect(app, "/echo", bearer(issuer, "read"), **extensions),
    ]
    for messages, status in zip(refusals, (401, 403), strict=True):
        if extensions:
            assert messages[0]["status"] == status
            assert messages[-1]["type"] == "websocket.http.response.body"
        else:
            assert messages == [{"type": "websocket.close", "code": 1008}]


async def test_a_websocket_that_is_refused_after_its_accept_is_closed_by_1008(
    guard: Guard, issuer: LocalIssuer
) -> None:
    app = make(guard)

    @app.before_websocket
    async def accept() -> None:
        await websocket.accept()

    messages = await connect(app, "/echo", bearer(issuer, "read"), **ACCEPTS_RESPONSES)
    assert [each["type"] for each in messages] == ["websocket.accept", "websocket.close"]
    assert messages[-1]["code"] == 1008


async def test_an_error_handler_cannot_accept_a_refused_websocket(guard: Guard) -> None:
    app = make(guard)

    @app.errorhandler(401)
    async def accept(_error: HTTPException) -> Any:
        await websocket.accept()
        return "welcome", 200

    messages = await connect(app, "/socket", {}, **ACCEPTS_RESPONSES)
    assert [each["type"] for each in messages] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert messages[0]["status"] == 401


@pytest.mark.parametrize("extensions", [{}, ACCEPTS_RESPONSES])
async def test_a_bug_in_a_hook_of_websockets_leaves_the_refusal_as_it_is(
    extensions: dict[str, Any], guard: Guard
) -> None:
    app = make(guard)

    @app.after_websocket
    async def broken(_response: Any) -> Any:
        raise RuntimeError("a bug of the app")

    messages = await connect(app, "/socket", {}, **extensions)
    assert messages[0].get("status", messages[0].get("code")) == (401 if extensions else 1008)


async def test_a_websocket_may_be_optional(guard: Guard) -> None:
    client = make(guard, optional=("/socket",)).test_client()
    async with client.websocket("/socket") as socket:
        assert await socket.receive() == ANONYMOUS.identity


# Set-up


async def test_app_factories_configure_one_extension_for_several_apps() -> None:
    extension = BearerGuard(exclude=("/health",))
    local = LocalIssuer(algorithm="ES256", audience="one")

    def create_app(audience: str) -> Quart:
        app = Quart("factory")
        app.config.update(BEARERGUARD_ISSUER=local.url, BEARERGUARD_AUDIENCE=[audience])
        extension.init_app(app)
        app.add_url_rule("/who", view_func=who)
        return app

    with local.serve():
        one, two = create_app("one"), create_app("two")
        token = bearer(local)
        assert (await one.test_client().get("/who", headers=token)).status_code == 200
        assert (await two.test_client().get("/who", headers=token)).status_code == 401
    with pytest.raises(ConfigurationError, match="BearerGuard already"):
        extension.init_app(one)
    with pytest.raises(ConfigurationError, match="BEARERGUARD_ISSUER is not set"):
        extension.init_app(Quart("bare"))


async def test_misuse_is_named(guard: Guard) -> None:
    bare = Quart("bare")
    bare.config["PROPAGATE_EXCEPTIONS"] = True
    bare.add_url_rule("/sync", view_func=synchronous)
    async with bare.test_request_context("/sync"):
        with pytest.raises(ConfigurationError, match="no guard found"):
            synchronous()
        with pytest.raises(ConfigurationError, match="no guard found"):
            str(current_principal.identity)
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"is not a quart\.views\.View"):
        require_scopes("read")(type("Other", (), {}))
    app = make(guard)
    async with app.test_request_context("/who"):
        with pytest.raises(ConfigurationError, match="no guard found"):
            await app.preprocess_request()


async def test_a_decorator_above_the_routes_is_refused_when_the_app_starts(guard: Guard) -> None:
    app = make(guard)

    @require_scopes("write")
    @app.route("/wrong")
    async def wrong() -> str:
        return "unguarded"

    with pytest.raises(ConfigurationError, match="put require\\(\\) below"):
        await app.startup()


async def test_lifespan_passes_and_other_errors_stay_the_apps(
    guard: Guard, issuer: LocalIssuer
) -> None:
    app = make(guard)

    @app.route("/gone")
    async def gone() -> str:
        abort(410)

    async with app.test_app() as running:
        client = running.test_client()
        assert (await client.get("/gone", headers=bearer(issuer))).status_code == 410
        assert (await client.get("/nothing", headers=bearer(issuer))).status_code == 404
        assert (await client.get("/nothing")).status_code == 401
