"""Flask: an extension over the WSGI face, `current_principal`, and scope decorators.

A refused request goes to Flask itself and to nothing else that is mounted in the app; there the
extension answers it before any code of the app, so that flask-cors and error handlers see the
refusal like any other. What Flask answers without having asked the extension is thrown away, and
a success or a failure that became of the refusal too.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Any, TypeVar

import flask
from flask.views import View
from werkzeug.exceptions import HTTPException, default_exceptions
from werkzeug.local import LocalProxy

from bearerguard import wsgi
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, combined, scopes
from bearerguard.guard.decision import Deny, Unavailable
from bearerguard.guard.guard import Guard
from bearerguard.middleware.admission import Admission
from bearerguard.principal import Principal
from bearerguard.runtime.messages import Response as Answer

__all__ = ["BearerGuard", "current_principal", "require", "require_scopes"]

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "__bearerguard__"
_EXTENSION = "bearerguard"
_VERDICT = "bearerguard.verdict"
_ANSWER = "bearerguard.answer"
_SETTLED = "bearerguard.settled"
_PREFLIGHT_REMEDY = "let Flask answer OPTIONS of this route by itself, or exclude= its path"
# What an error handler's own response must still say (RFC 9110 §11.6.1).
_LASTING = ("WWW-Authenticate", "Cache-Control", "Retry-After")


class BearerGuard:
    """Authenticates every request of a Flask app.

    Args:
        app: the app, or None to call `init_app` later.
        guard: who decides; without it, one is made for each app from its settings
            `BEARERGUARD_ISSUER`, `BEARERGUARD_AUDIENCE`, ….
        require: what every request needs, besides the guard's own requirement.
        optional: True, or paths, where a request without a token passes as `ANONYMOUS`.
        exclude: paths that are not authenticated at all; exact, or `prefix*`.

    Raises:
        ConfigurationError: an option or a setting is missing or malformed.
    """

    def __init__(
        self,
        app: flask.Flask | None = None,
        *,
        guard: Guard | None = None,
        require: Requirement | None = None,
        optional: bool | Sequence[str] = False,
        exclude: Sequence[str] = (),
    ) -> None:
        self.guard = guard
        self._options: dict[str, Any] = {
            "require": require,
            "optional": optional,
            "exclude": exclude,
        }
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Protect `app`; one extension may protect several."""
        if _EXTENSION in app.extensions:
            raise ConfigurationError("init_app(): this app has a BearerGuard already")
        guard = self.guard or Guard.from_mapping(app.config)
        face = wsgi.Face(Admission(guard, **self._options, preflight_remedy=_PREFLIGHT_REMEDY))

        def refuse(
            environ: wsgi.Environ,
            start_response: wsgi.StartResponse,
            decision: Deny | Unavailable,
        ) -> Iterable[bytes]:
            environ[_VERDICT] = decision  # for `_settle`
            started: list[tuple[Any, ...]] = []

            def start(*line: Any) -> Callable[[Any], object]:
                started.append(line)
                return started.append  # Flask's responses are iterables: nothing is written

            body: Any = None
            try:
                # Not `app.wsgi_app`: what is mounted there knows nothing of the verdict.
                body = flask.Flask.wsgi_app(app, environ, start)
            except Exception:
                # In debugging and testing, Flask raises what converters and handlers raise.
                app.logger.exception("bearerguard: the app failed with a request that is refused")
            if body is not None and _is_settled(environ, int(started[-1][0][:3])):
                start_response(*started[-1])
                return body  # type: ignore[no-any-return]
            if body is not None:
                body.close()
            return face.refuse(environ, start_response, decision)

        app.extensions[_EXTENSION] = face
        protected: Any = wsgi.authenticating(app.wsgi_app, face, refuse)
        app.wsgi_app = protected  # type: ignore[method-assign]
        # Before all code of the app: its preprocessors of URLs may say what there is.
        app.url_value_preprocessors.setdefault(None, []).insert(0, _settle)
        app.after_request(_keep_challenge)


def _principal() -> Principal:
    _face()
    principal: Principal = flask.request.environ["bearerguard.principal"]
    return principal


current_principal: Principal = LocalProxy(_principal)  # type: ignore[assignment]
"""The `Principal` of the request being handled, `ANONYMOUS` where it needed no token."""


def require_scopes(*names: str) -> Callable[[F], F]:
    """Require all of these scopes of a view; see `require`."""
    return require(scopes(*names))


def require(requirement: Requirement) -> Callable[[F], F]:
    """Require something of whoever calls a view.

    Goes on functions, sync or async, under the route's decorator, and on `View` and
    `MethodView` classes and their methods. Without a `BearerGuard` on the app a request
    raises `ConfigurationError`.
    """
    if not isinstance(requirement, Requirement):
        raise ConfigurationError('require(): pass a requirement, such as scopes("read")')

    def decorate(view: Any) -> Any:
        if inspect.isclass(view):
            return _guarded_class(view, requirement)
        return _guarded_function(view, requirement)

    return decorate


def _guarded_function(view: Callable[..., Any], requirement: Requirement) -> Any:
    inner: Requirement | None = getattr(view, _MARK, None)
    # Stacked decorators are one requirement, so that a 403 names all the scopes.
    requirement = requirement if inner is None else requirement & inner

    @functools.wraps(view)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        face = _face()
        whole = combined(face.requirement, requirement)
        principal = flask.request.environ["bearerguard.principal"]
        place = f"{flask.request.method} {flask.request.root_path.rstrip('/')}{flask.request.path}"
        deny = face.guard.authorize(principal, whole, place=place)
        if deny is not None:
            raise _denial(face, deny)
        return flask.current_app.ensure_sync(view)(*args, **kwargs)

    setattr(guarded, _MARK, requirement)
    return guarded


def _guarded_class(view: type[Any], requirement: Requirement) -> type[Any]:
    if not issubclass(view, View):
        raise ConfigurationError(f"require(): {view.__name__} is no flask.views.View")
    view.decorators = [*view.decorators, require(requirement)]
    return view


def _face() -> wsgi.Face:
    face = flask.request.environ.get("bearerguard.face")
    if not isinstance(face, wsgi.Face):
        raise ConfigurationError(
            "no guard in reach: call BearerGuard(app) or init_app(app), and make requests"
            " through the app's WSGI interface"
        )
    return face


def _settle(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
    """Refuse a request that the adapter refused, but for what Flask answers to OPTIONS itself."""
    face = _face()
    request = flask.request
    decision = request.environ.get(_VERDICT)
    if decision is None:
        return
    if (
        request.method == "OPTIONS"
        and "HTTP_AUTHORIZATION" not in request.environ
        and getattr(request.url_rule, "provide_automatic_options", False)
    ):
        request.environ[_SETTLED] = True
        # A response that is raised with no code is sent as it is (werkzeug's `abort`).
        raise HTTPException(response=flask.current_app.make_default_options_response())
    raise _denial(face, decision)


def _is_settled(environ: wsgi.Environ, status: int) -> bool:
    """Whether Flask's response may go out: its own to OPTIONS, or what became of our refusal.

    An error handler may send a browser to a login, or say 404; it makes no success of a refusal.
    """
    if _SETTLED in environ:
        return status < HTTPStatus.INTERNAL_SERVER_ERROR
    answer: Answer | None = environ.get(_ANSWER)
    if answer is None:
        return False
    is_no_success = HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return is_no_success or status == answer.status


def _denial(face: wsgi.Face, decision: Deny | Unavailable) -> HTTPException:
    answer = face.answer(flask.request.environ, decision)
    flask.request.environ[_ANSWER] = answer
    response = flask.Response(answer.body, answer.status, list(answer.headers))
    error = default_exceptions[answer.status]
    return error(decision.reason.description, response=response)


def _keep_challenge(response: flask.Response) -> flask.Response:
    """Give an error handler's own response what a refusal must say."""
    answer: Answer | None = flask.request.environ.get(_ANSWER)
    if answer is not None and response.status_code == answer.status:
        for name in _LASTING:
            values = [value for key, value in answer.headers if key == name]
            if values:
                response.headers.setlist(name, values)
    return response
