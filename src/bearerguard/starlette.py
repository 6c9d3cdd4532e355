"""Starlette: the ASGI middleware, and scope decorators for routes of every kind.

Starlette's own `@requires`, `request.user` and `request.auth.scopes` keep working; these
decorators differ in that their 401 and 403 carry the whole challenge.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.endpoints import HTTPEndpoint, WebSocketEndpoint
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.websockets import WebSocket

from bearerguard import asgi
from bearerguard.asgi import BearerMiddleware
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, combined, scopes
from bearerguard.runtime.messages import Response as Answer

__all__ = ["BearerMiddleware", "require", "require_scopes"]

E = TypeVar("E", bound=Callable[..., Any])

_MARK = "__bearerguard__"


def require_scopes(*names: str) -> Callable[[E], E]:
    """Require all of these scopes of a route; see `require`."""
    return require(scopes(*names))


def require(requirement: Requirement) -> Callable[[E], E]:
    """Require something of whoever calls a route.

    Goes on functions and methods, sync or async, that take a request or a websocket, and
    on `HTTPEndpoint` and `WebSocketEndpoint` classes; inside the route's decorator, where
    there is one. A function that can take neither raises `ConfigurationError` at once.
    Without a `BearerMiddleware` around the app a request raises
    `ConfigurationError`.
    """
    if not isinstance(requirement, Requirement):
        raise ConfigurationError('require(): pass a requirement, such as scopes("read")')

    def decorate(endpoint: Any) -> Any:
        if inspect.isclass(endpoint):
            return _guarded_class(endpoint, requirement)
        return _guarded_function(endpoint, requirement)

    return decorate


def _guarded_function(function: Callable[..., Any], requirement: Requirement) -> Any:
    if not _takes_connection(function):
        raise ConfigurationError(
            f"require(): {getattr(function, '__qualname__', function)!s} takes no request: give it"
            " a parameter such as `request: Request`, from which the caller is known"
        )
    inner: Requirement | None = getattr(function, _MARK, None)
    # Stacked decorators are one requirement, so that a 403 names all the scopes.
    requirement = requirement if inner is None else requirement & inner

    @functools.wraps(function)
    def guarded(*args: Any, **kwargs: Any) -> Any:
        answer = _refusal(_connection(args, kwargs), requirement)
        return function(*args, **kwargs) if answer is None else _response(answer)

    @functools.wraps(function)
    async def async_guarded(*args: Any, **kwargs: Any) -> Any:
        connection = _connection(args, kwargs)
        answer = _refusal(connection, requirement)
        if answer is None:
            return await function(*args, **kwargs)
        if isinstance(connection, WebSocket):
            scope, receive, send = connection.scope, connection.receive, connection.send
            return await asgi.send_answer(scope, receive, send, answer)
        return _response(answer)

    chosen = async_guarded if inspect.iscoroutinefunction(function) else guarded
    setattr(chosen, _MARK, requirement)
    return chosen


def _takes_connection(function: Callable[..., Any]) -> bool:
    """Whether some parameter may be the request or websocket; False only where none can."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, AttributeError):  # a name that only a type checker knows
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True  # written in C, or callable in a way of its own
    return any(
        _may_be_connection(each.annotation)
        for each in parameters
        if each.name != "self" or each.annotation is not each.empty
    )


def _may_be_connection(annotation: Any) -> bool:
    if annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, str):
        return True
    if inspect.isclass(annotation) and typing.get_origin(annotation) is None:
        return issubclass(annotation, HTTPConnection)
    if typing.get_origin(annotation) is typing.Literal:
        return False
    if typing.get_origin(annotation) is typing.Annotated:  # what follows the type is no type
        return _may_be_connection(typing.get_args(annotation)[0])
    return any(map(_may_be_connection, typing.get_args(annotation)))


def _guarded_class(endpoint: type[Any], requirement: Requirement) -> type[Any]:
    if not issubclass(endpoint, HTTPEndpoint | WebSocketEndpoint):
        raise ConfigurationError(
            f"require(): {endpoint.__name__} is no HTTPEndpoint or WebSocketEndpoint:"
            " decorate its methods instead"
        )
    dispatch: Any = endpoint.dispatch

    @functools.wraps(dispatch)
    async def guarded(self: Any) -> None:
        answer = _refusal(HTTPConnection(self.scope), requirement)
        if answer is None:
            await dispatch(self)
        else:
            await asgi.send_answer(self.scope, self.receive, self.send, answer)

    endpoint.dispatch = guarded  # type: ignore[method-assign]
    return endpoint


def _connection(args: tuple[Any, ...], kwargs: dict[str, Any]) -> HTTPConnection:
    for value in (*args, *kwargs.values()):
        if isinstance(value, HTTPConnection):
            return value
    raise ConfigurationError("require(): the route must take its request or websocket")


def _refusal(connection: HTTPConnection, requirement: Requirement) -> Answer | None:
    face = connection.scope.get("bearerguard")
    if not isinstance(face, asgi.Face):
        raise ConfigurationError(
            "require(): no guard in reach: add BearerMiddleware with guard= to the app"
        )
    whole = combined(face.requirement, requirement)
    scope = connection.scope
    place = f"{scope.get('method', 'WEBSOCKET')} {scope['path']}"
    deny = face.guard.authorize(scope["state"]["principal"], whole, place=place)
    return None if deny is None else face.answer(connection.scope, deny)


def _response(answer: Answer) -> Response:
    response = Response(answer.body, answer.status)
    response.raw_headers = [
        (name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in answer.headers
    ]
    return response
