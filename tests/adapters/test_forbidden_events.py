"""The event of a 403 names what is missing and what the token has; the response names no role."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import flask
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from bearerguard import Event, Guard, Requirement, claim, role, scopes, wsgi
from bearerguard import flask as flask_adapter
from bearerguard import starlette as starlette_adapter
from bearerguard.guard.events import Place
from bearerguard.testing import LocalIssuer
from tests.conformance.harness import Clock

Ask = Callable[[str, str], int]


def _starlette(guard: Guard, requirement: Requirement, *, decorated: bool) -> Ask:
    async def view(request: Any) -> Any:
        raise AssertionError(request)

    guarded = starlette_adapter.require(requirement)(view) if decorated else view
    options: dict[str, Any] = {} if decorated else {"require": requirement}
    app = Starlette(
        routes=[Route("/v1/{name}", guarded, methods=["GET", "POST"])],
        middleware=[Middleware(starlette_adapter.BearerMiddleware, guard=guard, **options)],
    )
    return lambda method, token: (
        TestClient(app).request(method, "/v1/recordings?x=1", headers=_bearer(token)).status_code
    )


def _flask(guard: Guard, requirement: Requirement, *, decorated: bool) -> Ask:
    app = flask.Flask("api")
    options: dict[str, Any] = {} if decorated else {"require": requirement}
    flask_adapter.BearerGuard(app, guard=guard, **options)

    def view(name: str) -> str:
        raise AssertionError(name)

    guarded = flask_adapter.require(requirement)(view) if decorated else view
    app.add_url_rule("/v1/<name>", "view", guarded, methods=["GET", "POST"])
    return lambda method, token: (
        (
            app.test_client().open("/v1/recordings?x=1", method=method, headers=_bearer(token))
        ).status_code
    )


def _wsgi(guard: Guard, requirement: Requirement) -> Ask:
    from werkzeug.test import Client

    def inner(environ: Any, start_response: Any) -> Any:
        raise AssertionError(environ)

    app = wsgi.BearerMiddleware(inner, guard=guard, require=requirement)
    return lambda method, token: (
        (
            Client(app).open(
                "/recordings?x=1", "http://localhost/v1", method=method, headers=_bearer(token)
            )
        ).status_code
    )


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


ADAPTERS: dict[str, Callable[[Guard, Requirement], Ask]] = {
    "starlette, route": lambda g, r: _starlette(g, r, decorated=True),
    "starlette, middleware": lambda g, r: _starlette(g, r, decorated=False),
    "flask, route": lambda g, r: _flask(g, r, decorated=True),
    "flask, app": lambda g, r: _flask(g, r, decorated=False),
    "wsgi": _wsgi,
}
# How the request is named: by the path's template where the framework knows it.
PLACES = dict.fromkeys(ADAPTERS, "POST /v1/<name>") | {
    "starlette, route": "POST /v1/{name}",
    "starlette, middleware": "POST /v1/{name}",
    "wsgi": "POST /v1/recordings",
}
ADMIN = "role 'admin'"


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(
    ("requirement", "claims", "code", "detail"),
    [
        (role("admin"), {}, "requirement_unmet", f"{ADMIN}; the token has roles []"),
        (
            role("admin"),
            {"roles": ["user", "editor"]},
            "requirement_unmet",
            f"{ADMIN}; the token has roles ['editor', 'user']",
        ),
        (
            claim("plan", "pro"),
            {"plan": "secret-plan"},
            "requirement_unmet",
            "claim 'plan' of a certain value; the token has another 'plan'",
        ),
        (
            scopes("read") & role("admin"),
            {"scope": "write"},
            "requirement_unmet",
            f"scope 'read' and {ADMIN}; the token has scopes ['write'] and roles []",
        ),
        (
            scopes("write"),
            {"scope": "read openid"},
            "insufficient_scope",
            "scope 'write'; the token has scopes ['openid', 'read']",
        ),
    ],
)
def test_a_403_is_an_event_that_names_request_requirement_and_token(
    caplog: pytest.LogCaptureFixture,
    *,
    adapter: str,
    requirement: Requirement,
    claims: dict[str, Any],
    code: str,
    detail: str,
) -> None:
    caplog.set_level(logging.INFO, "bearerguard")
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append) as guard:
        ask = ADAPTERS[adapter](guard, requirement)
        token = issuer.token(claims={"scope": ""} | claims)
        assert ask("POST", token) == 403
        assert ask("POST", token) == 403  # now the token is known
    found = [each for each in seen if each.code == code]
    assert [each.detail for each in found] == [f"{PLACES[adapter]} needs {detail}"] * 2
    assert f"{code}: {found[0].detail} (issuer {issuer.url})" in caplog.text
    needed, _, present = detail.partition("; the token has ")
    assert (found[0].details["needed"], found[0].details["present"]) == (needed, present)
    assert "secret-plan" not in caplog.text + repr(seen)


def test_a_claim_that_is_missing_is_named_with_the_names_of_those_that_are_there() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append, require=claim("tenant")) as guard:
        ask = ADAPTERS["wsgi"](guard, scopes("read"))
        assert ask("GET", issuer.token(scopes=["read"])) == 403
    (event,) = [each for each in seen if each.code == "requirement_unmet"]
    assert "needs claim 'tenant'; the token has claims ['aud', " in event.detail


def test_a_limited_number_of_alternatives_is_named() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    whole = role("r0")
    for number in range(1, 7):
        whole |= role(f"r{number}")
    with issuer.guard(on_event=seen.append) as guard:
        for requirement in (role("admin") | scopes("a", "b") & role("c"), whole):
            assert ADAPTERS["wsgi"](guard, requirement)("GET", issuer.token(scopes=["b"])) == 403
    first, second = [each.detail for each in seen if each.code == "requirement_unmet"]
    assert "needs role 'admin' or scope 'a' and role 'c'; the token has roles []" in first
    assert first.endswith("roles [] and scopes ['b']")
    assert "'r3' or 3 others; " in second


def test_each_requirement_is_logged_once_a_minute_and_a_path_cannot_forge_a_line(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock, issuer = Clock(), LocalIssuer(algorithm="ES256")
    with issuer.guard(clock=clock) as guard:
        token = issuer.token(claims={"exp": int(clock()) + 300, "iat": int(clock())})
        principal = guard.verify(token)
        for path in ("/a", "/b", "/c\nERROR forged " + "x" * 500):
            for name in ("admin", "editor"):
                place = partial(Place, "GET", path)
                assert guard.authorize(principal, role(name), place=place) is not None
    lines = [each for each in caplog.messages if each.startswith("requirement_unmet")]
    assert len(lines) == 2
    assert caplog.messages[-1] == "lines_left_out: 4 (requirement_unmet 4)"
    caplog.clear()
    with issuer.guard(clock=clock) as guard:
        place = partial(Place, "GET", "/c\nERROR forged " + "x" * 500, request_id="y\n" * 500)
        guard.authorize(principal, role("x"), place=place)
        guard.authorize(principal, role("y"))
    first, second = [each for each in caplog.messages if "requirement_unmet" in each]
    assert first.isprintable()
    assert len(first) < 400
    assert second.startswith("requirement_unmet: the request needs role 'y'; ")


def test_the_response_names_no_role() -> None:
    issuer = LocalIssuer(algorithm="ES256")
    app = flask.Flask("api")
    with issuer.guard() as guard:
        flask_adapter.BearerGuard(app, guard=guard, require=role("secret-role"))
        response = app.test_client().get("/", headers=_bearer(issuer.token()))
    assert response.status_code == 403
    assert "secret-role" not in response.text + str(response.headers)


def test_the_event_of_a_websocket_says_so() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")

    @starlette_adapter.require(role("admin"))
    async def talk(websocket: WebSocket) -> None:
        raise AssertionError(websocket)

    with issuer.guard(on_event=seen.append) as guard:
        app = Starlette(
            routes=[WebSocketRoute("/talk", talk)],
            middleware=[Middleware(starlette_adapter.BearerMiddleware, guard=guard)],
        )
        with (
            pytest.raises(WebSocketDenialResponse),
            TestClient(app).websocket_connect("/talk", headers=_bearer(issuer.token())),
        ):
            pass
    assert [each.detail for each in seen if each.code == "requirement_unmet"] == [
        "WEBSOCKET /talk needs role 'admin'; the token has roles []"
    ]


def test_the_event_of_a_guard_without_an_adapter_names_the_path_without_its_query() -> None:
    from bearerguard import Request

    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append, require=role("admin")) as guard:
        headers = {"authorization": f"Bearer {issuer.token()}"}
        guard.run(guard.authenticate(Request("GET", "/v1?code=secret", headers, b"")))
    (event,) = [each for each in seen if each.code == "requirement_unmet"]
    assert event.detail.startswith("GET /v1 needs role 'admin'; ")
