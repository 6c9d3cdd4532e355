"""Quart: an extension over the ASGI adapter, `current_principal`, and decorators for views.

A refused request or websocket is handed to Quart itself, and to nothing else that is mounted in the
app. There the extension raises the refusal before the hooks and views of the app run, so that
quart-cors and error handlers handle it like any other exception. Quart's response is discarded if
the extension was not called, or if a handler turned the refusal into a success or a server error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NoReturn, TypeAlias

from bearerguard import asgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import Admission, AdmissionOptions, RequestInfo
from bearerguard.middleware.decorators import Admitted, Endpoint, RouteDecorators, check_routes
from bearerguard.middleware.extension import EXTENSION, Extension
from bearerguard.middleware.refusal import kept_headers, may_replace
from bearerguard.principal import Principal
from bearerguard.runtime.extras import Extra
from bearerguard.runtime.messages import Response

with Extra("quart", needed_by=__name__):
    import quart
    from quart.views import View
    from werkzeug.exceptions import default_exceptions
    from werkzeug.local import LocalProxy

__all__ = ["BearerGuard", "current_principal", "require", "require_scopes"]

# The middleware's decision; the extension refuses the request inside Quart.
_DECISION = "bearerguard.decision"
# Set where Quart's own response to OPTIONS may be sent.
_IS_OPTIONS = "bearerguard.is_options"
_REMEDY = (
    "call BearerGuard(app) or init_app(app), and make requests through the app's ASGI interface"
)

_Connection: TypeAlias = quart.Request | quart.Websocket


class BearerGuard(Extension[quart.Quart]):
    """Authenticates every request and websocket of a Quart app.

    Args:
        app: the app, or None to call `init_app` later.
        guard: validates the tokens; without it, one is made for each app from its settings
            `BEARERGUARD_ISSUER`, `BEARERGUARD_AUDIENCE`, ….
        require: what every request needs, besides the guard's own requirement.
        optional: True, or path patterns, where a request without a token passes as `ANONYMOUS`.
        exclude: path patterns that are not authenticated at all: exact, or `prefix*`.

    Raises:
        ConfigurationError: an option or a setting is missing or malformed.
    """

    def _protect(self, app: quart.Quart, guard: Guard, options: AdmissionOptions) -> object:
        inner: Any = app.asgi_app
        middleware = _Middleware(inner, guard=guard, **options)
        middleware.quart_app = app
        app.asgi_app = middleware  # type: ignore[method-assign]
        # Before all code of the app: its URL preprocessors may tell which things exist. Another of
        # them cannot be first: Quart fails to call them for a websocket.
        quart.request_started.connect(_refuse_first, app)
        quart.websocket_started.connect(_refuse_first, app)
        # Signals can be muted, and return no response to OPTIONS: before all other hooks as well.
        app.before_request_funcs.setdefault(None, []).insert(0, _refuse_here)
        app.before_websocket_funcs.setdefault(None, []).insert(0, _refuse_here)
        # These lists are run from their end.
        app.after_request_funcs.setdefault(None, []).insert(0, _keep_challenge)
        app.after_websocket_funcs.setdefault(None, []).insert(0, _keep_challenge)
        app.before_serving_funcs.insert(0, middleware.check_routes)
        return middleware


class _Middleware(asgi.BearerMiddleware):
    """Lets Quart respond to a refused request, where its response does refuse it."""

    __slots__ = ("_checked", "quart_app")

    quart_app: quart.Quart

    preflight_remedy = "let Quart respond to OPTIONS of this route by itself, or exclude= its path"
    app_sees_refusals = True

    def _prepare(self) -> None:
        super()._prepare()
        self._checked = False

    async def check_routes(self) -> None:
        """Check the app's views once: when it starts, or at a request of a test client."""
        if not self._checked:
            check_routes(self.quart_app.view_functions.values())
            self._checked = True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Handle a connection as an ASGI app."""
        if scope["type"] == "websocket":
            send = asgi.sending_refusals(scope, send)
        await super().__call__(scope, receive, send)

    def describe(self, scope: asgi.Scope) -> RequestInfo:
        info = asgi.request_info(scope)
        return _with_rule(info, scope, _rule(self.quart_app, scope, info))

    async def refuse(
        self,
        scope: asgi.Scope,
        receive: asgi.Receive,
        send: asgi.Send,
        decision: Deny | Unavailable,
    ) -> None:
        scope[_DECISION] = decision  # for `_refuse_here`
        response = _QuartResponse(scope, send)
        inner: Any = quart.Quart.asgi_app
        try:
            # Not `app.asgi_app`: other middleware there does not know the decision.
            await inner(self.quart_app, scope, receive, response.send)
        except Exception:
            # In debugging and testing, Quart raises what converters and handlers raise.
            self.quart_app.logger.exception(
                "bearerguard: the app raised an exception while it handled a refused request"
            )
        if not response.is_sent:
            await super().refuse(scope, _handshake, send, decision)


class _QuartResponse:
    """Sends what Quart responds to a refused request or websocket, if that may be sent."""

    def __init__(self, scope: asgi.Scope, send: asgi.Send) -> None:
        self._scope = scope
        self._send = send
        self.is_sent = False

    async def send(self, message: Any) -> None:
        """Send a message; drop it where the first one was not a refusal."""
        self.is_sent = self.is_sent or self._refuses(message)
        if self.is_sent:
            await self._send(message)

    def _refuses(self, message: Any) -> bool:
        refusal: Response | None = self._scope.get(asgi.REFUSAL)
        if message["type"] == "websocket.close":
            return refusal is not None
        if not message["type"].endswith("http.response.start"):
            return False
        if _IS_OPTIONS in self._scope:
            return message["status"] < HTTPStatus.INTERNAL_SERVER_ERROR  # type: ignore[no-any-return]
        return may_replace(refusal, message["status"])


def _rule(app: quart.Quart, scope: asgi.Scope, info: RequestInfo) -> str:
    """Return the rule of the view that would handle a request, "" if there is none."""
    try:
        routes = app.url_map.bind("localhost")
        is_websocket = scope["type"] == "websocket"
        method = "GET" if is_websocket else info.method
        found = routes.match(info.path, method, return_rule=True, websocket=is_websocket)
        return found[0].rule
    except Exception:  # no view for this path, or a converter failed, which Quart will report
        return ""


def _with_rule(info: RequestInfo, scope: asgi.Scope, rule: str) -> RequestInfo:
    return replace(info, route=scope.get("root_path", "") + rule if rule else "")


async def _handshake() -> asgi.Message:
    """Return the message that opens a websocket again: Quart has received it already."""
    return {"type": "websocket.connect"}


def _connection() -> _Connection:
    return quart.websocket if quart.has_websocket_context() else quart.request


def _principal() -> Principal:
    admitted = _decorators.admitted(_connection())
    if admitted is None:
        raise ConfigurationError(f"current_principal: no guard found: {_REMEDY}")
    return admitted.principal


current_principal: Principal = LocalProxy(_principal)  # type: ignore[assignment]
"""The `Principal` of the request or websocket being handled; `ANONYMOUS` if it needed no token."""


def require_scopes(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Require all of these scopes of a view; see `require`."""
    return _decorators.require_scopes(*names)


def require(requirement: Requirement) -> Callable[[Endpoint], Endpoint]:
    """Demand a requirement of the callers of a view.

    Decorates functions, sync or async, below the route's own decorator, those of websockets
    included, and `View` and `MethodView` classes and their methods.

    Raises:
        ConfigurationError: a class is not a `View`; or, at a request, the app has no `BearerGuard`.
    """
    return _decorators.require(requirement)


class _Decorators(RouteDecorators[_Connection]):
    remedy = _REMEDY

    def connection(
        self,
        args: tuple[object, ...],  # noqa: ARG002 - the request is known without them
        kwargs: Mapping[str, object],  # noqa: ARG002 - as above
    ) -> _Connection:
        return _connection()

    def admitted(self, connection: _Connection) -> Admitted | None:
        scope: Any = connection.scope
        admission = scope.get("bearerguard")
        if not isinstance(admission, Admission):
            return None
        return Admitted(admission, scope["user"])

    def describe(self, connection: _Connection) -> RequestInfo:
        scope: Any = connection.scope
        rule = "" if connection.url_rule is None else connection.url_rule.rule
        return _with_rule(asgi.request_info(scope), scope, rule)

    def refuse(
        self, connection: _Connection, admission: Admission, decision: Deny | Unavailable
    ) -> NoReturn:
        scope: Any = connection.scope
        scope[asgi.REFUSAL] = refusal = admission.refusal(decision, self.describe(connection))
        response: Any = quart.Response(refusal.body, refusal.status)
        response.headers.clear()
        response.headers.extend(refusal.headers)
        error = default_exceptions[refusal.status]
        raise error(decision.reason.description, response=response)

    def decorate_class(self, view: type, requirement: Requirement) -> None:
        if not issubclass(view, View):
            raise ConfigurationError(f"require(): {view.__name__} is not a quart.views.View")
        view.decorators = [*view.decorators, require(requirement)]


_decorators = _Decorators()


async def _refuse_here() -> Any:
    """Raise the middleware's refusal, unless Quart itself responds to an OPTIONS request."""
    connection = _connection()
    scope: Any = connection.scope
    admission = scope.get("bearerguard")
    if not isinstance(admission, Admission):
        raise ConfigurationError(f"no guard found: {_REMEDY}")
    middleware: _Middleware = quart.current_app.extensions[EXTENSION]
    await middleware.check_routes()
    decision = scope.get(_DECISION)
    if decision is None:
        return None
    if _is_automatic(connection):
        scope[_IS_OPTIONS] = True
        return await quart.current_app.make_default_options_response()
    return _decorators.refuse(connection, admission, decision)


async def _refuse_first(_app: quart.Quart, **_: object) -> None:
    """Refuse what the middleware refused, when Quart begins to handle it."""
    connection = _connection()
    scope: Any = connection.scope
    decision = scope.get(_DECISION)
    if decision is not None and not _is_automatic(connection):
        await _refuse_here()


def _is_automatic(connection: _Connection) -> bool:
    """Whether Quart itself may respond to a request: it is OPTIONS, and has no credentials."""
    return (
        connection.method == "OPTIONS"
        and "Authorization" not in connection.headers
        and getattr(connection.url_rule, "provide_automatic_options", False)
    )


async def _keep_challenge(response: Any) -> Any:
    """Give an error handler's own response the headers that a refusal must have."""
    scope: Any = _connection().scope
    refusal: Response | None = scope.get(asgi.REFUSAL)
    if refusal is not None and response is not None and response.status_code == refusal.status:
        for name, values in kept_headers(refusal).items():
            response.headers.setlist(name, values)
    return response
