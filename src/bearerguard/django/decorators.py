"""`require`, `require_scopes` and `token_not_required`, for views of every kind."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views import View

from bearerguard.django.protection import TOKEN_REQUIRED, guarded_request, is_async, response_of
from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement
from bearerguard.guard.decision import Deny
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.middleware.decorators import Admitted, Endpoint, RouteDecorators, check_takes


def require_scopes(*names: str) -> Callable[[Endpoint], Endpoint]:
    """Require all of these scopes of a view; see `require`."""
    return _decorators.require_scopes(*names)


def require(requirement: Requirement) -> Callable[[Endpoint], Endpoint]:
    """Demand a requirement of the callers of a view.

    Decorates functions, sync or async, `View` classes and their methods, also by Django's
    `method_decorator`, and what `as_view()` returns.

    Raises:
        ConfigurationError: a function takes no request, or a class is no `View`; or, at a
            request, `BearerMiddleware` has not seen it.
    """
    return _decorators.require(requirement)


def token_not_required(view: Endpoint) -> Endpoint:
    """Let requests without a token reach a view, as `ANONYMOUS`.

    A token that is sent is validated all the same. Decorates functions and `View` classes; a
    function is not changed itself, so that it stays guarded where other URLs lead to it.

    Raises:
        ConfigurationError: a class is no `View`.
    """
    marked: Any = view
    if inspect.isclass(view):
        _check_view(view, "token_not_required()")
        marked.dispatch = _marked(marked.dispatch)
    else:
        marked = _marked(view)
    return marked  # type: ignore[no-any-return]


def _marked(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def marked(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    @functools.wraps(function)
    async def async_marked(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    chosen = async_marked if is_async(function) else marked
    setattr(chosen, TOKEN_REQUIRED, False)
    return chosen


def _check_view(view: type, decorator: str) -> None:
    if not issubclass(view, View):
        raise ConfigurationError(f"{decorator}: {view.__name__} is not a django.views.View")


class _Decorators(RouteDecorators[Any]):
    remedy = (
        'add "bearerguard.django.BearerMiddleware" to MIDDLEWARE; for a request of RequestFactory,'
        " call BearerMiddleware(view)(request)"
    )

    def connection(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Any:
        for value in (*args, *kwargs.values()):
            # REST framework's requests keep Django's.
            request = getattr(value, "_request", value)
            if isinstance(request, HttpRequest):
                return request
        return None

    def admitted(self, connection: Any) -> Admitted | None:
        guarded = guarded_request(connection)
        return (
            None if guarded is None else Admitted(guarded.protection.admission, guarded.principal)
        )

    def describe(self, connection: Any) -> RequestInfo:
        guarded: Any = guarded_request(connection)  # not None: `admitted` comes first
        info: RequestInfo = guarded.describe()
        return info

    def refuse(self, connection: Any, admission: Admission, decision: Deny) -> HttpResponse:
        return response_of(admission.refusal(decision, self.describe(connection)))

    def is_async(self, function: Callable[..., object]) -> bool:
        bound = function
        while isinstance(bound, functools.partial):  # method_decorator's
            bound = bound.func
        view = getattr(bound, "__self__", None)
        if isinstance(view, View) and getattr(bound, "__name__", "") == "dispatch":
            return bool(view.view_is_async)
        return super().is_async(function) or is_async(function)

    def check_function(self, function: Callable[..., object]) -> None:
        if not isinstance(function, functools.partial):  # method_decorator's, at each request
            check_takes(function, _request_types())

    def decorate_class(self, view: Any, requirement: Requirement) -> None:
        _check_view(view, "require()")
        guarded = self.decorate_function(view.dispatch, requirement)

        @functools.wraps(guarded)
        def dispatch(instance: Any, *args: object, **kwargs: object) -> object:
            response = guarded(instance, *args, **kwargs)
            if isinstance(response, HttpResponseBase) and instance.view_is_async:
                return _awaitable(response)  # a refusal: Django awaits what such a view returns
            return response

        view.dispatch = dispatch


def _request_types() -> tuple[type, ...]:
    # Whoever annotates a view with REST framework's request has imported it.
    module = sys.modules.get("rest_framework.request")
    return (HttpRequest,) if module is None else (HttpRequest, module.Request)


async def _awaitable(response: object) -> object:
    return response


_decorators = _Decorators()
