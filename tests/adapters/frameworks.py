"""One small app in each framework, with the same six routes, called through its protocol.

`/who` needs a token, `/write` the scope `write` besides, `/boss` the role `boss`, and `/fresh` the
scope `write` and a recent login; at `/maybe` the token is optional, and `/open` is excluded. Each
responds with the identity of the caller. The websocket `/live`, where there are websockets, needs
the scope `write` and sends the identity.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from tests.django_project import OURS, project

# isort: split
from asgiref.wsgi import WsgiToAsgi
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.test.utils import override_settings
from django.urls import path
from fastapi import Depends, FastAPI, Security, WebSocket
from fastapi.responses import PlainTextResponse
from flask import Flask
from litestar import Litestar
from litestar import Request as LitestarRequest
from litestar import get as litestar_get
from litestar import route as litestar_route
from litestar import websocket as litestar_websocket
from litestar.connection import WebSocket as LitestarSocket
from litestar.di import NamedDependency
from ninja import NinjaAPI
from quart import Quart
from quart import websocket as quart_websocket
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.response import Response as RestResponse
from rest_framework.views import APIView
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route, WebSocketRoute

from bearerguard import ANONYMOUS, Guard, Principal, role, scopes, step_up
from bearerguard import django as ours_django
from bearerguard import fastapi as ours_fastapi
from bearerguard import flask as ours_flask
from bearerguard import litestar as ours_litestar
from bearerguard import quart as ours_quart
from bearerguard import starlette as ours_starlette
from bearerguard.django import rest_framework as ours_rest
from bearerguard.ninja import BearerAuth
from tests.conformance.drivers import Received, Sent, through_asgi, through_wsgi

WHERE: dict[str, Any] = {"optional": ("/maybe",), "exclude": ("/open",)}
BOSS = role("boss")
FRESH = scopes("write") & step_up(acr=["phr", "phrh"], max_age=300)


@dataclass(frozen=True)
class Served:
    """An app, how a request gets to it, and the app as a server of ASGI has it."""

    app: Any
    call: Callable[[Sent], Received]
    asgi: Any


Serve = Callable[..., AbstractContextManager[Served]]


def through_django_asgi(request: Sent) -> Received:
    received = through_asgi(ASGIHandler(), request)
    # Django leaves names in their usual case, and servers send them in lower case.
    fields = ((name.lower(), value) for name, value in received.headers)
    return replace(received, headers=tuple(fields))


def by_asgi(app: Any) -> Served:
    return Served(app, lambda request: through_asgi(app, request), app)


@contextmanager
def starlette(guard: Guard, **options: Any) -> Generator[Served]:
    async def who(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.user.identity)

    @ours_starlette.require_scopes("write")
    async def live(websocket: Any) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.user.identity)
        await websocket.close()

    yield by_asgi(
        Starlette(
            routes=[
                *(Route(each, who) for each in ("/who", "/maybe", "/open")),
                Route("/write", ours_starlette.require_scopes("write")(who)),
                Route("/boss", ours_starlette.require(BOSS)(who)),
                Route("/fresh", ours_starlette.require(FRESH)(who)),
                WebSocketRoute("/live", live),
            ],
            middleware=[
                Middleware(ours_starlette.BearerMiddleware, guard=guard, **WHERE, **options)
            ],
        )
    )


def fastapi_app(guard: Guard, app: FastAPI) -> Served:
    bearer = ours_fastapi.BearerSecurity(guard)
    maybe_bearer = ours_fastapi.BearerSecurity(guard, optional=True)

    def text(principal: Principal) -> PlainTextResponse:
        return PlainTextResponse(principal.identity)

    def routed(place: str, dependency: Any) -> None:
        @app.api_route(place, methods=["GET", "HEAD"], response_class=PlainTextResponse)
        async def route(principal: Principal = dependency) -> str:
            return principal.identity

    routed("/who", Depends(bearer))
    routed("/write", Security(bearer, scopes=["write"]))
    routed("/boss", Depends(bearer.require(BOSS)))
    routed("/fresh", Depends(bearer.require(FRESH)))
    routed("/maybe", Depends(maybe_bearer))
    routed("/open", Depends(lambda: ANONYMOUS))

    @app.websocket("/live")
    async def live(
        websocket: WebSocket,
        principal: Principal = Security(bearer, scopes=["write"]),  # noqa: B008 - as FastAPI has it
    ) -> None:
        await websocket.accept()
        await websocket.send_text(principal.identity)
        await websocket.close()

    return by_asgi(app)


@contextmanager
def fastapi(guard: Guard, **options: Any) -> Generator[Served]:
    middleware = Middleware(ours_fastapi.BearerMiddleware, guard=guard, **WHERE, **options)
    yield fastapi_app(guard, FastAPI(middleware=[middleware]))


@contextmanager
def fastapi_alone(guard: Guard) -> Generator[Served]:
    yield fastapi_app(guard, FastAPI())


@contextmanager
def flask(guard: Guard, **options: Any) -> Generator[Served]:
    def who() -> Any:
        return ours_flask.current_principal.identity, {"Content-Type": "text/plain"}

    app = Flask(__name__)
    ours_flask.BearerGuard(app, guard=guard, **WHERE, **options)
    for each in ("/who", "/maybe", "/open"):
        app.add_url_rule(each, each, who)
    app.add_url_rule("/write", "write", ours_flask.require_scopes("write")(who))
    app.add_url_rule("/boss", "boss", ours_flask.require(BOSS)(who))
    app.add_url_rule("/fresh", "fresh", ours_flask.require(FRESH)(who))
    yield Served(app, lambda request: through_wsgi(app, request), WsgiToAsgi(app))


@contextmanager
def quart(guard: Guard, **options: Any) -> Generator[Served]:
    async def who() -> Any:
        return ours_quart.current_principal.identity, {"Content-Type": "text/plain"}

    async def live() -> None:
        await quart_websocket.send(ours_quart.current_principal.identity)

    app = Quart(__name__)
    ours_quart.BearerGuard(app, guard=guard, **WHERE, **options)
    for each in ("/who", "/maybe", "/open"):
        app.add_url_rule(each, each, who)
    app.add_url_rule("/write", "write", ours_quart.require_scopes("write")(who))
    app.add_url_rule("/boss", "boss", ours_quart.require(BOSS)(who))
    app.add_url_rule("/fresh", "fresh", ours_quart.require(FRESH)(who))
    app.add_websocket("/live", "live", ours_quart.require_scopes("write")(live))
    yield by_asgi(app)


@contextmanager
def litestar(guard: Guard, **options: Any) -> Generator[Served]:
    @litestar_route(
        ["/who", "/maybe", "/open"],
        http_method=["GET", "HEAD"],
        media_type="text/plain",
        status_code=200,
    )
    async def who(
        principal: NamedDependency[Principal], request: LitestarRequest[Any, Any, Any]
    ) -> Any:
        return b"" if request.method == "HEAD" else principal.identity

    @litestar_get("/write", guards=[ours_litestar.require_scopes("write")], media_type="text/plain")
    async def write(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    @litestar_get("/boss", guards=[ours_litestar.require(BOSS)], media_type="text/plain")
    async def boss(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    @litestar_get("/fresh", guards=[ours_litestar.require(FRESH)], media_type="text/plain")
    async def fresh(principal: NamedDependency[Principal]) -> str:
        return principal.identity

    @litestar_websocket("/live", guards=[ours_litestar.require_scopes("write")])
    async def live(
        socket: LitestarSocket[Any, Any, Any], principal: NamedDependency[Principal]
    ) -> None:
        await socket.accept()
        await socket.send_text(principal.identity)
        await socket.close()

    plugin = ours_litestar.BearerPlugin(guard, **WHERE, **options)
    yield by_asgi(Litestar([who, write, boss, fresh, live], plugins=[plugin]))


@contextmanager
def of_django(
    patterns: list[Any], guard: Guard, call: Any, middleware: list[str], options: dict[str, Any]
) -> Generator[Served]:
    named = {name.upper(): value for name, value in {**WHERE, **options}.items()}
    handler = {"EXCEPTION_HANDLER": "bearerguard.django.rest_framework.exception_handler"}
    with (
        project(*patterns, guard=guard, middleware=middleware, **named),
        override_settings(REST_FRAMEWORK=handler),
    ):
        # Django has no object with the app's guard: it is that of the settings.
        if call is None:
            # A new handler for each: it makes the middleware of the settings in force.
            by_wsgi = WsgiToAsgi(WSGIHandler())
            yield Served(None, lambda request: through_wsgi(WSGIHandler(), request), by_wsgi)
        else:
            yield Served(None, call, ASGIHandler())


def text_of(request: HttpRequest) -> HttpResponse:
    principal: Principal = getattr(request, "principal", ANONYMOUS)
    return HttpResponse(principal.identity, content_type="text/plain")


def django_patterns(who: Any) -> list[Any]:
    return [
        *(path(each, who) for each in ("who", "maybe", "open")),
        path("write", ours_django.require_scopes("write")(who)),
        path("boss", ours_django.require(BOSS)(who)),
        path("fresh", ours_django.require(FRESH)(who)),
    ]


@contextmanager
def django(guard: Guard, **options: Any) -> Generator[Served]:
    with of_django(django_patterns(text_of), guard, None, [OURS], options) as served:
        yield served


@contextmanager
def async_django(guard: Guard, **options: Any) -> Generator[Served]:
    async def who(request: HttpRequest) -> HttpResponse:
        return text_of(request)

    with of_django(django_patterns(who), guard, through_django_asgi, [OURS], options) as served:
        yield served


class Who(APIView):
    authentication_classes = (ours_rest.BearerAuthentication,)
    permission_classes: Any = (IsAuthenticated,)

    def get(self, request: Any) -> RestResponse:
        return RestResponse(text_of(request._request).content.decode())


class Open(Who):
    permission_classes: Any = (AllowAny,)


class Write(Who):
    permission_classes: Any = (ours_rest.HasScopes.of("write"),)


class Boss(Who):
    permission_classes: Any = (ours_rest.Requires(BOSS),)


class Fresh(Who):
    permission_classes: Any = (ours_rest.Requires(FRESH),)


def rest_framework_in(guard: Guard, middleware: list[str], options: Any) -> Any:
    patterns = [
        path("who", Who.as_view()),
        path("maybe", Open.as_view()),
        path("open", Open.as_view()),
        path("write", Write.as_view()),
        path("boss", Boss.as_view()),
        path("fresh", Fresh.as_view()),
    ]
    return of_django(patterns, guard, None, middleware, options)


def rest_framework(guard: Guard, **options: Any) -> Any:
    return rest_framework_in(guard, [OURS], options)


def rest_framework_alone(guard: Guard, **options: Any) -> Any:
    return rest_framework_in(guard, [], options)


def ninja_in(guard: Guard, middleware: list[str], call: Any, options: Any) -> Any:
    auths = {
        "/who": BearerAuth(),
        "/maybe": BearerAuth(optional=True),
        "/open": None,
        "/write": BearerAuth(scopes=["write"]),
        "/boss": BearerAuth(require=BOSS),
        "/fresh": BearerAuth(require=FRESH),
    }
    api = NinjaAPI()
    for place, auth in auths.items():
        if call is None:

            @api.api_operation(["GET", "HEAD"], place, auth=auth, operation_id=place)
            def who(request: HttpRequest) -> HttpResponse:
                return text_of(request)
        else:

            @api.api_operation(["GET", "HEAD"], place, auth=auth, operation_id=place)
            async def awho(request: HttpRequest) -> HttpResponse:
                return text_of(request)

    return of_django([path("", api.urls)], guard, call, middleware, options)


def ninja(guard: Guard, **options: Any) -> Any:
    return ninja_in(guard, [OURS], None, options)


def ninja_alone(guard: Guard, **options: Any) -> Any:
    return ninja_in(guard, [], None, options)


def async_ninja_alone(guard: Guard, **options: Any) -> Any:
    return ninja_in(guard, [], through_django_asgi, options)


# With the middleware or the extension, which sees every request.
WHOLE: dict[str, Serve] = {
    "starlette": starlette,
    "fastapi": fastapi,
    "flask": flask,
    "quart": quart,
    "litestar": litestar,
    "django": django,
    "async django": async_django,
    "rest framework": rest_framework,
    "ninja": ninja,
}
# Where routes alone authenticate.
ALONE: dict[str, Serve] = {
    "fastapi alone": fastapi_alone,
    "rest framework alone": rest_framework_alone,
    "ninja alone": ninja_alone,
    "async ninja alone": async_ninja_alone,
}
FRAMEWORKS = {**WHOLE, **ALONE}
