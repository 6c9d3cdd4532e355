"""Flask: an extension over the WSGI adapter, `current_principal`, and decorators for views.

A refused request is handed to Flask itself, and to nothing else that is mounted in the app. There
the extension raises the refusal before any code of the app runs, so that flask-cors and error
handlers handle it like any other exception. Flask's response is discarded if the extension was not
called, or if a handler turned the refusal into a success or a server error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from http import HTTPStatus
from typing import Any, NoReturn

from bearerguard import wsgi
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

with Extra("flask", needed_by=__name__):
    import flask
    from flask.views import View
    from werkzeug.exceptions import HTTPException, default_exceptions
    from werkzeug.local import LocalProxy

__all__ = ["BearerGuard", "current_principal", "require", "require_scopes"]

_PRINCIPAL = "bearerguard.principal"
_ADMISSION = "bearerguard.admission"
# The middleware's decision; the extension refuses the request inside Flask.
_DECISION = "bearerguard.decision"
# The response that refuses the request, once the extension has raised it.
_REFUSAL = "bearerguard.refusal"
# Set where Flask's own response to OPTIONS may be sent.
_IS_OPTIONS = "bearerguard.is_options"
_REMEDY = (
    "call BearerGuard(app) or init_app(app), and make requests through the app's WSGI interface"
)


class BearerGuard(Extension[flask.Flask]):
    """Authenticates every request of a Flask app.

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

    def _protect(self, app: flask.Flask, guard: Guard, options: AdmissionOptions) -> object:
        middleware: Any = _Middleware(app.wsgi_app, guard=guard, **options)
        middleware.flask_app = app
        app.wsgi_app = middleware  # type: ignore[method-assign]
        # Before all code of the app: its URL preprocessors may reveal which things exist.
        app.url_value_preprocessors.setdefault(None, []).insert(0, _refuse_here)
        app.after_request(_keep_challenge)
        return middleware


class _Middleware(wsgi.BearerMiddleware):
    """Lets Flask respond to a refused request, where its response does refuse it."""

    __slots__ = ("_checked", "flask_app")

    flask_app: flask.Flask

    preflight_remedy = "let Flask respond to OPTIONS of this route by itself, or exclude= its path"
    app_sees_refusals = True

    def _prepare(self) -> None:
        super()._prepare()
        self._checked = False

    def check_routes(self) -> None:
        """Check the app's views once, at a request: Flask has no hook for the start of an app."""
        if not self._checked:
            check_routes(self.flask_app.view_functions.values())
            self._checked = True

    def describe(self, environ: wsgi.Environ) -> RequestInfo:
        return _with_rule(environ, _rule(self.flask_app, environ))

    def refuse(
        self,
        environ: wsgi.Environ,
        start_response: wsgi.StartResponse,
        decision: Deny | Unavailable,
    ) -> Iterable[bytes]:
        environ[_DECISION] = decision  # for `_refuse_here`
        started: list[tuple[Any, ...]] = []

        def start(*arguments: Any) -> Callable[[Any], object]:
            started.append(arguments)
            return started.append  # Flask's responses are iterables: nothing is written

        body: Any = None
        try:
            # Not `app.wsgi_app`: other middleware there does not know the decision.
            body = flask.Flask.wsgi_app(self.flask_app, environ, start)
        except Exception:
            # In debugging and testing, Flask raises what converters and handlers raise.
            self.flask_app.logger.exception(
                "bearerguard: the app raised an exception while it handled a refused request"
            )
        if body is not None and _may_be_sent(environ, int(started[-1][0][:3])):
            start_response(*started[-1])
            return body  # type: ignore[no-any-return]
        if body is not None:
            body.close()
        return super().refuse(environ, start_response, decision)


def _rule(app: flask.Flask, environ: wsgi.Environ) -> str:
    """Return the rule of the view that would handle a request, "" if there is none."""
    try:
        adapter = app.create_url_adapter(app.request_class(environ))
        return "" if adapter is None else adapter.match(return_rule=True)[0].rule
    except Exception:  # no view for this path, or a converter failed, which Flask will report
        return ""


def _with_rule(environ: wsgi.Environ, rule: str) -> RequestInfo:
    route = environ.get("SCRIPT_NAME", "") + rule if rule else ""
    return replace(wsgi.request_info(environ), route=route)


def _principal() -> Principal:
    admitted = _decorators.admitted(flask.request)
    if admitted is None:
        raise ConfigurationError(f"current_principal: no guard found: {_REMEDY}")
    return admitted.principal


current_principal: Principal = LocalProxy(_principal)  # type: ignore[assignment]
"""The `Principal` of the request being handled, `ANONYMOUS` where it needed no token."""


def require_scopes(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Require all of these scopes of a view; see `require`."""
    return _decorators.require_scopes(*names)


def require(requirement: Requirement) -> Callable[[Endpoint], Endpoint]:
    """Demand a requirement of the callers of a view.

    Decorates functions, sync or async, below the route's own decorator, and `View` and
    `MethodView` classes and their methods.

    Raises:
        ConfigurationError: a class is not a `View`; or, at a request, the app has no `BearerGuard`.
    """
    return _decorators.require(requirement)


class _Decorators(RouteDecorators[flask.Request]):
    remedy = _REMEDY

    def connection(
        self,
        args: tuple[object, ...],  # noqa: ARG002 - the request is known without them
        kwargs: Mapping[str, object],  # noqa: ARG002 - as above
    ) -> flask.Request:
        return flask.request

    def admitted(self, connection: flask.Request) -> Admitted | None:
        environ = connection.environ
        admission = environ.get(_ADMISSION)
        if not isinstance(admission, Admission):
            return None
        return Admitted(admission, environ[_PRINCIPAL])

    def describe(self, connection: flask.Request) -> RequestInfo:
        rule = connection.url_rule
        return _with_rule(connection.environ, "" if rule is None else rule.rule)

    def refuse(
        self, connection: flask.Request, admission: Admission, decision: Deny | Unavailable
    ) -> NoReturn:
        refusal = admission.refusal(decision, self.describe(connection))
        connection.environ[_REFUSAL] = refusal
        response = flask.Response(refusal.body, refusal.status, list(refusal.headers))
        error = default_exceptions[refusal.status]
        raise error(decision.reason.description, response=response)

    def decorate_class(self, view: type, requirement: Requirement) -> None:
        if not issubclass(view, View):
            raise ConfigurationError(f"require(): {view.__name__} is not a flask.views.View")
        view.decorators = [*view.decorators, require(requirement)]


_decorators = _Decorators()


def _refuse_here(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Raise the middleware's refusal, unless Flask itself responds to an OPTIONS request."""
    request = flask.request
    admission = request.environ.get(_ADMISSION)
    if not isinstance(admission, Admission):
        raise ConfigurationError(f"no guard found: {_REMEDY}")
    middleware: _Middleware = flask.current_app.extensions[EXTENSION]
    middleware.check_routes()
    decision = request.environ.get(_DECISION)
    if decision is None:
        return
    if (
        request.method == "OPTIONS"
        and "HTTP_AUTHORIZATION" not in request.environ
        and getattr(request.url_rule, "provide_automatic_options", False)
    ):
        request.environ[_IS_OPTIONS] = True
        # A response that is raised with no code is sent as it is (werkzeug's `abort`).
        raise HTTPException(response=flask.current_app.make_default_options_response())
    _decorators.refuse(request, admission, decision)


def _may_be_sent(environ: wsgi.Environ, status: int) -> bool:
    """Whether Flask's response may be sent: its own to OPTIONS, or one that refuses."""
    if _IS_OPTIONS in environ:
        return status < HTTPStatus.INTERNAL_SERVER_ERROR
    return may_replace(environ.get(_REFUSAL), status)


def _keep_challenge(response: flask.Response) -> flask.Response:
    """Give an error handler's own response the headers that a refusal must have."""
    refusal: Response | None = flask.request.environ.get(_REFUSAL)
    if refusal is not None and response.status_code == refusal.status:
        for name, values in kept_headers(refusal).items():
            response.headers.setlist(name, values)
    return response
