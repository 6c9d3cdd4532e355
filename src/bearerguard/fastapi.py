"""FastAPI: `BearerSecurity`, a `Security` dependency, and the ASGI middleware.

The dependency works alone, and behind the middleware, whose decision it reads. It refuses by an
`HTTPException`, so that an app's exception handlers see a refusal like any other error.
"""

from __future__ import annotations

import inspect
import logging
import re
import weakref
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from functools import partial
from itertools import product
from typing import Annotated, Any, ForwardRef, NoReturn, cast

from bearerguard import asgi
from bearerguard.errors import ConfigurationError, quoted
from bearerguard.guard.config.issuer import Issuer
from bearerguard.guard.config.options import check_requirement
from bearerguard.guard.config.requirement import Requirement, combined, scopes
from bearerguard.guard.decision import Allow, Deny, Pending, Unavailable
from bearerguard.guard.events import Place
from bearerguard.guard.guard import Guard
from bearerguard.guard.keys.discovery import discover
from bearerguard.middleware.admission import Admission
from bearerguard.middleware.decorators import (
    REQUIREMENT,
    Admitted,
    check_routes,
    requirement_of,
)
from bearerguard.middleware.openapi import metadata_url
from bearerguard.middleware.refusal import PROBLEM_MEDIA_TYPE, joined_headers, kept_headers
from bearerguard.principal import ANONYMOUS, Principal
from bearerguard.protocol import metadata
from bearerguard.protocol.names import POLICY_VIOLATION
from bearerguard.runtime import messages
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.messages import FetchFailed

with Extra("fastapi", needed_by=__name__):
    from fastapi import Depends, FastAPI, HTTPException, Response, WebSocketException, params
    from fastapi.concurrency import run_in_threadpool
    from fastapi.dependencies.models import Dependant
    from fastapi.dependencies.utils import get_typed_signature
    from fastapi.exception_handlers import http_exception_handler
    from fastapi.openapi import models
    from fastapi.routing import APIRouter, RouteContext, iter_route_contexts
    from fastapi.security import SecurityScopes
    from fastapi.security.base import SecurityBase
    from starlette.applications import Starlette
    from starlette.requests import HTTPConnection
    from starlette.routing import BaseRoute, Match, Route, Router

    from bearerguard import starlette  # here: this extra installs what it needs

__all__ = ["BearerMiddleware", "BearerSecurity"]

_log = logging.getLogger("bearerguard")

# Where a `BearerSecurity` without the middleware stores the caller, for the others of the route.
_ADMITTED = "bearerguard.security"
# An annotation that FastAPI cannot evaluate must not contain these.
_INJECTED = re.compile(r"\b(?:Principal|Security|Depends)\b")
# The apps whose routes have been checked.
_checked: weakref.WeakSet[FastAPI] = weakref.WeakSet()


class _NotInjected:
    """Marks an argument that FastAPI must not take from a request."""

    def __init__(self, remedy: str) -> None:
        self._remedy = remedy

    def __get_pydantic_core_schema__(self, *_: object) -> NoReturn:
        """Refuse the route that FastAPI is about to make."""
        raise ConfigurationError(self._remedy)


class BearerSecurity(SecurityBase):
    """A dependency that returns the `Principal` of a request or websocket.

    `Annotated[Principal, Security(bearer, scopes=["read"])]` on a route, or
    `dependencies=[Security(bearer)]` on a route, a router or the app. Scopes of nested `Security`
    add up. A request is refused by an `HTTPException` with the whole challenge, a websocket before
    it is accepted.

    Without the middleware it authenticates each request once. Behind a `BearerMiddleware` with the
    same guard it reads the middleware's decision, and adds its own requirement.

    Args:
        guard: validates the tokens.
        require: what every request needs, besides the guard's own requirement.
        optional: whether a request without a token passes as `ANONYMOUS`.
        scheme_name: the name of the security scheme in OpenAPI.
        description: its description there.
        scopes: the scopes to choose from in the documentation, each with its description.

    Attributes:
        guard: as passed.
        requirement: the guard's own and `require=`, combined; None without one.
        model: the security scheme in OpenAPI. It is `openIdConnect`, with the URL of the issuer's
            metadata; once an app with `init_app` or the middleware has started, `oauth2`, with the
            issuer's endpoints. With several issuers, tenants, or an issuer that publishes no
            metadata it is `http`.
        optional, scheme_name, description, scopes: as passed.

    Raises:
        ConfigurationError: an option is malformed.
    """

    guard: Guard
    requirement: Requirement | None
    model: models.SecurityBase
    optional: bool
    scheme_name: str
    description: str | None
    scopes: Mapping[str, str]

    def __init__(
        self,
        guard: Annotated[
            Guard,
            _NotInjected("Depends(BearerSecurity): pass an instance: bearer = BearerSecurity(...)"),
        ],
        *,
        require: Requirement | None = None,
        optional: bool = False,
        scheme_name: str = "BearerSecurity",
        description: str | None = None,
        scopes: Mapping[str, str] | None = None,
    ) -> None:
        check_requirement(require)
        if not isinstance(optional, bool):
            raise ConfigurationError("optional=: pass True or False")
        if not isinstance(scopes, Mapping | None):
            raise ConfigurationError('scopes=: pass a dict such as {"read": "Read recordings"}')
        self._admission = Admission(guard, optional=optional)
        self.requirement = combined(guard.requirement, require)
        self.optional = optional
        self._response_headers = asgi.response_headers(guard)
        self.scopes = dict(scopes or {})
        self._requirements: dict[tuple[str, ...], Requirement | None] = {}
        self.description = description
        self._app: FastAPI | None = None
        self.guard = guard
        self.model = _scheme(guard.issuers, description)
        self.scheme_name = scheme_name

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """The refusals, for `responses=` of an app, router or route; `init_app` adds them."""
        return _responses(self.guard, _PROBLEM)

    async def __call__(
        self, connection: HTTPConnection, security_scopes: SecurityScopes, response: Response
    ) -> Principal:
        """Return the caller.

        Raises:
            HTTPException: the request or websocket is refused.
            WebSocketException: the websocket is refused, and the server cannot send a response.
        """
        app = connection.scope["app"]
        if app is not self._app:  # an app that was started without a lifespan is checked here
            if app not in _checked:
                _check(app)
            self._app = app
        admission, principal = self._admitted(connection) or await self._authenticate(
            connection, response
        )
        requirement = self.requirement_with(security_scopes.scopes)
        if principal is ANONYMOUS:
            if self.optional:
                return principal
        elif requirement is None or requirement.met_by(principal):
            return principal
        refusal = _insufficient(connection, admission, principal, requirement)
        if refusal is None:
            return principal
        raise refusal

    def require(
        self,
        requirement: Annotated[
            Requirement,
            _NotInjected('require(): call it: Depends(bearer.require(role("admin")))'),
        ],
    ) -> Callable[..., Awaitable[Principal]]:
        """Return a dependency that also demands a requirement, such as a role or a claim.

        `Annotated[Principal, Depends(bearer.require(role("admin")))]`. In tests, overriding this
        object in `app.dependency_overrides` applies here too: the principal that the override
        returns is checked against the requirement.

        Raises:
            ConfigurationError: it is not a requirement.
        """
        if not isinstance(requirement, Requirement):
            raise ConfigurationError('require(): pass a requirement, such as role("admin")')

        async def required(
            connection: HTTPConnection,
            principal: Principal = Depends(self),  # noqa: B008 - `self` is no global name
        ) -> Principal:
            if not isinstance(principal, Principal):
                raise ConfigurationError(
                    "dependency_overrides: the override of a BearerSecurity must return a Principal"
                )
            refusal = None
            if not self.guard.meets(principal, requirement) and not (
                self.optional and principal is ANONYMOUS
            ):
                found = self._admitted(connection)
                admission = self._admission if found is None else found.admission
                refusal = _insufficient(connection, admission, principal, requirement)
            if refusal is not None:
                raise refusal
            return principal

        setattr(required, REQUIREMENT, requirement)
        return required

    def init_app(self, app: FastAPI) -> None:
        """Prepare an app that has no `BearerMiddleware`, which would do the same.

        When the app starts, routes that cannot work are refused, and the issuer's endpoints are
        discovered for OpenAPI; refusals are documented there. The metadata of the API is served,
        unless the app has a route of its own for it. It may be called for each `BearerSecurity` of
        an app.

        Raises:
            ConfigurationError: the guard has `dpop_content_digest=True`.
        """
        _check_may_decide(self.guard)
        _document(app)
        if self.requirement != self.guard.requirement:
            self.guard.publish(self.requirement)
        _add_metadata(app, self._admission)
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Any) -> AsyncGenerator[Any]:
            await _start(app)
            async with inner(started) as state:
                yield state

        app.router.lifespan_context = lifespan

    def _admitted(self, connection: HTTPConnection) -> Admitted | None:
        """Return the caller that the middleware or another `BearerSecurity` stored, else None."""
        scope = connection.scope
        admitted: Admitted | None = scope.get(_ADMITTED)
        if admitted is not None and admitted.admission.guard is self.guard:
            return admitted
        admission = scope.get("bearerguard")
        if not isinstance(admission, Admission) or admission.guard is not self.guard:
            return None
        principal: Principal = scope["state"]["principal"]
        if not principal.is_authenticated:
            # Its patterns are of the path that the middleware saw, not of that below a mount.
            root = scope.get("app_root_path", scope.get("root_path", ""))
            request = asgi.request_info({**scope, "root_path": root})
            if admission.excludes(request.path, request.raw_path):
                return None
        return Admitted(admission, principal)

    async def _authenticate(self, connection: HTTPConnection, response: Response) -> Admitted:
        scope = connection.scope
        fields = asgi.authorization_fields(scope)
        place = partial(_place, self._admission, scope)
        # Optional and without a requirement: `__call__` refuses, and names all that is needed.
        received = partial(asgi.received_request, scope)
        _check_may_decide(self.guard)
        decision = self.guard.decide_now(fields, optional=True, place=place, request=received)
        if isinstance(decision, Pending):
            decision = await self.guard.arun(decision.flow)
        if not isinstance(decision, Allow):
            raise _refusal(connection, self._admission, decision)
        principal = decision.principal
        scope[_ADMITTED] = admitted = Admitted(self._admission, principal)
        if scope.get("user", ANONYMOUS) is ANONYMOUS:  # else another package's user
            asgi.admit(scope, self._admission, principal)
        headers = self._response_headers.complete(
            self._response_headers.of_token(principal), response.raw_headers
        )
        has_origin = any(name.lower() == b"origin" for name, _ in scope["headers"])
        if has_origin or self.optional:
            self._response_headers.add_to_lists(
                headers, has_origin=has_origin, optional=self.optional
            )
        response.raw_headers[:] = asgi.with_fields(headers, decision.headers)
        return admitted

    def requirement_with(self, names: Iterable[str]) -> Requirement | None:
        """Return what a route with these scopes requires, None if any valid token suffices.

        Raises:
            ConfigurationError: a scope is malformed.
        """
        key = tuple(names)
        if key not in self._requirements:
            self._requirements[key] = combined(self.requirement, scopes(*key) if key else None)
        return self._requirements[key]


class BearerMiddleware(starlette.BearerMiddleware):
    """Authenticates every request and websocket of a FastAPI app; see the ASGI adapter's.

    When the app starts, routes that cannot work are refused, and OpenAPI is completed as
    `BearerSecurity.init_app` does. In tests, a request without a token reaches a route whose
    `BearerSecurity` is in the app's `dependency_overrides`.
    """

    __slots__ = ("_fastapi", "_with_overrides")

    _fastapi: FastAPI | None
    _with_overrides: tuple[FastAPI, ...]

    def _check_apps(self, apps: Sequence[Starlette | Router]) -> None:
        providers = (
            each.dependency_overrides_provider if isinstance(each, APIRouter) else each
            for each in apps
        )
        self._fastapi = next((each for each in providers if isinstance(each, FastAPI)), None)
        self._with_overrides = ()
        if self._fastapi is not None:
            self._with_overrides = (self._fastapi, *_mounted(self._fastapi))
            _check(self._fastapi, self.admission)

    async def _start(self) -> None:
        if self._fastapi is not None:
            self._with_overrides = (self._fastapi, *_mounted(self._fastapi))
            await _start(self._fastapi, self.admission)

    async def refuse(
        self,
        scope: asgi.Scope,
        receive: asgi.Receive,
        send: asgi.Send,
        decision: Deny | Unavailable,
    ) -> None:
        """Refuse a request, unless a test has overridden the `BearerSecurity` of its route."""
        has_overrides = any(each.dependency_overrides for each in self._with_overrides)
        if has_overrides and _is_overridden(self._with_overrides[0], scope):
            _log.warning(
                "dependency_overrides replaces a BearerSecurity: requests to its routes are not"
                " authenticated"
            )
            await self.app(scope, receive, send)
            return
        await super().refuse(scope, receive, send, decision)


def _check_may_decide(guard: Guard) -> None:
    """Raise `ConfigurationError` if a dependency comes too late to decide on a request."""
    if guard.options.get("dpop_content_digest"):
        # FastAPI reads the body before it calls dependencies, and may have parsed it.
        raise ConfigurationError(
            "dpop_content_digest=: the body must be checked before FastAPI reads it: add"
            " BearerMiddleware with this guard to the app, which does what init_app does too"
        )


# --- Refusing


class _Refused(HTTPException):
    """A refusal, as FastAPI's exception handlers see it."""

    def __init__(self, refusal: messages.Response, decision: Deny | Unavailable) -> None:
        headers = joined_headers(refusal)
        super().__init__(refusal.status, decision.reason.description, headers)
        self.refusal = refusal


def _refusal(
    connection: HTTPConnection, admission: Admission, decision: Deny | Unavailable
) -> Exception:
    scope = connection.scope
    if scope["type"] == "websocket" and not asgi.takes_responses(scope):
        return WebSocketException(POLICY_VIOLATION, decision.reason.description)
    # Starlette's own registry: `add_exception_handler` has no effect once an app has started.
    handlers, _ = scope["starlette.exception_handlers"]
    handlers.setdefault(_Refused, _respond)
    return _Refused(admission.refusal(decision, starlette.request_info(scope)), decision)


def _place(admission: Admission, scope: asgi.Scope) -> Place:
    return admission.place(starlette.request_info(scope))


def _insufficient(
    connection: HTTPConnection,
    admission: Admission,
    principal: Principal,
    requirement: Requirement | None,
) -> Exception | None:
    """Return the refusal of a caller who does not meet the requirement of the whole route.

    None if the caller does: what is required of a login depends on the moment.
    """
    whole = combined(admission.requirement, _of_route(connection.scope), requirement)
    place = partial(_place, admission, connection.scope)
    deny = admission.guard.authorize(principal, whole, place=place)
    return None if deny is None else _refusal(connection, admission, deny)


async def _respond(connection: HTTPConnection, refused: _Refused) -> Any:
    """Send a refusal by the app's own handler of `HTTPException`, or unchanged without one."""
    handlers, _ = connection.scope["starlette.exception_handlers"]
    handler = next(handlers[each] for each in _Refused.__mro__[1:] if each in handlers)
    refusal = refused.refusal
    if handler is http_exception_handler:
        response = Response(refusal.body, refusal.status)
        response.raw_headers = asgi.raw_headers(refusal)
        return response
    if inspect.iscoroutinefunction(handler):
        own = await handler(connection, refused)
    else:
        own = await run_in_threadpool(handler, connection, refused)
    if own is not None and own.status_code == refusal.status:
        for name, values in kept_headers(refusal).items():
            own.headers.setdefault(name, ", ".join(values))
    return own


# --- What a route needs


def _walk(dependant: Dependant) -> Iterator[tuple[Callable[..., Any], list[str]]]:
    """Yield each function of a route, the dependencies last, with its `SecurityScopes`."""
    names = [*(dependant.parent_oauth_scopes or ()), *(dependant.own_oauth_scopes or ())]
    yield cast("Callable[..., Any]", dependant.call), list(dict.fromkeys(names))
    for each in dependant.dependencies:
        yield from _walk(each)


def _needed(dependant: Dependant) -> Requirement | None:
    """Return all that the dependencies and decorators of a route require."""
    found: list[Requirement | None] = []
    for call, names in _walk(dependant):
        if isinstance(call, BearerSecurity):
            found.append(call.requirement_with(names))
        else:
            found.append(requirement_of(call))
    return combined(*found)


def _of_route(scope: asgi.Scope) -> Requirement | None:
    route = scope.get("route")
    # For the route of an included router, FastAPI's context has the router's dependencies too.
    context = scope.get("fastapi", {}).get("effective_route_context")
    is_included = getattr(context, "original_route", None) is route
    dependant = getattr(context if is_included else route, "dependant", None)
    return _needed(dependant) if isinstance(dependant, Dependant) else None


def _mounted(app: FastAPI) -> Iterator[FastAPI]:
    """Yield the FastAPI apps that are mounted in an app."""
    for _, context in _routes(app.routes):
        inner = getattr(context, "app", None)
        if isinstance(inner, FastAPI):
            yield inner


def _is_overridden(app: FastAPI, scope: asgi.Scope) -> bool:
    """Whether the route of a request takes its principal from `dependency_overrides`."""
    matches = ((each, *each.matches(scope)) for each in iter_route_contexts(app.routes))
    for context, match, matched in matches:
        if match is not Match.FULL:
            continue
        dependant = getattr(context, "dependant", None)
        if isinstance(dependant, Dependant):
            return any(
                call in app.dependency_overrides
                and (isinstance(call, BearerSecurity) or requirement_of(call) is not None)
                for call, _ in _walk(dependant)
            )
        inner = getattr(context, "app", None)  # of a mounted app
        return isinstance(inner, FastAPI) and _is_overridden(inner, {**scope, **matched})
    return False


# --- When the app starts


def _add_metadata(app: FastAPI, admission: Admission) -> None:
    """Add a route for each path of the API's metadata, before a mount that has all paths."""
    taken = {getattr(each, "path", None) for each in app.routes}
    if admission.guard.published is not None:
        serve = asgi.ResourceMetadata(guard=admission.guard)
        app.router.routes[:0] = [
            Route(path, serve, include_in_schema=False)
            for path in admission.metadata_paths()
            if path not in taken
        ]


async def _start(app: FastAPI, admission: Admission | None = None) -> None:
    """Check the routes of an app, and complete its OpenAPI."""
    _check(app, admission)
    if app.openapi_url is None:
        return
    _document(app)
    published: dict[Guard, Mapping[str, Any] | None] = {}
    for bearer in _securities(app):
        if isinstance(bearer.model, models.OAuth2):
            continue  # the app has been started before
        if bearer.guard not in published:
            published[bearer.guard] = await _metadata(bearer.guard)
        found = published[bearer.guard]
        if found is not None:
            (issuer,) = bearer.guard.issuers
            flows = _flows(found, issuer, bearer.scopes)
            if flows is not None:
                bearer.model = models.OAuth2(
                    flows=flows,
                    description=bearer.description,
                )
    app.openapi_schema = None


def _check(app: FastAPI, admission: Admission | None = None) -> None:
    """Raise `ConfigurationError` for a route that could never work, or would not be guarded."""
    routes = [*_routes(app.routes)]
    check_routes(context.endpoint for _, context in routes)
    named: dict[str, Guard] = {}
    for path, context in routes:
        dependant = getattr(context, "dependant", None)
        if not isinstance(dependant, Dependant):
            continue
        try:
            _check_endpoint(dependant)
            _check_scopes(getattr(context, "dependencies", ()))
            for call, names in _walk(dependant):
                _check_parameters(call)
                if isinstance(call, BearerSecurity):
                    call.requirement_with(names)  # it refuses malformed scopes
                    _check_security(call, path, admission, named)
        except ConfigurationError as error:
            raise ConfigurationError(f"route {quoted(path)}: {error}") from error
    _checked.add(app)


def _check_security(
    bearer: BearerSecurity, path: str, admission: Admission | None, named: dict[str, Guard]
) -> None:
    guard = bearer.guard
    if admission is not None and admission.guard is not guard and not admission.excludes(path):
        raise ConfigurationError(
            "BearerSecurity(guard): its guard is not that of the BearerMiddleware: pass the same"
            " guard to both, or exclude= this path from the middleware"
        )
    if named.setdefault(bearer.scheme_name, guard) is not guard:
        raise ConfigurationError(
            f"scheme_name=: two guards have the scheme name {quoted(bearer.scheme_name)} in"
            " OpenAPI: pass another name to one BearerSecurity"
        )


def _check_endpoint(dependant: Dependant) -> None:
    names = (
        dependant.request_param_name,
        dependant.websocket_param_name,
        dependant.http_connection_param_name,
    )
    if requirement_of(dependant.call) is not None and not any(names):
        raise ConfigurationError(
            "require(): the route takes no request: give it a parameter `request: Request`, or use"
            " Depends(bearer.require(...)) of a BearerSecurity instead"
        )


def _check_parameters(call: Callable[..., Any]) -> None:
    for parameter in get_typed_signature(call).parameters.values():
        annotation = parameter.annotation
        if isinstance(annotation, ForwardRef) and _INJECTED.search(annotation.__forward_arg__):
            # FastAPI would take it from the query, and the route would be open.
            raise ConfigurationError(
                f"parameter {parameter.name}: FastAPI cannot read its annotation"
                f" {annotation.__forward_arg__}: with `from __future__ import annotations` it finds"
                " names of the module only: define the BearerSecurity there, or remove that import"
            )
        _check_scopes([parameter.default, *getattr(annotation, "__metadata__", ())])


def _check_scopes(dependencies: Iterable[object]) -> None:
    for each in dependencies:
        if isinstance(each, params.Security) and isinstance(each.scopes, str):
            raise ConfigurationError(
                f"Security(scopes={each.scopes!r}): pass a list of scopes: [{each.scopes!r}]"
            )


def _routes(routes: Iterable[BaseRoute], prefix: str = "") -> Iterator[tuple[str, RouteContext]]:
    """Yield all routes of an app with their paths, those of mounted apps too."""
    for context in iter_route_contexts([*routes]):
        path = f"{prefix}{context.path_format or context.path or ''}"
        yield path, context
        inner = getattr(context, "routes", None)
        if inner:
            yield from _routes(inner, f"{prefix}{context.path or ''}")


def _securities(app: FastAPI) -> list[BearerSecurity]:
    found = dict[BearerSecurity, None]()
    for context in iter_route_contexts(app.routes):
        dependant = getattr(context, "dependant", None)
        if isinstance(dependant, Dependant):
            calls = (call for call, _ in _walk(dependant))
            found |= {call: None for call in calls if isinstance(call, BearerSecurity)}
    return [*found]


# --- OpenAPI


def _scheme(issuers: tuple[Issuer, ...], description: str | None) -> models.SecurityBase:
    """Return the security scheme that is known without a fetch."""
    url = _discovery_url(issuers)
    if url is None:
        return models.HTTPBearer(bearerFormat="JWT", description=description)
    return models.OpenIdConnect(openIdConnectUrl=url, description=description)


def _discovery_url(issuers: tuple[Issuer, ...]) -> str | None:
    """Return the URL of the metadata of the only issuer, None if it cannot be discovered."""
    return metadata_url(issuers[0]) if len(issuers) == 1 else None


async def _metadata(guard: Guard) -> Mapping[str, Any] | None:
    """Return the metadata of a guard's only issuer, None without; a failure is only logged."""
    if _discovery_url(guard.issuers) is None:
        return None
    try:
        return await guard.arun(discover(guard.issuers[0], metadata.parse))
    except FetchFailed as error:
        _log.warning("OpenAPI does not show the endpoints of the issuer: %s", error)
        return None


def _flows(
    published: Mapping[str, Any], issuer: Issuer, described: Mapping[str, str]
) -> models.OAuthFlows | None:
    """Return the flows that an issuer's metadata offers (RFC 8414 §2), None for none."""
    token = published.get("token_endpoint")
    authorize = published.get("authorization_endpoint")
    grants = published.get("grant_types_supported", ["authorization_code"])
    flows = models.OAuthFlows()
    if not isinstance(token, str) or not issuer.may_fetch(token) or not isinstance(grants, list):
        return None
    names = dict(described)
    if (
        "authorization_code" in grants
        and isinstance(authorize, str)
        and issuer.may_fetch(authorize)
    ):
        flows.authorizationCode = models.OAuthFlowAuthorizationCode(
            authorizationUrl=authorize, tokenUrl=token, scopes=names
        )
    if "client_credentials" in grants:
        flows.clientCredentials = models.OAuthFlowClientCredentials(tokenUrl=token, scopes=names)
    return flows if flows.authorizationCode or flows.clientCredentials else None


_PROBLEM: dict[str, Any] = {
    "title": "Problem",
    "description": "Why the request was refused (RFC 9457)",
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "error": {"type": "string", "description": "The error code of RFC 6750 §3.1"},
        "scope": {"type": "string", "description": "The scopes that the request needs"},
        "acr_values": {
            "type": "string",
            "description": "The authentication contexts of which one is needed (RFC 9470 §3)",
        },
        "max_age": {
            "type": "integer",
            "description": "The maximum age of the login in seconds (RFC 9470 §3)",
        },
    },
}
_PROBLEM_NAME = "BearerProblem"
_TEXT = {"schema": {"type": "string"}}


def _responses(guard: Guard, problem: dict[str, Any]) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a guard, as OpenAPI documents them."""
    content = {PROBLEM_MEDIA_TYPE: {"schema": problem}}
    body = {} if guard.denial_body is not None else {"content": content}
    challenge = {"WWW-Authenticate": {**_TEXT, "description": "The challenge (RFC 6750 §3)"}}
    later = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds to wait"}}
    return {
        401: {
            "description": "No valid access token, or no sufficient login",
            "headers": challenge,
            **body,
        },
        403: {"description": "The access token does not suffice", "headers": challenge, **body},
        503: {"description": "The access token cannot be checked now", "headers": later, **body},
    }


def _document(app: FastAPI) -> None:
    """Add refusals, optional tokens and all scopes to the OpenAPI document of an app."""
    inner = app.openapi
    if getattr(inner, "__name__", "") == _OPENAPI:
        return

    def bearerguard_openapi() -> dict[str, Any]:
        schema = inner()
        for context in iter_route_contexts(app.routes):
            dependant = getattr(context, "dependant", None)
            item = schema.get("paths", {}).get(context.path_format)
            if item is not None and isinstance(dependant, Dependant):
                for method in context.methods or ():
                    _document_operation(item.get(method.lower()), dependant, schema)
        return schema

    app.openapi = bearerguard_openapi  # type: ignore[method-assign]


_OPENAPI = "bearerguard_openapi"


def _document_operation(
    operation: dict[str, Any] | None, dependant: Dependant, schema: dict[str, Any]
) -> None:
    used = [(call, names) for call, names in _walk(dependant) if isinstance(call, BearerSecurity)]
    if operation is None or not used:
        return
    schemas = schema["components"].setdefault("schemas", {})
    schemas.setdefault(_PROBLEM_NAME, _PROBLEM)
    problem = {"$ref": f"#/components/schemas/{_PROBLEM_NAME}"}
    for status, response in _responses(used[0][0].guard, problem).items():
        if status != 403 or _needed(dependant) is not None:  # noqa: PLR2004 - as in OpenAPI
            operation["responses"].setdefault(str(status), response)
    security = operation.get("security", [])
    if all(call.optional for call, _ in used) and {} not in security:
        security.append({})  # OpenAPI §4.8.10: without any
    for call, names in used:
        scheme = schema["components"]["securitySchemes"][call.scheme_name]
        if "flows" in scheme:
            # The flow of people first: Swagger UI shows them in this order.
            scheme["flows"] = flows = dict(sorted(scheme["flows"].items()))
            for flow, name in product(flows.values(), names):
                flow["scopes"].setdefault(name, "")
