"""The rules that the decorators of every framework share, in a framework of this file."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from bearerguard import ANONYMOUS, ConfigurationError, Deny, Guard, Principal, scopes
from bearerguard.middleware import (
    Admission,
    Admitted,
    RequestInfo,
    RouteDecorators,
    check_routes,
)
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges


class Request:
    def __init__(self, admission: Admission | None, principal: Principal) -> None:
        self.admission = admission
        self.principal = principal


class Decorators(RouteDecorators[Request]):
    def connection(self, args: tuple[object, ...], kwargs: Mapping[str, object]) -> Request | None:
        values = (*args, *kwargs.values())
        return next((each for each in values if isinstance(each, Request)), None)

    def admitted(self, connection: Request) -> Admitted | None:
        admission = connection.admission
        return None if admission is None else Admitted(admission, connection.principal)

    def describe(self, connection: Request) -> RequestInfo:
        return RequestInfo("GET", "/x")

    def refuse(self, connection: Request, admission: Admission, decision: Deny) -> object:
        refusal = admission.refusal(decision, self.describe(connection))
        return refusal.status, dict(refusal.headers)["WWW-Authenticate"]


decorators = Decorators()
Make = Callable[..., Request]


@pytest.fixture
def request_of(guard: Guard, issuer: LocalIssuer) -> Make:
    def make(scope: str | None, **options: Any) -> Request:
        principal = (
            ANONYMOUS if scope is None else guard.verify(issuer.token(claims={"scope": scope}))
        )
        return Request(Admission(guard, **options), principal)

    return make


def reads(_request: Request) -> str:
    return "read"


async def reads_later(_request: Request) -> str:
    return "read"


class Reader:
    def __call__(self, _request: Request) -> str:
        return "read"


class AsyncReader:
    async def __call__(self, _request: Request) -> str:
        return "read"

    async def read(self, _request: Request) -> str:
        return "read"


def extra(_extra: object, _request: Request) -> str:
    return "read"


async def extra_later(_extra: object, _request: Request) -> str:
    return "read"


@pytest.mark.parametrize("route", [reads, Reader(), functools.partial(extra, 1)])
def test_a_sync_route_of_any_kind_is_guarded(route: Any, request_of: Make) -> None:
    guarded = decorators.require_scopes("read")(route)
    assert guarded(request_of("read write")) == "read"
    assert guarded(request_of("write"))[0] == 403
    assert guarded(request_of(None)) == (401, challenges.bearer("read"))


@pytest.mark.parametrize(
    "route",
    [reads_later, AsyncReader(), AsyncReader().read, functools.partial(extra_later, 1)],
)
def test_an_async_route_of_any_kind_is_guarded(route: Any, request_of: Make) -> None:
    guarded = decorators.require_scopes("read")(route)
    assert asyncio.run(guarded(request_of("read write"))) == "read"
    assert asyncio.run(guarded(request_of("write")))[0] == 403


def test_stacked_decorators_and_the_middlewares_requirement_are_combined(request_of: Make) -> None:
    guarded: Any = decorators.require(scopes("a"))(decorators.require_scopes("b")(reads))
    _, challenge = guarded(request_of("a", require=scopes("c")))
    assert 'scope="c a b"' in challenge
    assert guarded(request_of("a b c", require=scopes("c"))) == "read"


def test_misuse_is_refused(request_of: Make) -> None:
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        decorators.require("read")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="Reader is a class: decorate its methods"):
        decorators.require_scopes("read")(Reader)
    guarded: Any = decorators.require_scopes("read")(reads)
    with pytest.raises(ConfigurationError, match="must take its request"):
        guarded("none")
    with pytest.raises(ConfigurationError, match="no guard found: add BearerMiddleware"):
        guarded(Request(None, ANONYMOUS))


def test_a_decorated_route_keeps_its_name_and_its_signature() -> None:
    guarded: Any = decorators.require_scopes("read")(reads)
    assert (guarded.__name__, guarded.__wrapped__) == ("reads", reads)


def test_admission_decides_for_a_framework(guard: Guard, issuer: LocalIssuer) -> None:
    admission = Admission(
        guard, exclude=("/health",), optional=("/open",), pass_preflights=True, app=None
    )

    def decide(info: RequestInfo, *fields: bytes) -> Any:
        return guard.run(admission.decide(fields, info))

    token = b"Bearer " + issuer.token().encode()
    assert decide(RequestInfo("GET", "/x"), token).principal.is_authenticated
    assert decide(RequestInfo("GET", "/open"), token).principal.is_authenticated
    for info in (
        RequestInfo("GET", "/health"),
        RequestInfo("GET", "/open"),
        RequestInfo("OPTIONS", "/x", is_preflight=True),
    ):
        assert decide(info).principal is ANONYMOUS
    assert decide(RequestInfo("GET", "/x")).status == 401
    assert decide(RequestInfo("GET", "/health", "/%2e/health")).status == 401
    assert decide(RequestInfo("GET", "/x"), token, token).status == 400


def test_a_route_that_is_registered_without_its_requirement_is_refused() -> None:
    def bare(_request: Request) -> str:
        return "open"

    guarded = decorators.require_scopes("a")(bare)
    twice = decorators.require_scopes("b")(guarded)
    for routes in ([bare], [guarded], [guarded, reads]):
        with pytest.raises(ConfigurationError, match="bare is a route without its requirement"):
            check_routes(routes)
    check_routes([twice, None, Reader()])
    check_routes([bare, twice])  # once open, once guarded: both are meant
    decorators.require_scopes("read")(reads)
    check_routes([reads])  # guarded in another app: no decorator has taken its name
