"""Starlette: the ASGI middleware, and decorators for routes of every kind.

Starlette's own `@requires`, `request.user` and `request.auth.scopes` keep working; these
decorators differ in that their 401 and 403 carry the whole challenge.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from bearerguard import asgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Deny
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.decorators import (
    Admitted,
    Endpoint,
    RouteDecorators,
    check_routes,
    check_takes,
)
from bearerguard.middleware.inner_apps import wrapped_apps
from bearerguard.runtime.extras import Extra

with Extra("starlette", needed_by=__name__):
    from starlette.applications import Starlette
    from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.routing import BaseRoute, Match, Router
    from starlette.websockets import WebSocket

__all__ = ["BearerMiddleware", "require", "require_scopes"]

# A class view's `dispatch` has its scope, receive and send as attributes, as a websocket has.
_Connection: TypeAlias = HTTPConnection | HTTPEndpoint | WebSocketEndpoint


class BearerMiddleware(asgi.BearerMiddleware):
    """Authenticates every request and websocket of a Starlette app; see the ASGI adapter's.

    Refuses an app in which a decorator of this module stands above the decorator of its route,
    and so guards nothing.
    """

    __slots__ = ("_error",)

    _error: ConfigurationError | None

    def _prepare(self) -> None:
        super()._prepare()
        self._error = None
        apps = [each for each in wrapped_apps(self.app) if isinstance(each, Starlette | Router)]
        try:
            self._check_apps(apps)
        except ConfigurationError as error:
            if isinstance(apps[0], Starlette):
                raise
            # The app is starting. Its server must be told by a message of the lifespan: servers
            # take an exception for an app without a lifespan, and serve it.
            self._error = error
            self._warm = (*self._warm[:2], True, *self._warm[3:])  # for `_exceptions`

    def _exceptions(self, scope: asgi.Scope) -> tuple[bool, bool]:
        if self._error is not None:
            raise self._error
        return super()._exceptions(scope)

    def _check_apps(self, apps: Sequence[Starlette | Router]) -> None:
        """Raise `ConfigurationError` where a route of these apps cannot work."""
        check_routes(endpoint for app in apps for endpoint in _endpoints(app.routes))

    def describe(self, scope: asgi.Scope) -> RequestInfo:  # noqa: D102 - as the adapter's
        apps = (each for each in wrapped_apps(self.app) if isinstance(each, Starlette | Router))
        try:
            route = _template(next((app.routes for app in apps), ()), scope)
        except Exception:  # a convertor of the app: what it raises must not change a refusal
            route = ""
        return replace(asgi.request_info(scope), route=route)

    async def _start(self) -> None:
        """Do what must be done once, when the app starts; may raise `ConfigurationError`."""

    async def pass_on(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        """Start the app, or tell its server why it cannot be started."""
        if scope["type"] == "lifespan":
            try:
                if self._error is not None:
                    raise self._error
                await self._start()
            except ConfigurationError as error:
                await receive()
                await send({"type": "lifespan.startup.failed", "message": str(error)})
                raise
        await super().pass_on(scope, receive, send)


def _template(routes: Iterable[BaseRoute], scope: asgi.Scope) -> str:
    """Return the template of the route that would handle a request, "" if there is none."""
    partly = ""
    for route in routes:
        match, inner = route.matches(scope)
        if match is Match.NONE:
            continue
        child = {**scope, **inner}
        below = getattr(route, "routes", None)
        found = _template(below, child) if below else _whole(route, scope)
        if match is Match.FULL:
            return found
        partly = partly or found  # another method of the same path
    return partly


def request_info(scope: asgi.Scope) -> RequestInfo:
    """Describe a request or websocket that has reached its route."""
    return replace(asgi.request_info(scope), route=_whole(scope.get("route"), scope))


def _whole(route: object, scope: asgi.Scope) -> str:
    path = getattr(route, "path", "")
    return scope.get("root_path", "") + path if path else ""


def _endpoints(routes: Iterable[BaseRoute]) -> Iterator[object]:
    for route in routes:
        yield getattr(route, "endpoint", None)
        inner = getattr(route, "original_router", route)  # of a router that a FastAPI app includes
        yield from _endpoints(getattr(inner, "routes", None) or ())


def require_scopes(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Require all of these scopes of a route; see `require`."""
    return _decorators.require_scopes(*names)


def require(requirement: Requirement) -> Callable[[Endpoint], Endpoint]:
    """Demand a requirement of the callers of a route.

    Decorates functions and methods, sync or async, that take a request or a websocket, and
    `HTTPEndpoint` and `WebSocketEndpoint` classes. It stands below the route's own decorator,
    where there is one.

    Raises:
        ConfigurationError: a function takes neither; or, at a request, there is no
            `BearerMiddleware` around the app.
    """
    return _decorators.require(requirement)


class _Decorators(RouteDecorators[_Connection]):
    def connection(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> _Connection | None:
        values = (*args, *kwargs.values())
        found = next((each for each in values if isinstance(each, HTTPConnection)), None)
        if found is not None:
            return found
        views = (each for each in values if isinstance(each, HTTPEndpoint | WebSocketEndpoint))
        return next(views, None)

    def admitted(self, connection: _Connection) -> Admitted | None:
        scope = connection.scope
        admission = scope.get("bearerguard")
        if not isinstance(admission, Admission):
            return None
        return Admitted(admission, scope["state"]["principal"])

    def describe(self, connection: _Connection) -> RequestInfo:
        return request_info(connection.scope)

    def refuse(self, connection: _Connection, admission: Admission, decision: Deny) -> Response:
        refusal = admission.refusal(decision, self.describe(connection))
        response = Response(refusal.body, refusal.status)
        response.raw_headers = asgi.raw_headers(refusal)
        return response

    async def arefuse(
        self, connection: _Connection, admission: Admission, decision: Deny
    ) -> object:
        if not isinstance(connection, WebSocket | HTTPEndpoint | WebSocketEndpoint):
            return self.refuse(connection, admission, decision)
        # Starlette sends nothing that these return.
        refusal = admission.refusal(decision, self.describe(connection))
        await asgi.send_response(connection.scope, connection.receive, connection.send, refusal)
        return None

    def check_function(self, function: Callable[..., object]) -> None:
        check_takes(function, HTTPConnection)

    def decorate_class(self, view: type, requirement: Requirement) -> None:
        if not issubclass(view, HTTPEndpoint | WebSocketEndpoint):
            raise ConfigurationError(
                f"require(): {view.__name__} is not an HTTPEndpoint or WebSocketEndpoint:"
                " decorate its methods instead"
            )
        dispatch = self.decorate_function(view.dispatch, requirement)
        view.dispatch = dispatch  # type: ignore[method-assign]


_decorators = _Decorators()
