"""The event and the log line of each refusal name the request: method, route or path, and id."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import anyio
import flask
import litestar
import pytest
import quart
from litestar.params import FromPath
from litestar.testing import TestClient as LitestarClient
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.routing import Host, Mount, Route, WebSocketRoute
from starlette.testclient import TestClient
from werkzeug.routing import BaseConverter

from bearerguard import (
    ANONYMOUS,
    Event,
    Guard,
    IssuerUnavailable,
    Request,
    TokenError,
    asgi,
    scopes,
    wsgi,
)
from bearerguard import flask as flask_adapter
from bearerguard import litestar as litestar_adapter
from bearerguard import quart as quart_adapter
from bearerguard import starlette as starlette_adapter
from bearerguard.runtime.flow import Fetch
from bearerguard.runtime.messages import FetchFailed, Response
from bearerguard.testing import LocalIssuer

# Sends a GET with these headers to /items/7; returns the status.
Ask = Callable[[Mapping[str, str]], int]
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


async def item(request: Any) -> Any:
    raise AssertionError(request)


def get_item(key: str) -> str:
    raise AssertionError(key)


def _starlette(guard: Guard) -> Ask:
    app = Starlette(
        routes=[
            WebSocketRoute("/items/{key}", item),
            Route("/items/{key}", item, methods=["POST"]),
            Host("other.example.com", Starlette()),
            Mount("/v1", routes=[Route("/other", item)]),
            Route("/items/{key:int}", item),
        ],
        middleware=[Middleware(starlette_adapter.BearerMiddleware, guard=guard)],
    )
    return lambda headers: TestClient(app).get("/items/7?code=secret", headers=headers).status_code


def _asgi(guard: Guard) -> Ask:
    app = asgi.BearerMiddleware(item, guard=guard)  # type: ignore[arg-type]
    return lambda headers: TestClient(app).get("/items/7?code=secret", headers=headers).status_code


def _flask(guard: Guard) -> Ask:
    app = flask.Flask("api")
    flask_adapter.BearerGuard(app, guard=guard)
    app.add_url_rule("/items/<int:key>", "item", get_item)
    return lambda headers: (
        app.test_client().get("/items/7?code=secret", headers=headers).status_code
    )


def _wsgi(guard: Guard) -> Ask:
    from werkzeug.test import Client

    def inner(environ: Any, start_response: Any) -> Any:
        raise AssertionError(environ)

    client = Client(wsgi.BearerMiddleware(inner, guard=guard))
    return lambda headers: client.get("/items/7?code=secret", headers=headers).status_code


def _quart(guard: Guard) -> Ask:
    app = quart.Quart("api")
    quart_adapter.BearerGuard(app, guard=guard)
    app.add_url_rule("/items/<int:key>", "item", get_item)

    async def ask(headers: Mapping[str, str]) -> int:
        response = await app.test_client().get("/items/7?code=secret", headers=dict(headers))
        return response.status_code

    return lambda headers: anyio.run(ask, headers)


def _litestar(guard: Guard) -> Ask:
    async def get(key: FromPath[int]) -> str:
        raise AssertionError(key)

    handler = litestar.get("/items/{key:int}")(get)
    plugin = litestar_adapter.BearerPlugin(guard)
    client = LitestarClient(litestar.Litestar([handler], plugins=[plugin], logging_config=None))
    return lambda headers: client.get("/items/7?code=secret", headers=dict(headers)).status_code


def _django(guard: Guard) -> Ask:
    from tests.django_project import project

    # isort: split
    from django.test import Client
    from django.urls import path

    def ask(headers: Mapping[str, str]) -> int:
        with project(path("items/<int:key>", get_item), guard=guard):
            return int(Client().get("/items/7?code=secret", headers=headers).status_code)

    return ask


ADAPTERS: dict[str, tuple[Callable[[Guard], Ask], dict[str, str]]] = {
    "starlette": (_starlette, {"route": "/items/{key:int}"}),
    "django": (_django, {"route": "/items/<int:key>"}),
    "asgi": (_asgi, {"path": "/items/7"}),
    "flask": (_flask, {"route": "/items/<int:key>"}),
    "quart": (_quart, {"route": "/items/<int:key>"}),
    "litestar": (_litestar, {"route": "/items/{key}"}),
    "wsgi": (_wsgi, {"path": "/items/7"}),
}


class Down:
    """The network, when the issuer refuses connections."""

    def fetch(self, request: Fetch) -> Response:
        raise FetchFailed(f"{request.url}: the connection was refused", kind="refused")

    async def afetch(self, request: Fetch) -> Response:
        return self.fetch(request)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def refused(issuer: LocalIssuer) -> dict[str, tuple[int, dict[str, str]]]:
    """What is sent, by the code of its refusal, with the status."""
    return {
        "missing_credentials": (401, {}),
        "malformed_credentials": (400, {"Authorization": "Bearer a b"}),
        "malformed_token": (401, bearer("opaque")),
        "expired": (401, bearer(issuer.token(expires_in=-3600))),
        "wrong_audience": (401, bearer(issuer.token(claims={"aud": "https://other.example.com"}))),
        "unknown_issuer": (401, bearer(issuer.token(claims={"iss": "https://other.example.com"}))),
        "insufficient_scope": (403, bearer(issuer.token(scopes=["openid"]))),
    }


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_refusal_names_method_route_or_path_and_request_id(
    caplog: pytest.LogCaptureFixture, adapter: str
) -> None:
    caplog.set_level(logging.INFO, "bearerguard")
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    make, where = ADAPTERS[adapter]
    with issuer.guard(on_event=seen.append, require=scopes("read")) as guard:
        ask = make(guard)
        for code, (status, headers) in refused(issuer).items():
            seen.clear()
            assert ask({**headers, "X-Request-ID": f"id-of-{code}"}) == status
            (event,) = [each for each in seen if each.code != "keys_fetched"]
            assert event.code == code
            expected = {"method": "GET", "request_id": f"id-of-{code}", **where}
            assert {name: event.details[name] for name in expected} == expected
            assert {"path", "route"} - where.keys() - event.details.keys()
            (line,) = [each for each in caplog.messages if each.startswith(f"{code}: ")]
            assert f"GET {next(iter(where.values()))}" in line
            assert f"request id-of-{code}" in line
    ours = [each for each in caplog.records if each.name.startswith("bearerguard")]
    assert not any("code=secret" in each.getMessage() for each in ours)


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_outage_names_the_request_that_it_refused(adapter: str) -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append, transport=Down()) as guard:
        assert ADAPTERS[adapter][0](guard)(bearer(issuer.token())) == 503
    (event,) = [each for each in seen if each.code == "issuer_unavailable"]
    assert event.details == {"method": "GET", **ADAPTERS[adapter][1]}


def test_a_preflight_that_is_refused_is_named() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append) as guard:
        app = wsgi.BearerMiddleware(lambda _environ, _start: [], guard=guard)
        from werkzeug.test import Client

        headers = {"Origin": "https://spa.example.com", "Access-Control-Request-Method": "PUT"}
        assert Client(app).options("/items", headers=headers).status_code == 401
    named = {each.code: each.details for each in seen}
    assert named["preflight_refused"] == {"method": "OPTIONS", "path": "/items"}


@pytest.mark.parametrize(
    ("options", "headers", "expected"),
    [
        ({}, {"X-Request-ID": "abc"}, "abc"),
        ({}, {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"}, TRACE),
        ({}, {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "X-Request-ID": "abc"}, "abc"),
        ({}, {"traceparent": "00-forged"}, None),
        ({}, {"X-Correlation-ID": "abc"}, None),
        ({"request_id_headers": ["X-Correlation-ID"]}, {"X-Correlation-ID": "abc"}, "abc"),
        ({"request_id_headers": []}, {"X-Request-ID": "abc"}, None),
    ],
)
@pytest.mark.parametrize("adapter", [*ADAPTERS, "guard alone"])
def test_the_request_id_comes_from_the_first_header_that_has_one(
    adapter: str, options: dict[str, Any], headers: dict[str, str], expected: str | None
) -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append, **options) as guard:
        if adapter == "guard alone":
            guard.run(guard.authenticate(Request("GET", "/items/7?code=secret", headers)))
        else:
            assert ADAPTERS[adapter][0](guard)(headers) == 401
    (event,) = seen
    assert event.details.get("request_id") == expected


def test_what_a_client_chose_is_escaped_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "bearerguard")
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append) as guard:
        path = "/a\n2026-01-01 ERROR forged" + "x" * 5000
        headers = {"X-Request-ID": "b\r\nERROR forged " + "y" * 5000}
        guard.run(guard.authenticate(Request("GE\nT", path, headers)))
    (line,) = caplog.messages
    assert line.isprintable()
    assert len(line) < 400
    assert all(value.isprintable() and len(value) <= 100 for value in seen[0].details.values())


def test_a_token_that_is_verified_without_a_request_names_none() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    with issuer.guard(on_event=seen.append, transport=Down()) as guard:
        with pytest.raises(TokenError):
            guard.verify("a.b.c")
        with pytest.raises(IssuerUnavailable):
            guard.verify(issuer.token())
    assert [
        (each.code, dict(each.details)) for each in seen if each.code != "keys_fetch_failed"
    ] == [
        ("malformed_token", {}),
        ("issuer_unavailable", {}),
    ]


def test_a_mounted_route_is_named_with_its_mount() -> None:
    seen: list[Event] = []
    issuer = LocalIssuer(algorithm="ES256")
    inner = Starlette(routes=[Route("/items/{key}", item)])
    with issuer.guard(on_event=seen.append, require=scopes("write")) as guard:
        app = Starlette(
            routes=[
                Mount("/v1", inner),
                Route("/bare", starlette_adapter.require_scopes("x")(item)),
            ],
            middleware=[Middleware(starlette_adapter.BearerMiddleware, guard=guard)],
        )
        client = TestClient(app, root_path="/api")
        assert client.get("/api/v1/items/7").status_code == 401
        assert client.get("/api/v1/nowhere").status_code == 401
        assert client.patch("/api/bare").status_code == 401
    named = [event.details.get("route") or event.details["path"] for event in seen]
    assert named == ["/api/v1/items/{key}", "/api/v1/nowhere", "/api/bare"]


@pytest.mark.parametrize(
    ("options", "headers", "said"),
    [
        ({"optional": True}, {}, "no Authorization header"),
        ({"optional": True}, {"Authorization": "Token x"}, "the scheme Token"),
        ({"exclude": ["/*"]}, bearer("x"), "its path is excluded"),
    ],
)
def test_a_route_that_refuses_a_request_without_a_token_says_what_it_had(
    options: dict[str, Any], headers: dict[str, str], said: str
) -> None:
    seen: list[Event] = []
    with LocalIssuer(algorithm="ES256").guard(on_event=seen.append) as guard:
        ours = Middleware(starlette_adapter.BearerMiddleware, guard=guard, **options)
        routes = [Route("/items", starlette_adapter.require_scopes("read")(item))]
        client = TestClient(Starlette(routes=routes, middleware=[ours]))
        assert client.get("/items", headers=headers).status_code == 401
    assert [(each.code, said in each.detail) for each in seen] == [("missing_credentials", True)]


def test_a_wrong_scheme_is_a_line_among_requests_without_a_header(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "bearerguard")
    seen: list[Event] = []
    with LocalIssuer(algorithm="ES256").guard(on_event=seen.append) as guard:
        for headers in ({}, {}, {"Authorization": "Token x"}):
            guard.run(guard.authenticate(Request("GET", "/items", headers)))
        guard.authorize(ANONYMOUS, scopes("read"))
    said = ["no Authorization header", "no Authorization header", "the scheme Token"]
    found = [each.detail for each in seen]
    assert all(part in detail for part, detail in zip(said, found, strict=False))
    assert found[3] == "the request carries no bearer token"
    assert len([each for each in caplog.messages if each.startswith("missing_credentials")]) == 3


class Failing(Convertor[str]):
    regex = "[a-z]+"

    def convert(self, value: str) -> str:
        raise LookupError(value)

    def to_string(self, value: str) -> str:
        return value


class FailingRule(BaseConverter):
    def to_python(self, value: str) -> str:
        raise LookupError(value)


def test_a_convertor_of_the_app_that_fails_does_not_change_a_refusal() -> None:
    register_url_convertor("failing", Failing())
    issuer = LocalIssuer(algorithm="ES256")
    seen: list[Event] = []
    with issuer.guard(on_event=seen.append) as guard:
        app = Starlette(
            routes=[Route("/{key:failing}", item)],
            middleware=[Middleware(starlette_adapter.BearerMiddleware, guard=guard)],
        )
        assert TestClient(app).get("/abc").status_code == 401
        other = flask.Flask("api")
        other.url_map.converters["failing"] = FailingRule
        other.add_url_rule("/<failing:key>", "item", get_item)
        flask_adapter.BearerGuard(other, guard=guard)
        assert other.test_client().get("/abc").status_code == 401
    assert [event.details["path"] for event in seen] == ["/abc", "/abc"]
