"""The conformance table through the frameworks that have a way of their own to refuse.

What a token must be is the guard's, and the table's own test. Here are the rows about headers,
caching and revocation, where a framework might lose something.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tests.django_project import project

# isort: split
from django.test import Client
from django.test.utils import override_settings
from django.urls import path, re_path
from fastapi import Depends, FastAPI
from flask import Flask
from flask import Response as FlaskResponse
from litestar import Litestar, route
from litestar import Response as LitestarResponse
from litestar.di import NamedDependency
from ninja import NinjaAPI
from quart import Quart
from quart import Response as QuartResponse
from rest_framework.permissions import IsAuthenticated
from rest_framework.response import Response as RestResponse
from rest_framework.views import APIView
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bearerguard import Principal
from bearerguard.django.rest_framework import BearerAuthentication
from bearerguard.fastapi import BearerMiddleware as FastAPIMiddleware
from bearerguard.fastapi import BearerSecurity
from bearerguard.flask import BearerGuard as FlaskGuard
from bearerguard.flask import current_principal as flask_principal
from bearerguard.litestar import BearerPlugin
from bearerguard.ninja import BearerAuth
from bearerguard.quart import BearerGuard, current_principal
from bearerguard.starlette import BearerMiddleware as StarletteMiddleware
from tests.conformance import caching_table, hdr_table, revoked_table, status_table
from tests.conformance.drivers import Call, Protected, Received, Sent, through_asgi, through_wsgi
from tests.conformance.scenario import Scenario

Rows = list[Scenario]
ALL = [*hdr_table.TABLE, *caching_table.TABLE, *revoked_table.TABLE, *status_table.TABLE]
METHODS = ["GET", "HEAD", "POST"]


def of_requests(rows: Rows) -> Rows:
    """Leave out OPTIONS, which frameworks handle by themselves."""
    return [row for row in rows if row.method in METHODS and "pass_preflights" not in row.adapter]


def with_own_body(rows: Rows) -> Rows:
    """Return the rows for a framework that makes the body of a refusal itself."""

    def unused(_decision: Any) -> tuple[str, bytes]:
        return "text/plain", b""

    return [
        dataclasses.replace(row, guard={**row.guard, "denial_body": unused})
        for row in of_requests(rows)
        if "denial_body" not in row.guard
    ]


def refusals(rows: Rows) -> Rows:
    """Leave out what passes: without Django's middleware nothing is added to those responses."""
    found = [row for row in with_own_body(rows) if row.status != 200]
    # Here each 401 varies, and REST framework's also with Accept.
    return [dataclasses.replace(row, headers=without_vary(row)) for row in found]


def without_vary(row: Scenario) -> dict[str, Any]:
    return {name: value for name, value in row.headers.items() if name.lower() != "vary"}


def by_starlette(protected: Protected, request: Sent) -> Received:
    app = Starlette(
        routes=[Route("/{place:path}", endpoint_of(protected), methods=[*METHODS, "OPTIONS"])],
        middleware=[Middleware(StarletteMiddleware, guard=protected.guard, **protected.options)],
    )
    return through_asgi(app, request)


def by_fastapi(protected: Protected, request: Sent) -> Received:
    """Send a request to an app with the middleware, whose dependency reads its decision."""
    endpoint = endpoint_of(protected)
    options = {**protected.options}
    bearer = BearerSecurity(protected.guard, optional=bool(options.get("optional")))
    is_open = options.get("exclude") or options.get("pass_preflights")
    dependencies = [] if is_open else [Depends(bearer)]
    app = FastAPI(
        openapi_url=None,
        middleware=[Middleware(FastAPIMiddleware, guard=protected.guard, **options)],
    )
    methods = [*METHODS, "OPTIONS"]
    app.add_api_route("/{place:path}", endpoint, methods=methods, dependencies=dependencies)
    return through_asgi(app, request)


def endpoint_of(protected: Protected) -> Any:
    """Return a route that responds with the caller and the headers of the app."""

    async def endpoint(request: Request) -> Response:
        body = b"" if request.method == "HEAD" else request.user.identity.encode()
        response = Response(body)
        for name, value in protected.app_headers:
            response.headers.append(name, value)
        return response

    return endpoint


def by_flask(protected: Protected, request: Sent) -> Received:
    app = Flask("table")
    FlaskGuard(app, guard=protected.guard, **protected.options)

    @app.route("/<path:_place>", methods=METHODS)
    def things(_place: str) -> Any:
        response = FlaskResponse(flask_principal.identity)
        del response.headers["Content-Type"]
        for name, value in protected.app_headers:
            response.headers.add(name, value)
        return response

    return through_wsgi(app, request)


def by_quart(protected: Protected, request: Sent) -> Received:
    app = Quart("table")
    BearerGuard(app, guard=protected.guard, **protected.options)

    @app.route("/<path:_place>", methods=METHODS)
    async def things(_place: str) -> Any:
        response = QuartResponse(current_principal.identity)
        del response.headers["Content-Type"]
        for name, value in protected.app_headers:
            response.headers.add(name, value)
        return response

    return through_asgi(app, request)


def by_litestar(protected: Protected, request: Sent) -> Received:
    @route("/{place:path}", http_method=["GET", "HEAD", "POST"], status_code=200)
    async def things(principal: NamedDependency[Principal]) -> LitestarResponse[bytes]:
        body = b"" if request.method == "HEAD" else principal.identity.encode()
        return LitestarResponse(body, headers=dict(protected.app_headers), media_type="text/plain")

    plugin = BearerPlugin(protected.guard, **protected.options)
    return through_asgi(Litestar([things], plugins=[plugin]), request)


class Things(APIView):
    authentication_classes = (BearerAuthentication,)
    permission_classes = (IsAuthenticated,)

    def get(self, request: Any, place: str) -> RestResponse:
        return RestResponse(request.auth.identity)

    post = head = get


def by_rest_framework(protected: Protected, request: Sent) -> Received:
    handler = "bearerguard.django.rest_framework.exception_handler"
    with override_settings(REST_FRAMEWORK={"EXCEPTION_HANDLER": handler}):
        return by_django(re_path("^(?P<place>.*)", Things.as_view()), protected, request)


def by_ninja(protected: Protected, request: Sent) -> Received:
    api = NinjaAPI(auth=BearerAuth())

    @api.api_operation(METHODS, "/{path:place}")
    def things(request: Any, place: str) -> str:
        name: str = request.auth.identity
        return name

    return by_django(path("", api.urls), protected, request)


def by_django(pattern: Any, protected: Protected, request: Sent) -> Received:
    """Send a request through Django without the middleware."""
    options = {name.upper(): value for name, value in protected.options.items()}
    headers: dict[str, str] = {}
    for name, value in request.headers:  # servers join repeated fields (RFC 3875 §4.1.18)
        text = value.decode("latin-1")
        headers[name] = f"{headers[name]},{text}" if name in headers else text
    with project(pattern, guard=protected.guard, middleware=[], **options):
        sent = Client().generic(request.method, request.target, request.body, headers=headers)
    fields = tuple((name.lower(), value) for name, value in sent.items())
    return Received(sent.status_code, fields, sent.content)


@pytest.mark.parametrize("row", refusals(ALL), ids=lambda row: row.id)
def test_rest_framework_refuses_as_the_adapters_do_in_a_body_of_its_own(row: Scenario) -> None:
    row.run(by_rest_framework)


@pytest.mark.parametrize("row", refusals(ALL), ids=lambda row: row.id)
def test_ninja_refuses_as_the_adapters_do_in_a_body_of_its_own(row: Scenario) -> None:
    row.run(by_ninja)


@pytest.mark.parametrize("row", ALL, ids=lambda row: row.id)
@pytest.mark.parametrize("call", [by_starlette, by_fastapi])
def test_starlette_and_fastapi_respond_as_the_adapters_do(row: Scenario, call: Call) -> None:
    row.run(call)


@pytest.mark.parametrize("row", of_requests(ALL), ids=lambda row: row.id)
def test_flask_refuses_as_the_adapters_do(row: Scenario) -> None:
    row.run(by_flask)


@pytest.mark.parametrize("row", of_requests(ALL), ids=lambda row: row.id)
def test_quart_refuses_as_the_adapters_do(row: Scenario) -> None:
    row.run(by_quart)


@pytest.mark.parametrize("row", with_own_body(ALL), ids=lambda row: row.id)
def test_litestar_refuses_as_the_adapters_do_in_a_body_of_its_own(row: Scenario) -> None:
    row.run(by_litestar)
