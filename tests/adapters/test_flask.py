"""Flask: the extension, its decorators, and what error handlers and flask-cors see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, jsonify, redirect, stream_with_context
from flask.views import MethodView, View
from flask_cors import CORS
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import BaseConverter

from bearerguard import ANONYMOUS, ConfigurationError, Guard, scopes
from bearerguard.flask import BearerGuard, current_principal, require, require_scopes
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges

Bearer = Callable[..., dict[str, str]]
STRANGERS: tuple[dict[str, str], ...] = (
    {},
    {"Authorization": "Bearer a.b.c"},
    {"Authorization": "Bearer"},
)


@pytest.fixture
def bearer(issuer: LocalIssuer) -> Bearer:
    return lambda **claims: {"Authorization": f"Bearer {issuer.token(claims=claims)}"}


@require_scopes("write")
def synchronous() -> str:
    return "sync"


@require_scopes("write")
async def asynchronous() -> str:
    return "async"


@require_scopes("write")
class Whole(View):
    def dispatch_request(self) -> str:
        return "whole"


class Methods(MethodView):
    @require_scopes("write")
    def get(self) -> str:
        return "method"


@require_scopes("write")
class WholeMethods(MethodView):
    def get(self) -> str:
        return "whole method"


@require(scopes("a"))
@require_scopes("b")
def stacked() -> str:
    return "stacked"


def who() -> Response:
    return jsonify(current_principal.identity)


def streaming() -> Response:
    def chunks() -> Any:
        yield current_principal.identity
        yield "!"

    return Response(stream_with_context(chunks()))


def make(guard: Guard, **options: Any) -> Flask:
    app = Flask("recordings")
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
        place.add_url_rule("/streaming", view_func=streaming)
    app.register_blueprint(blueprint)
    return app


PATHS = ["/sync", "/async", "/whole", "/methods", "/whole-methods", "/inner/sync", "/inner/whole"]


@pytest.mark.parametrize("path", PATHS)
def test_a_view_of_any_kind_is_guarded(path: str, guard: Guard, bearer: Bearer) -> None:
    client = make(guard).test_client()
    assert client.get(path, headers=bearer(scope="write")).status_code == 200
    weak = client.get(path, headers=bearer(scope="read"))
    assert weak.status_code == 403
    assert 'scope="write"' in weak.headers["WWW-Authenticate"]
    assert client.get(path).status_code == 401


def test_a_views_refusal_is_the_middlewares(guard: Guard, bearer: Bearer) -> None:
    token = {**bearer(scope="read"), "Origin": "https://app.test"}
    by_view = make(guard).test_client().get("/sync", headers=token)
    by_middleware = make(guard, require=scopes("write")).test_client().get("/who", headers=token)
    assert by_view.status_code == by_middleware.status_code == 403
    assert by_view.data == by_middleware.data
    left = "Access-Token-Expires-In"
    assert {**by_view.headers, left: ""} == {**by_middleware.headers, left: ""}


def test_stacked_decorators_name_all_scopes(guard: Guard, bearer: Bearer) -> None:
    client = make(guard).test_client()
    refused = client.get("/stacked", headers=bearer(scope="a"))
    assert 'scope="a b"' in refused.headers["WWW-Authenticate"]


def test_current_principal_is_the_caller_of_the_request(guard: Guard, bearer: Bearer) -> None:
    client = make(guard, exclude=("/who", "/sync")).test_client()
    assert client.get("/inner/who", headers=bearer(sub="ada")).json == "ada"
    assert client.get("/streaming", headers=bearer(sub="ada")).text == "ada!"
    assert client.get("/who").json == ANONYMOUS.identity
    excluded = client.get("/sync")
    assert excluded.status_code == 401
    assert excluded.headers["WWW-Authenticate"] == challenges.bearer("write")


def test_an_error_handlers_own_response_keeps_the_challenge(guard: Guard, bearer: Bearer) -> None:
    app = make(guard)

    @app.errorhandler(401)
    def unauthorized(error: HTTPException) -> Any:
        return jsonify(mine=error.code), 401

    @app.errorhandler(403)
    def forbidden(_error: HTTPException) -> Any:
        return "not for you", 404

    client = app.test_client()
    refused = client.get("/who")
    assert refused.json == {"mine": 401}
    assert refused.headers.getlist("WWW-Authenticate") == [challenges.bearer()]
    assert refused.headers["Cache-Control"] == "no-store"
    hidden = client.get("/sync", headers=bearer(scope="read"))
    assert (hidden.status_code, hidden.text) == (404, "not for you")
    assert "WWW-Authenticate" not in hidden.headers


def test_a_general_error_handler_receives_the_refusal(guard: Guard) -> None:
    app, seen = make(guard), []

    @app.errorhandler(HTTPException)
    def note(error: HTTPException) -> HTTPException:
        seen.append((error.code, error.description))
        return error

    assert app.test_client().get("/who").status_code == 401
    assert seen == [(401, "This request must carry an access token")]


def test_flask_cors_and_teardown_hooks_run_for_a_refusal(guard: Guard) -> None:
    app, called = Flask("order"), []
    CORS(app)

    @app.before_request
    def early() -> None:
        called.append("before")

    @app.teardown_request
    def late(_error: BaseException | None) -> None:
        called.append("teardown")

    BearerGuard(app, guard=guard)
    refused = app.test_client().get("/x", headers={"Origin": "https://app.test"})
    assert refused.status_code == 401
    assert refused.headers["Access-Control-Allow-Origin"]
    assert called == ["teardown"]  # ours is the first, though it was registered last


def test_an_unavailable_issuer_is_503(issuer: LocalIssuer, bearer: Bearer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard:
        refused = make(guard).test_client().get("/who", headers=bearer())
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")


def test_app_factories_configure_one_extension_for_several_apps(issuer: LocalIssuer) -> None:
    extension = BearerGuard(exclude=("/health",))
    local = LocalIssuer(algorithm="ES256")

    def create_app(audience: str) -> Flask:
        app = Flask("factory")
        app.config.update(BEARERGUARD_ISSUER=local.url, BEARERGUARD_AUDIENCE=[audience])
        extension.init_app(app)
        app.add_url_rule("/who", view_func=who)
        return app

    with local.serve():
        one, two = create_app("one"), create_app("two")
        token = {"Authorization": f"Bearer {local.token(claims={'aud': 'one'})}"}
        assert one.test_client().get("/who", headers=token).status_code == 200
        assert two.test_client().get("/who", headers=token).status_code == 401
    with pytest.raises(ConfigurationError, match="BearerGuard already"):
        extension.init_app(one)
    with pytest.raises(ConfigurationError, match="BEARERGUARD_ISSUER is not set"):
        extension.init_app(Flask("bare"))


def test_misuse_is_named(guard: Guard) -> None:
    bare = Flask("bare")
    bare.testing = True
    bare.add_url_rule("/sync", view_func=synchronous)
    with pytest.raises(ConfigurationError, match="no guard found"):
        bare.test_client().get("/sync")
    with (
        make(guard).test_request_context(),
        pytest.raises(ConfigurationError, match="no guard found"),
    ):
        str(current_principal.identity)
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"is not a flask\.views\.View"):
        require_scopes("read")(type("Other", (), {}))


PREFLIGHT = {"Origin": "https://app.test", "Access-Control-Request-Method": "DELETE"}


class MethodOverride:
    """As in Flask's own documentation."""

    def __init__(self, app):
        self.app = app

    def __call__(self, environ, start_response):
        method = environ.get("HTTP_X_HTTP_METHOD_OVERRIDE")
        if method:
            environ["REQUEST_METHOD"] = method
        return self.app(environ, start_response)


@pytest.fixture
def deleting(guard):
    """An app that counts what it deletes, with an override of methods inside the guard."""
    app = Flask("deleting")
    ran: list[str] = []

    @app.delete("/things/<name>")
    def drop(name):
        ran.append(name)
        return "gone"

    @app.route("/own", methods=["GET", "OPTIONS"])
    def own():
        ran.append("own")
        return "own"

    @app.route("/none", provide_automatic_options=False, methods=["GET"])
    def none():
        return "none"

    app.before_request(lambda: ran.append("hook"))
    app.wsgi_app = MethodOverride(app.wsgi_app)  # type: ignore[method-assign]
    BearerGuard(app, guard=guard)
    return app.test_client(), ran


def test_HDR_15_flasks_own_response_to_OPTIONS_passes_and_runs_nothing_of_the_app(deleting):
    client, ran = deleting
    response = client.options("/things/7", headers=PREFLIGHT)
    assert response.status_code == 200
    assert set(response.allow) == {"DELETE", "OPTIONS"}
    assert ran == []


@pytest.mark.parametrize(
    ("method", "path", "more"),
    [
        ("OPTIONS", "/own", {}),
        ("OPTIONS", "/none", {}),
        ("OPTIONS", "/nowhere", {}),
        ("OPTIONS", "/things/7", {"Authorization": "Bearer a.b.c"}),
        ("DELETE", "/things/7", {"X-HTTP-Method-Override": "OPTIONS"}),
        ("POST", "/things/7", {"X-HTTP-Method-Override": "DELETE"}),
        ("GET", "/nowhere", {}),
    ],
)
def test_HDR_15_nothing_else_passes_for_a_preflight(deleting, method, path, more):
    client, ran = deleting
    assert client.open(path, method=method, headers=PREFLIGHT | more).status_code == 401
    assert ran == []


def test_HDR_15_a_preflight_whose_method_is_overridden_deletes_nothing(deleting):
    headers = PREFLIGHT | {"X-HTTP-Method-Override": "DELETE"}
    client, ran = deleting
    response = client.options("/things/7", headers=headers)
    assert (response.status_code, response.data) == (200, b"")
    assert ran == []


def test_what_is_mounted_inside_the_app_never_sees_a_refused_request(guard, bearer):
    seen = []

    def admin(environ, start_response):
        seen.append(environ["bearerguard.principal"].is_authenticated)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"all customers"]

    app = Flask("mounting")
    app.wsgi_app = DispatcherMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, {"/admin": admin}
    )
    BearerGuard(app, guard=guard)
    client = app.test_client()
    for headers in ({}, {"Authorization": "Bearer a.b.c"}, bearer(exp=1), {"Authorization": "x"}):
        response = client.get("/admin/export", headers=headers)
        assert response.status_code == 401
        assert "WWW-Authenticate" in response.headers
    assert seen == []
    assert client.get("/admin/export", headers=bearer()).data == b"all customers"
    assert seen == [True]


def test_the_adapter_refuses_where_the_extensions_hook_was_removed(guard):
    app = Flask("broken")
    BearerGuard(app, guard=guard)
    # Somebody took the extension's hook away.
    app.url_value_preprocessors.clear()
    app.add_url_rule("/", view_func=lambda: "open")
    response = app.test_client().get("/")
    assert response.status_code == 401
    assert "WWW-Authenticate" in response.headers


def test_url_preprocessors_do_not_run_for_a_refused_request(guard, bearer):
    app = Flask("preprocessing")
    asked = []

    @app.url_value_preprocessor
    def load(_endpoint, values):
        asked.append(values)
        abort(404 if values == {"name": "unknown"} else 410)

    app.add_url_rule("/<name>", view_func=lambda name: name)
    BearerGuard(app, guard=guard)
    client = app.test_client()
    for path in ("/unknown", "/known", "/no/such/route"):
        assert client.get(path).status_code == 401
        assert client.options(path, headers=PREFLIGHT).status_code in {200, 401}
    assert asked == []
    assert client.get("/unknown", headers=bearer()).status_code == 404


def test_an_app_whose_middleware_was_removed_serves_nobody(guard, bearer):
    app = Flask("around")
    unguarded = app.wsgi_app
    BearerGuard(app, guard=guard)
    app.add_url_rule("/", view_func=lambda: "open")
    app.wsgi_app = unguarded  # type: ignore[method-assign]
    app.testing = True
    with pytest.raises(ConfigurationError, match="no guard found"):
        app.test_client().get("/", headers=bearer())


def test_static_files_need_a_token(guard: Guard, bearer: Bearer, tmp_path: Any) -> None:
    (tmp_path / "report.txt").write_text("figures")
    app = Flask("files", static_folder=str(tmp_path), static_url_path="/files")
    BearerGuard(app, guard=guard)
    client = app.test_client()
    assert client.get("/files/report.txt").status_code == 401
    with client.get("/files/report.txt", headers=bearer()) as response:
        assert response.data == b"figures"


def fails() -> Any:
    raise RuntimeError("the handler failed")


@pytest.mark.parametrize(
    ("handle", "status"),
    [
        (lambda: "welcome", 401),
        (lambda: ("", 204), 401),
        (lambda: ("", 500), 401),
        (fails, 401),
        (lambda: redirect("/login"), 302),
        (lambda: ("hidden", 404), 404),
        (lambda: ("mine", 401), 401),
    ],
)
@pytest.mark.parametrize("testing", [False, True])
def test_an_error_handler_makes_no_success_of_a_refusal(
    handle: Callable[[], Any], status: int, testing: bool, guard: Guard
) -> None:
    app = make(guard)
    app.testing = testing
    app.register_error_handler(401, lambda _error: handle())
    refused = app.test_client().get("/who")
    assert refused.status_code == status
    assert (refused.headers.get("WWW-Authenticate") is not None) is (status == 401)


def test_after_request_makes_no_success_of_a_refusal(guard: Guard) -> None:
    app = make(guard)

    @app.after_request
    def after(_response: Response) -> Response:
        return Response("welcome")

    assert app.test_client().get("/who").status_code == 401


class Revealing(BaseConverter):
    """Looks up what a URL names, and fails in several ways where there is nothing."""

    def to_python(self, value: str) -> str:
        if value == "error":
            raise RuntimeError("no database")
        if value == "missing":
            abort(404)
        return value


@pytest.mark.parametrize("testing", [False, True])
@pytest.mark.parametrize(
    "path", ["/of/error", "/of/missing", "/of/404", "/of/500", "/of/ada", "/bp/of/404", "/of/x/"]
)
def test_a_stranger_learns_nothing_from_converters_and_url_preprocessors(
    path: str, testing: bool, guard: Guard, bearer: Bearer
) -> None:
    app, inner, seen = Flask("urls"), Blueprint("bp", "bp", url_prefix="/bp"), []
    app.testing = testing

    def look(_endpoint: str | None, values: dict[str, Any] | None) -> None:
        seen.append(values)
        if values and values["name"].isdigit():
            abort(int(values["name"]))

    app.url_map.converters["revealing"] = Revealing
    app.url_value_preprocessor(look)  # before the extension, and of a blueprint
    inner.url_value_preprocessor(look)
    for place in (app, inner):
        place.add_url_rule("/of/<revealing:name>", "of", lambda name: name)
    app.register_blueprint(inner)
    BearerGuard(app, guard=guard)
    client = app.test_client()
    bodies = set()
    for headers in (*STRANGERS, {"Origin": "x", "Access-Control-Request-Method": "GET"}):
        refused = client.get(path, headers=headers)
        assert refused.status_code in {400, 401}
        bodies.add((refused.status_code, refused.data))
    assert {each for each in bodies if each[0] == 401} == {
        (401, refused.data)
        for refused in (client.get("/nowhere"), client.get("/", headers=STRANGERS[1]))
    }
    assert seen == []
    if path == "/of/ada":
        assert client.get(path, headers=bearer()).text == "ada"


def test_a_decorator_above_the_routes_own_is_refused(guard: Guard, bearer: Bearer) -> None:
    app = Flask("above")
    BearerGuard(app, guard=guard)

    @require_scopes("write")
    @app.get("/")
    def home() -> str:
        return "open"

    app.testing = True
    for _ in range(2):
        with pytest.raises(ConfigurationError, match="home is a route without its requirement"):
            app.test_client().get("/", headers=bearer())
    app.testing = False
    assert app.test_client().get("/", headers=bearer()).status_code == 500
    assert app.test_client().get("/").status_code == 401
