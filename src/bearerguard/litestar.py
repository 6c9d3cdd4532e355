"""Litestar: a plugin over the ASGI adapter, guards for routes, and the principal as a dependency.

A refusal is raised as one of Litestar's own HTTP exceptions, with the whole challenge, so that
exception handlers, hooks and CORS handle it like any other exception. A refused websocket gets an
HTTP response where the server can send one, else it is closed with code 1008.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from functools import reduce
from operator import and_
from typing import Any, Unpack
from urllib.parse import unquote

from bearerguard import asgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, combined, scopes
from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import Admission, AdmissionOptions, RequestInfo
from bearerguard.middleware.openapi import security_requirements, security_schemes
from bearerguard.middleware.refusal import joined_headers, kept_headers, problem
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import names
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.messages import Response

with Extra("litestar", needed_by=__name__):
    from litestar.config.app import AppConfig
    from litestar.config.response_cache import ResponseCacheConfig, default_cache_key_builder
    from litestar.connection import ASGIConnection, Request
    from litestar.controller import Controller
    from litestar.di import Provide
    from litestar.exceptions import (
        ClientException,
        HTTPException,
        LitestarException,
        NotAuthorizedException,
        PermissionDeniedException,
        ServiceUnavailableException,
        WebSocketException,
    )
    from litestar.handlers import ASGIRouteHandler, BaseRouteHandler
    from litestar.handlers import asgi as asgi_route
    from litestar.middleware import DefineMiddleware
    from litestar.openapi.spec import Components, SecurityScheme
    from litestar.plugins import InitPlugin, ReceiveRoutePlugin
    from litestar.router import Router
    from litestar.routes import BaseRoute, HTTPRoute
    from litestar.types import Message, Receive, Scope, Send
    from litestar.utils import join_paths

__all__ = [
    "BearerMiddleware",
    "BearerPlugin",
    "RouteGuard",
    "provide_principal",
    "require",
    "require_scopes",
]

#: The key in a route's `opt` that leaves it out, as for Litestar's own authentication.
_EXCLUDED = "exclude_from_auth"
_REMEDY = "pass plugins=[BearerPlugin(guard)] to Litestar"
_EXCEPTIONS: dict[int, type[HTTPException]] = {
    401: NotAuthorizedException,
    403: PermissionDeniedException,
    503: ServiceUnavailableException,
}
# What a guarded route may raise, for OpenAPI.
_RAISED = (NotAuthorizedException, PermissionDeniedException, ServiceUnavailableException)


class BearerMiddleware(asgi.BearerMiddleware):
    """Authenticates the requests and websockets of an app's routes; see the ASGI adapter's.

    `DefineMiddleware(BearerMiddleware, guard=guard)` stands in `middleware=` of an app, a router, a
    controller or a route. A route with `exclude_from_auth=True` is left out.
    """

    __slots__ = ()

    app_sees_refusals = True  # Litestar's CORS middleware is outside this one

    def _prepare(self) -> None:
        self.admission.has_exceptions = True  # a request tells whether its route opts out
        super()._prepare()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a connection as an ASGI app."""
        if scope["type"] == "websocket":
            send = asgi.sending_refusals(scope, send)
        await super().__call__(scope, receive, send)

    async def refuse(
        self,
        scope: asgi.Scope,
        receive: asgi.Receive,
        send: asgi.Send,
        decision: Deny | Unavailable,
    ) -> None:
        """Refuse a request by Litestar's exception, a websocket by a response or by 1008."""
        if scope["type"] == "websocket" or "litestar_app" not in scope:
            await super().refuse(scope, receive, send, decision)
        else:
            raise _exception(scope, self.admission, decision)

    def describe(self, scope: asgi.Scope) -> RequestInfo:
        """Describe a request that is refused, with the template of its path."""
        return _request_info(scope)

    def _metadata(self, scope: asgi.Scope) -> None:
        """Leave the metadata to the route that `BearerPlugin` adds."""

    def _exceptions(self, scope: asgi.Scope) -> tuple[bool, bool]:
        handler: BaseRouteHandler | None = scope.get("route_handler")
        if handler is not None and handler.opt.get(_EXCLUDED):
            return True, False
        if getattr(handler, "is_mount", False):
            # Litestar has removed the mount's prefix from the path.
            raw: bytes = scope.get("raw_path") or b""
            scope = {**scope, "path": unquote(raw.partition(b"?")[0].decode("latin-1"))}
        return super()._exceptions(scope)


class RouteGuard:
    """A guard of Litestar that demands a requirement; made by `require` and `require_scopes`.

    Attributes:
        requirement: as passed.
    """

    def __init__(self, requirement: Requirement) -> None:
        if not isinstance(requirement, Requirement):
            raise ConfigurationError('require(): pass a requirement, such as scopes("read")')
        self.requirement: Requirement = requirement

    async def __call__(
        self, connection: ASGIConnection[Any, Any, Any, Any], route_handler: BaseRouteHandler
    ) -> None:
        """Raise the refusal of a caller that does not meet the requirements of the route."""
        scope: Any = connection.scope
        admission = scope.get("bearerguard")
        if not isinstance(admission, Admission):
            raise ConfigurationError(f"require(): no guard found: {_REMEDY}")
        # All guards of the route, so that a 403 names all that is needed.
        whole = reduce(and_, [*_requirements(route_handler), self.requirement])
        # Not `scope["user"]`: an authentication middleware inside may have set its own user there.
        principal = scope["state"]["principal"]
        decision = admission.authorize(principal, whole, lambda: _request_info(scope))
        if decision is not None:
            raise _exception(scope, admission, decision)


def require_scopes(*names: str) -> RouteGuard:
    """Require all of these scopes, in `guards=` of a route, controller, router or app."""
    return RouteGuard(scopes(*names))


def require(requirement: Requirement) -> RouteGuard:
    """Demand a requirement of the callers, in `guards=` of a route, controller, router or app.

    Raises:
        ConfigurationError: it is not a requirement; or, at a request, no `BearerMiddleware` has
            authenticated it.
    """
    return RouteGuard(requirement)


async def provide_principal(scope: Scope) -> Principal:
    """Return the caller; the dependency that `BearerPlugin` registers as `principal`.

    Raises:
        ConfigurationError: no `BearerMiddleware` has authenticated the request.
    """
    found: object = (scope.get("state") or {}).get("principal")
    if not isinstance(found, Principal):
        raise ConfigurationError(f"principal: no guard found: {_REMEDY}")
    return found


class BearerPlugin(InitPlugin, ReceiveRoutePlugin):
    """Authenticates every request and websocket of a Litestar app: `plugins=[BearerPlugin(guard)]`.

    Puts the middleware first, registers the dependency `principal`, keeps the challenge in the
    responses of the app's own exception handlers, and documents the routes in OpenAPI. The cached
    responses of routes with `cache=` are each token's own, unless the app has its own key builder.

    Args:
        guard: validates the tokens.
        options: `require`, `optional`, `exclude` and `pass_preflights` of the ASGI adapter.

    Raises:
        ConfigurationError: an option is malformed.
    """

    def __init__(self, guard: Guard, **options: Unpack[AdmissionOptions]) -> None:
        self.guard: Guard = guard
        self._options = options
        self._admission = Admission(guard, **options)

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Add what the app needs; Litestar calls it."""
        middleware = DefineMiddleware(BearerMiddleware, guard=self.guard, **self._options)
        app_config.middleware.insert(0, middleware)
        taken = {path for each in app_config.route_handlers for path in _paths_of(each)}
        places = [path for path in self._admission.metadata_paths() if path not in taken]
        if places:
            app_config.route_handlers.append(_metadata_route(places, self.guard))
        app_config.dependencies.setdefault("principal", Provide(provide_principal))
        app_config.before_send.append(_keep_challenge)
        caching = app_config.response_cache_config or ResponseCacheConfig()
        if caching.key_builder is default_cache_key_builder:
            app_config.response_cache_config = replace(caching, key_builder=_cache_key)
        if app_config.openapi_config is not None:
            # Litestar's default is one object for all apps.
            app_config.openapi_config = config = copy(app_config.openapi_config)
            own = config.components if isinstance(config.components, list) else [config.components]
            config.components = [_components(self.guard), *own]
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Document a route; Litestar calls it."""
        if not isinstance(route, HTTPRoute) or self._admission.excludes(route.path):
            return
        optional = self._admission.is_optional(route.path)
        for handler in route.route_handlers:
            if handler.opt.get(_EXCLUDED):
                continue
            if handler.security is None:
                needed = combined(self._admission.requirement, *_requirements(handler))
                security = security_requirements(self.guard, needed, optional=optional)
                handler.security = security
            raises = handler.raises or ()
            handler.raises = [*raises, *(each for each in _RAISED if each not in raises)]


def _paths_of(handler: object) -> Iterator[str]:
    """Yield the paths of a route handler, a router or a controller, as far as they are known."""
    if isinstance(handler, BaseRouteHandler):
        yield from handler.paths
    elif isinstance(handler, Router):
        yield from (route.path for route in handler.routes)
    elif isinstance(handler, type) and issubclass(handler, Controller):
        routes = (getattr(handler, name) for name in dir(handler))
        for each in routes:
            if isinstance(each, BaseRouteHandler):
                # `path` is a slot of instances, and a constant of the class.
                yield from (
                    join_paths([handler.path, path])  # type: ignore[misc]
                    for path in each.paths
                )


def _metadata_route(places: list[str], guard: Guard) -> ASGIRouteHandler:
    """Return the route of the API's metadata: middleware sees requests for routes only."""
    serve: Any = asgi.ResourceMetadata(guard=guard)

    async def metadata(scope: Scope, receive: Receive, send: Send) -> None:
        await serve(scope, receive, send)

    return asgi_route(places, copy_scope=True, opt={_EXCLUDED: True})(metadata)


def _cache_key(request: Request[Any, Any, Any]) -> str:
    """Return Litestar's key of a cached response, with the token of the request if it has one.

    By Litestar's own, one caller would get what a route has responded to another.
    """
    scope: Any = request.scope
    key = default_cache_key_builder(request)
    principal = scope["state"].get("principal", ANONYMOUS)
    if not principal.is_authenticated:
        return key
    token = request.headers["authorization"].encode("latin-1")
    return f"{hashlib.sha256(token).hexdigest()} {key}"


def _request_info(scope: asgi.Scope) -> RequestInfo:
    template: str = scope.get("path_template", "")
    route = scope.get("root_path", "") + template if template else ""
    return replace(asgi.request_info(scope), route=route)


def _components(guard: Guard) -> Components:
    return Components(
        security_schemes={
            name: SecurityScheme(
                type=scheme["type"],  # type: ignore[arg-type]
                open_id_connect_url=scheme.get("openIdConnectUrl"),
                scheme=scheme.get("scheme"),
                bearer_format=scheme.get("bearerFormat"),
            )
            for name, scheme in security_schemes(guard).items()
        }
    )


def _requirements(handler: BaseRouteHandler) -> list[Requirement]:
    """Return the requirements of a route's guards, those of its app first."""
    guards = handler.resolve_guards()
    return [each.requirement for each in guards if isinstance(each, RouteGuard)]


def _exception(scope: Any, admission: Admission, decision: Deny | Unavailable) -> LitestarException:
    """Return Litestar's exception that refuses a request or a websocket."""
    scope[asgi.REFUSAL] = refusal = admission.refusal(decision, asgi.request_info(scope))
    detail = decision.reason.description
    if scope["type"] == "websocket":
        return WebSocketException(detail=detail, code=names.POLICY_VIOLATION)
    extra: dict[str, Any] = {
        name: value for name, value in problem(decision).items() if name in {"error", "scope"}
    }
    exception = _EXCEPTIONS.get(refusal.status, ClientException)
    headers = joined_headers(refusal)
    return exception(
        detail=detail, status_code=refusal.status, headers=headers, extra=extra or None
    )


async def _keep_challenge(message: Message, scope: Scope) -> None:
    """Give an exception handler's own response the headers that a refusal must have."""
    if message["type"] != "http.response.start":
        return
    refusal: Response | None = scope.get(asgi.REFUSAL)  # type: ignore[assignment]
    if refusal is None or message["status"] != refusal.status:
        return
    headers = [*message["headers"]]
    present = {name.lower() for name, _ in headers}
    for name, values in kept_headers(refusal).items():
        field = name.lower().encode()
        if field not in present:
            headers.append((field, ", ".join(values).encode()))
    message["headers"] = headers
