"""`require` and `require_scopes` for the routes of any framework.

The rules are here. A framework's module adds a subclass of `RouteDecorators`, which knows its
requests, responses and class views.
"""

from __future__ import annotations

import functools
import inspect
import typing
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from bearerguard.errors import ConfigurationError
from bearerguard.guard.config.requirement import Requirement, scopes
from bearerguard.guard.decision import Deny
from bearerguard.middleware.admission import Admission, RequestInfo
from bearerguard.principal import Principal

Connection = TypeVar("Connection")
Endpoint = TypeVar("Endpoint", bound=Callable[..., object])

# The requirement that a decorated function has already.
REQUIREMENT = "__bearerguard_requirement__"
# The functions that `require` has wrapped: if one is itself registered as a route, it is unguarded.
_decorated: weakref.WeakSet[Callable[..., object]] = weakref.WeakSet()


class Admitted(NamedTuple):
    """What the middleware stored with a request: its admission, and the caller."""

    admission: Admission
    principal: Principal


class RouteDecorators(ABC, Generic[Connection]):
    """Makes the decorators of one framework; `Connection` is its request or websocket.

    Sync functions are called and async ones awaited; a refused request reaches neither.
    """

    #: The remedy if no middleware is around the app.
    remedy = "add BearerMiddleware with guard= to the app"

    @abstractmethod
    def connection(
        self, args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Connection | None:
        """Return the request or websocket that a route was called with, None without one."""

    @abstractmethod
    def admitted(self, connection: Connection) -> Admitted | None:
        """Return what the middleware stored with a request, None if there was no middleware."""

    @abstractmethod
    def describe(self, connection: Connection) -> RequestInfo:
        """Describe a request."""

    @abstractmethod
    def refuse(self, connection: Connection, admission: Admission, decision: Deny) -> object:
        """Return the framework's response that refuses a request, or raise its exception."""

    async def arefuse(self, connection: Connection, admission: Admission, decision: Deny) -> object:
        """Do what `refuse` does, for an async route, which may send to a websocket."""
        return self.refuse(connection, admission, decision)

    def is_async(self, function: Callable[..., object]) -> bool:
        """Whether what a route returns is awaited."""
        inner: object = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        return inspect.iscoroutinefunction(inner) or (
            not inspect.isroutine(inner) and inspect.iscoroutinefunction(type(inner).__call__)
        )

    def check_function(self, function: Callable[..., object]) -> None:
        """Raise `ConfigurationError` for a function that can never receive a request."""

    def decorate_class(self, view: type, requirement: Requirement) -> None:  # noqa: ARG002 - for subclasses
        """Guard a class view in place; raise `ConfigurationError` for any other class."""
        raise ConfigurationError(
            f"require(): {view.__name__} is a class: decorate its methods instead"
        )

    def require(self, requirement: Requirement) -> Callable[[Endpoint], Endpoint]:
        """Return a decorator that demands `requirement` of the callers of a route.

        Stacked decorators are one requirement, combined with `&`, so that a 403 names all that
        is needed.

        Raises:
            ConfigurationError: it is not a requirement; or, at decoration, the function can never
                receive a request; or, at a request, no middleware has authenticated it.
        """
        if not isinstance(requirement, Requirement):
            raise ConfigurationError('require(): pass a requirement, such as scopes("read")')

        def decorate(endpoint: Any) -> Any:
            if inspect.isclass(endpoint):
                self.decorate_class(endpoint, requirement)
                return endpoint
            self.check_function(endpoint)
            return self.decorate_function(endpoint, requirement)

        return decorate

    def require_scopes(self, *names: str) -> Callable[[Endpoint], Endpoint]:
        """Return a decorator that demands all of these scopes; see `require`."""
        return self.require(scopes(*names))

    def decorate_function(
        self, function: Callable[..., Any], requirement: Requirement
    ) -> Callable[..., Any]:
        """Return `function` with a requirement in front of it."""
        inner = requirement_of(function)
        whole = requirement if inner is None else requirement & inner

        @functools.wraps(function)
        def guarded(*args: object, **kwargs: object) -> object:
            connection = self._connection(args, kwargs)
            admission, decision = self._decide(connection, whole)
            if decision is not None:
                return self.refuse(connection, admission, decision)
            return function(*args, **kwargs)

        @functools.wraps(function)
        async def async_guarded(*args: object, **kwargs: object) -> object:
            connection = self._connection(args, kwargs)
            admission, decision = self._decide(connection, whole)
            if decision is not None:
                return await self.arefuse(connection, admission, decision)
            return await function(*args, **kwargs)

        if inspect.isfunction(function):
            _decorated.add(function)
        chosen = async_guarded if self.is_async(function) else guarded
        setattr(chosen, REQUIREMENT, whole)
        return chosen

    def _connection(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Connection:
        connection = self.connection(args, kwargs)
        if connection is None:
            raise ConfigurationError("require(): the route must take its request or websocket")
        return connection

    def _decide(
        self, connection: Connection, requirement: Requirement
    ) -> tuple[Admission, Deny | None]:
        admitted = self.admitted(connection)
        if admitted is None:
            raise ConfigurationError(f"require(): no guard found: {self.remedy}")
        admission, principal = admitted
        decision = admission.authorize(
            principal, requirement, functools.partial(self.describe, connection)
        )
        return admission, decision


def requirement_of(function: object) -> Requirement | None:
    """Return what `require` demands of the callers of a function, None without it."""
    requirement = getattr(function, REQUIREMENT, None)
    return requirement if isinstance(requirement, Requirement) else None


def check_routes(routes: Iterable[object]) -> None:
    """Raise `ConfigurationError` where `require` stands above the route's decorator.

    `routes` are an app's functions as they are registered. Such a route is the function without its
    requirement, which is then never checked. A function is accepted if that is intended: its
    decorated form is a route too, or its name still refers to the bare function.
    """
    registered = [each for each in routes if inspect.isfunction(each)]
    guarded = {id(inner) for each in registered for inner in _inside(each)}
    for each in registered:
        is_meant = id(each) in guarded or each.__globals__.get(each.__qualname__) is each
        if each in _decorated and not is_meant:
            raise ConfigurationError(
                f"require(): {each.__qualname__} is a route without its requirement: put"
                " require() below the route's decorator"
            )


def _inside(function: Callable[..., object]) -> Iterator[object]:
    """Yield what decorators have wrapped, from the outside in."""
    inner: object = getattr(function, "__wrapped__", None)
    while inner is not None:
        yield inner
        inner = getattr(inner, "__wrapped__", None)


def check_takes(function: Callable[..., object], connection: type | tuple[type, ...]) -> None:
    """Raise `ConfigurationError` unless a parameter of the function may be a `connection`."""
    try:
        parameters = inspect.signature(function, eval_str=True).parameters.values()
    except (NameError, AttributeError):  # a name that only a type checker knows
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return  # written in C, or with a call of its own
    if not any(
        _may_be(each.annotation, connection)
        for each in parameters
        if each.name != "self" or each.annotation is not each.empty
    ):
        raise ConfigurationError(
            f"require(): {getattr(function, '__qualname__', function)!s} takes no request: give it"
            " a parameter such as `request: Request`, from which the caller is known"
        )


def _may_be(annotation: Any, connection: type | tuple[type, ...]) -> bool:
    if annotation in (inspect.Parameter.empty, Any, object) or isinstance(annotation, str):
        return True
    origin = typing.get_origin(annotation)
    if inspect.isclass(annotation) and origin is None:
        return issubclass(annotation, connection)
    if origin is typing.Literal:
        return False
    arguments = typing.get_args(annotation)
    if origin is typing.Annotated:  # only the first argument is a type
        arguments = arguments[:1]
    return any(_may_be(each, connection) for each in arguments)
