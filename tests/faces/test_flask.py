"""Flask: the extension, its decorators, and what error handlers and flask-cors see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, jsonify, stream_with_context
from flask.views import MethodView, View
from flask_cors import CORS
from werkzeug.exceptions import HTTPException

from bearerguard import ANONYMOUS, ConfigurationError, Guard, scopes
from bearerguard.flask import BearerGuard, current_principal, require, require_scopes
from bearerguard.testing import LocalIssuer

Bearer = Callable[..., dict[str, str]]


@pytest.fixture
def bearer(issuer: LocalIssuer) -> Bearer:
    return lambda **claims: {"Authorization": f"Bearer {issuer.token(**claims)}"}


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


def test_a_views_refusal_is_the_faces(guard: Guard, bearer: Bearer) -> None:
    token = {**bearer(scope="read"), "Origin": "https://app.test"}
    by_view = make(guard).test_client().get("/sync", headers=token)
    by_face = make(guard, require=scopes("write")).test_client().get("/who", headers=token)
    assert by_view.status_code == by_face.status_code == 403
    assert by_view.data == by_face.data
    left = "Access-Token-Expires-In"
    assert {**by_view.headers, left: ""} == {**by_face.headers, left: ""}


def test_stacked_decorators_name_all_scopes(guard: Guard, bearer: Bearer) -> None:
    client = make(guard).test_client()
    refused = client.get("/stacked", headers=bearer(scope="a"))
    assert 'scope="a b"' in refused.headers["WWW-Authenticate"]


def test_the_principal_is_at_hand(guard: Guard, bearer: Bearer) -> None:
    client = make(guard, exclude=("/who", "/sync")).test_client()
    assert client.get("/inner/who", headers=bearer(sub="ada")).json == "ada"
    assert client.get("/streaming", headers=bearer(sub="ada")).text == "ada!"
    assert client.get("/who").json == ANONYMOUS.identity
    excluded = client.get("/sync")
    assert excluded.status_code == 401
    assert excluded.headers["WWW-Authenticate"] == 'Bearer realm="api", scope="write"'


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
    assert refused.headers.getlist("WWW-Authenticate") == ['Bearer realm="api"']
    assert refused.headers["Cache-Control"] == "no-store"
    hidden = client.get("/sync", headers=bearer(scope="read"))
    assert (hidden.status_code, hidden.text) == (404, "not for you")
    assert "WWW-Authenticate" not in hidden.headers


def test_a_general_handler_sees_the_refusal_too(guard: Guard) -> None:
    app, seen = make(guard), []

    @app.errorhandler(HTTPException)
    def note(error: HTTPException) -> HTTPException:
        seen.append((error.code, error.description))
        return error

    assert app.test_client().get("/who").status_code == 401
    assert seen == [(401, "This request must carry an access token")]


def test_cors_and_other_hooks_see_the_refusal(guard: Guard) -> None:
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
        token = {"Authorization": f"Bearer {local.token(aud='one')}"}
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
    with pytest.raises(ConfigurationError, match="no guard in reach"):
        bare.test_client().get("/sync")
    with (
        make(guard).test_request_context(),
        pytest.raises(ConfigurationError, match="no guard in reach"),
    ):
        str(current_principal.identity)
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"is no flask\.views\.View"):
        require_scopes("read")(type("Other", (), {}))
