"""In every framework a request is one decision, and a route's refusal is a record of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path
from fastapi import FastAPI, Security
from flask import Flask
from litestar import Litestar
from litestar import get as litestar_get
from litestar.testing import TestClient as LitestarClient
from quart import Quart
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient as StarletteClient

from bearerguard import DecisionRecord, FetchRecord, Guard
from bearerguard import django as ours_django
from bearerguard import fastapi as ours_fastapi
from bearerguard import flask as ours_flask
from bearerguard import litestar as ours_litestar
from bearerguard import quart as ours_quart
from bearerguard import starlette as ours_starlette
from bearerguard.testing import LocalIssuer
from tests.django_project import project

# Sends a request for a path with these headers, and returns the status.
Get = Callable[[str, dict[str, str]], int]


class Recorder:
    """An observer that keeps what was decided."""

    def __init__(self) -> None:
        self.decisions: list[DecisionRecord] = []

    def decided(self, record: DecisionRecord) -> None:
        self.decisions.append(record)

    def fetched(self, record: FetchRecord) -> None:
        pass


@contextmanager
def in_starlette(guard: Guard) -> Iterator[Get]:
    async def read(_request: Request) -> PlainTextResponse:
        return PlainTextResponse("ok")

    routes = [
        Route("/read", read),
        Route("/write", ours_starlette.require_scopes("write")(read)),
    ]
    app = Starlette(
        routes=routes, middleware=[Middleware(ours_starlette.BearerMiddleware, guard=guard)]
    )
    client = StarletteClient(app)
    yield lambda place, headers: client.get(place, headers=headers).status_code


def fastapi_app(guard: Guard, **options: Any) -> Get:
    known = ours_fastapi.BearerSecurity(guard)
    app = FastAPI(**options)

    @app.get("/read", dependencies=[Security(known)])
    async def read() -> str:
        return "ok"

    @app.get("/write", dependencies=[Security(known, scopes=["write"])])
    async def write() -> str:
        return "ok"

    client = StarletteClient(app)
    return lambda place, headers: client.get(place, headers=headers).status_code


@contextmanager
def in_fastapi(guard: Guard) -> Iterator[Get]:
    yield fastapi_app(guard, middleware=[Middleware(ours_fastapi.BearerMiddleware, guard=guard)])


@contextmanager
def in_flask(guard: Guard) -> Iterator[Get]:
    app = Flask(__name__)
    ours_flask.BearerGuard(app, guard=guard)
    app.add_url_rule("/read", "read", lambda: "ok")
    app.add_url_rule("/write", "write", ours_flask.require_scopes("write")(lambda: "ok"))
    client = app.test_client()
    yield lambda place, headers: client.get(place, headers=headers).status_code


@contextmanager
def in_quart(guard: Guard) -> Iterator[Get]:
    async def read() -> str:
        return "ok"

    app = Quart(__name__)
    ours_quart.BearerGuard(app, guard=guard)
    app.add_url_rule("/read", "read", read)
    app.add_url_rule("/write", "write", ours_quart.require_scopes("write")(read))

    def get(place: str, headers: dict[str, str]) -> int:
        async def send() -> int:
            return (await app.test_client().get(place, headers=headers)).status_code

        return anyio.run(send)

    yield get


@contextmanager
def in_litestar(guard: Guard) -> Iterator[Get]:
    @litestar_get("/read")
    async def read() -> str:
        return "ok"

    @litestar_get("/write", guards=[ours_litestar.require_scopes("write")])
    async def write() -> str:
        return "ok"

    client = LitestarClient(Litestar([read, write], plugins=[ours_litestar.BearerPlugin(guard)]))
    yield lambda place, headers: client.get(place, headers=headers).status_code


@contextmanager
def in_django(guard: Guard) -> Iterator[Get]:
    from django.test import Client

    def read(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    write = ours_django.require_scopes("write")(read)
    with project(path("read", read), path("write", write), guard=guard):
        yield lambda place, headers: Client().get(place, headers=headers).status_code


@contextmanager
def in_async_django(guard: Guard) -> Iterator[Get]:
    from django.test import AsyncClient

    async def read(_request: HttpRequest) -> HttpResponse:
        return HttpResponse("ok")

    write = ours_django.require_scopes("write")(read)

    def get(place: str, headers: dict[str, str]) -> int:
        async def send() -> int:
            response = await AsyncClient().get(place, headers=headers)
            status: int = response.status_code
            return status

        return anyio.run(send)

    with project(path("read", read), path("write", write), guard=guard):
        yield get


@contextmanager
def in_rest_framework(guard: Guard) -> Iterator[Get]:
    from rest_framework.response import Response
    from rest_framework.test import APIClient
    from rest_framework.views import APIView

    from bearerguard.django import rest_framework as ours

    class Read(APIView):
        authentication_classes = (ours.BearerAuthentication,)
        permission_classes = (ours.HasScopes,)
        required_scopes = ("read",)

        def get(self, _request: Any) -> Response:
            return Response("ok")

    class Write(Read):
        required_scopes = ("write",)

    handler = {"EXCEPTION_HANDLER": "bearerguard.django.rest_framework.exception_handler"}
    patterns = (path("read", Read.as_view()), path("write", Write.as_view()))
    with (
        project(*patterns, guard=guard, middleware=[]),
        override_settings(REST_FRAMEWORK=handler),
    ):
        yield lambda place, headers: APIClient().get(place, headers=headers).status_code


@contextmanager
def in_ninja(guard: Guard) -> Iterator[Get]:
    from django.test import Client
    from ninja import NinjaAPI

    from bearerguard.ninja import BearerAuth

    api = NinjaAPI()

    @api.get("/read", auth=BearerAuth(scopes=["read"]))
    def read(request: Any) -> str:
        return "ok"

    @api.get("/write", auth=BearerAuth(scopes=["write"]))
    def write(request: Any) -> str:
        return "ok"

    with project(path("", api.urls), guard=guard, middleware=[]):
        yield lambda place, headers: Client().get(place, headers=headers).status_code


@pytest.mark.parametrize("serve", [in_rest_framework, in_ninja])
def test_a_view_that_authenticates_makes_one_decision_and_its_refusal_is_the_routes(
    serve: Any,
) -> None:
    issuer, recorder = LocalIssuer(algorithm="ES256"), Recorder()
    headers = {"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
    malformed = {"Authorization": "Bearer a.b.c"}
    with issuer.guard(observers=[recorder]) as guard, serve(guard) as get:
        statuses = [
            get("/read", headers),
            get("/write", headers),
            get("/read", malformed),
            get("/read", {}),
        ]
    assert statuses == [200, 403, 401, 401]
    assert [(each.kind, each.result, each.reason) for each in recorder.decisions] == [
        ("request", "allow", None),
        ("request", "allow", None),
        ("route", "deny", "insufficient_scope"),
        ("request", "deny", "malformed_token"),
        ("request", "allow", "missing_credentials"),  # as anonymous, which the view refuses
        ("route", "deny", "missing_credentials"),
    ]


@pytest.mark.parametrize(
    "serve",
    [in_starlette, in_fastapi, in_flask, in_quart, in_litestar, in_django, in_async_django],
)
def test_a_request_is_one_decision_and_a_route_s_refusal_is_no_second_one(serve: Any) -> None:
    issuer, recorder = LocalIssuer(algorithm="ES256"), Recorder()
    headers = {"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
    with issuer.guard(observers=[recorder]) as guard, serve(guard) as get:
        statuses = [
            get("/read", headers),
            get("/read", headers),
            get("/write", headers),
            get("/read", {}),
        ]
    assert statuses == [200, 200, 403, 401]
    assert [
        (each.kind, each.result, each.reason, each.is_cached) for each in recorder.decisions
    ] == [
        ("request", "allow", None, False),
        ("request", "allow", None, True),
        ("request", "allow", None, True),
        ("route", "deny", "insufficient_scope", None),
        ("request", "deny", "missing_credentials", None),
    ]


def test_where_a_dependency_alone_decides_its_refusals_are_those_of_the_route() -> None:
    issuer, recorder = LocalIssuer(algorithm="ES256"), Recorder()
    headers = {"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
    with issuer.guard(observers=[recorder]) as guard:
        get = fastapi_app(guard)
        assert [get("/read", headers), get("/write", headers), get("/read", {})] == [200, 403, 401]
    assert [(each.kind, each.result, each.reason) for each in recorder.decisions] == [
        ("request", "allow", None),
        ("request", "allow", None),
        ("route", "deny", "insufficient_scope"),
        ("request", "allow", "missing_credentials"),
        ("route", "deny", "missing_credentials"),
    ]
