"""Django Ninja: with the middleware and without, sync and async, by both test clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.django_project import OURS, project

# isort: split
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from ninja import NinjaAPI, Router
from ninja.errors import AuthenticationError, AuthorizationError, HttpError
from ninja.security import APIKeyQuery, HttpBearer
from ninja.testing import TestAsyncClient, TestClient

from bearerguard import ANONYMOUS, ConfigurationError, Guard, Issuer, Principal, role, scopes
from bearerguard.ninja import BearerAuth, CallerRateThrottle, install
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges
from tests.adapters.tokens import bearer

Call = Callable[..., Any]
Serve = Callable[..., Call]


class Key(APIKeyQuery):
    def authenticate(self, request: Any, key: str | None) -> str | None:
        return key


class OtherBearer(HttpBearer):
    def authenticate(self, request: Any, token: str) -> str | None:
        return token if token == "other" else None


def make(**options: Any) -> NinjaAPI:  # noqa: C901 - each operation is one line
    api = NinjaAPI(auth=BearerAuth(), **options)

    @api.get("/who")
    def who(request: Any) -> list[str]:
        return [request.auth.identity, request.principal.identity]

    @api.get("/awho")
    async def awho(request: Any) -> list[str]:
        return [request.auth.identity, request.principal.identity]

    @api.get("/write", auth=BearerAuth(scopes=["write"]))
    def write(request: Any) -> str:
        return "written"

    @api.get("/awrite", auth=BearerAuth(scopes=["write"]))
    async def awrite(request: Any) -> str:
        return "written"

    @api.get("/admin", auth=BearerAuth(scopes=["write"], require=role("admin")))
    def admin(request: Any) -> str:
        return "admin"

    @api.get("/optional", auth=BearerAuth(optional=True))
    def optional(request: Any) -> str:
        name: str = request.auth.identity
        return name

    @api.get("/open", auth=None)
    def free(request: Any) -> str:
        return "open"

    @api.get("/either", auth=[BearerAuth(scopes=["write"]), Key()])
    def either(request: Any) -> str:
        return str(getattr(request.auth, "identity", request.auth))

    @api.get("/mixed")
    def mixed(request: Any) -> str:
        return "got"

    @api.post("/mixed")
    async def amixed(request: Any) -> str:
        return "posted"

    router = Router(auth=BearerAuth(scopes=["inner"]))

    @router.get("/who")
    def inner(request: Any) -> str:
        return "inner"

    api.add_router("/inner", router)
    return api


@pytest.fixture(params=["sync", "async"])
def stack(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind


@pytest.fixture(params=["with the middleware", "without the middleware"])
def serve(request: pytest.FixtureRequest, guard: Guard, stack: str) -> Iterator[Serve]:
    """Serve an API below /; return a function that sends requests by Django's own client."""
    open_now: list[Any] = []
    middleware = [OURS] if request.param.startswith("with the") else []

    def at_root(api: NinjaAPI | None = None, **options: Any) -> Call:
        used = options.pop("guard", guard)
        served = make() if api is None else api
        whole = project(path("", served.urls), guard=used, middleware=middleware, **options)
        whole.__enter__()
        open_now.append(whole)

        def send(place: str, headers: Any = None, method: str = "GET") -> Any:
            if stack == "sync":
                return Client().generic(method, place, headers=headers)
            return asyncio.run(AsyncClient().generic(method, place, headers=headers))

        return send

    yield at_root
    for each in reversed(open_now):
        each.__exit__(None, None, None)


def challenge(response: Any) -> str:
    value: str = response.headers["WWW-Authenticate"]
    return value


@pytest.mark.parametrize("place", ["/who", "/awho"])
def test_an_operation_has_the_principal(place: str, serve: Serve, issuer: LocalIssuer) -> None:
    call = serve()
    response = call(place, bearer(issuer, subject="ada"))
    assert (response.status_code, response.json()) == (200, ["ada", "ada"])
    refused = call(place)
    assert (refused.status_code, challenge(refused)) == (401, challenges.bearer())
    assert refused.headers["Cache-Control"] == "no-store"
    malformed = call(place, {"Authorization": "Bearer a.b.c"})
    assert malformed.status_code == 401
    assert 'error="invalid_token"' in challenge(malformed)
    assert call(place, {"Authorization": "Bearer"}).status_code == 400


@pytest.mark.parametrize("place", ["/write", "/awrite"])
def test_an_operation_has_its_own_scopes(place: str, serve: Serve, issuer: LocalIssuer) -> None:
    call = serve()
    assert call(place, bearer(issuer, "write")).json() == "written"
    refused = call(place, bearer(issuer, "read"))
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in challenge(refused)
    assert 'scope="write"' in challenge(refused)
    assert "Access-Token-Expires-In" in refused.headers


def test_a_403_names_what_every_request_needs_too(serve: Serve, issuer: LocalIssuer) -> None:
    call = serve(REQUIRE=scopes("all"))
    assert 'scope="all' in challenge(call("/write", bearer(issuer, "write")))
    assert 'scope="all write"' in challenge(call("/write", bearer(issuer, "all")))


def test_a_missing_role_names_no_scope(serve: Serve, issuer: LocalIssuer) -> None:
    call = serve()
    refused = call("/admin", bearer(issuer, "write"))
    assert (refused.status_code, challenge(refused)) == (403, challenges.bearer())
    token = issuer.token(scopes=["write"], roles=["admin"])
    assert call("/admin", {"Authorization": f"Bearer {token}"}).status_code == 200


def test_a_routers_auth_is_its_operations(serve: Serve, issuer: LocalIssuer) -> None:
    call = serve()
    assert call("/inner/who", bearer(issuer, "inner")).json() == "inner"
    assert 'scope="inner"' in challenge(call("/inner/who", bearer(issuer)))


def test_sync_and_async_operations_share_a_path(serve: Serve, issuer: LocalIssuer) -> None:
    call = serve()
    assert call("/mixed", bearer(issuer)).json() == "got"
    assert call("/mixed", bearer(issuer), "POST").json() == "posted"
    assert call("/mixed").status_code == call("/mixed", method="POST").status_code == 401


def test_an_operation_may_be_optional_or_open(serve: Serve, issuer: LocalIssuer) -> None:
    call = serve(OPTIONAL=["/optional", "/open", "/either"])
    assert call("/optional").json() == ANONYMOUS.identity
    assert call("/optional", bearer(issuer, subject="ada")).json() == "ada"
    assert call("/optional", {"Authorization": "Bearer a.b.c"}).status_code == 401
    assert call("/open").json() == "open"


def test_other_credentials_are_left_to_the_next_authentication_scheme(
    serve: Serve, issuer: LocalIssuer
) -> None:
    call = serve(OPTIONAL=["/either"])
    assert call("/either?key=mine").json() == "mine"
    assert call("/either", bearer(issuer, "write")).json() == "user"
    missing = call("/either")
    assert (missing.status_code, challenge(missing)) == (401, challenges.bearer("write"))


def test_an_unavailable_issuer_is_503(serve: Serve, issuer: LocalIssuer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard:
        refused = serve(guard=guard)("/who", bearer(issuer))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "WWW-Authenticate" not in refused.headers


def test_exception_handlers_see_the_refusal_and_keep_its_challenge(
    serve: Serve, issuer: LocalIssuer
) -> None:
    api = make()
    seen: list[Any] = []

    @api.exception_handler(AuthenticationError)
    def unauthorized(request: Any, exc: HttpError) -> HttpResponse:
        seen.append(str(exc))
        return api.create_response(request, {"mine": exc.status_code}, status=exc.status_code)

    @api.exception_handler(AuthorizationError)
    def hidden(request: Any, exc: HttpError) -> HttpResponse:
        return api.create_response(request, "not for you", status=404)

    call = serve(api, OPTIONAL=True)
    refused = call("/who")
    assert refused.json() == {"mine": 401}
    assert challenge(refused) == challenges.bearer()
    forbidden = call("/write", bearer(issuer))
    assert (forbidden.status_code, forbidden.json()) == (404, "not for you")
    assert "WWW-Authenticate" not in forbidden.headers
    assert seen == ["Unauthorized"]


def test_what_an_operation_raises_stays_its_own(serve: Serve, issuer: LocalIssuer) -> None:
    api = make()

    @api.get("/raising")
    def raising(request: Any) -> str:
        raise AuthenticationError

    call = serve(api)
    call("/who", {"Authorization": "Bearer a.b.c"})
    response = call("/raising", bearer(issuer))
    assert response.status_code == 401
    assert "WWW-Authenticate" not in response.headers


def test_a_subclass_and_a_bearer_of_the_apps_own_work(serve: Serve, issuer: LocalIssuer) -> None:
    class Named(BearerAuth):
        def __call__(self, request: Any) -> Any:
            request.named = True
            return super().__call__(request)

    api = NinjaAPI()

    @api.get("/named", auth=[Named(), OtherBearer()])
    def named(request: Any) -> bool:
        seen: bool = request.named
        return seen

    call = serve(api)
    assert call("/named", bearer(issuer)).json() is True


# Ninja's own test client


def test_ninjas_test_client_is_guarded(guard: Guard, issuer: LocalIssuer) -> None:
    with project(guard=guard):
        client = TestClient(make())
        response = client.get("/who", headers=bearer(issuer, subject="ada"))
        assert (response.status_code, response.json()) == (200, ["ada", "ada"])
        refused = client.get("/write", headers=bearer(issuer))
        assert (refused.status_code, 'scope="write"' in refused["WWW-Authenticate"]) == (403, True)
        assert client.get("/who").status_code == 401

        async def in_a_loop() -> tuple[Any, ...]:
            own = TestAsyncClient(make(urls_namespace="async"))
            return (
                await own.get("/awho", headers=bearer(issuer, subject="ada")),
                await own.get("/awrite", headers=bearer(issuer)),
                client.get("/who", headers=bearer(issuer, subject="ada")),
            )

        passed, weak, by_sync = asyncio.run(in_a_loop())
        assert passed.json() == by_sync.json() == ["ada", "ada"]
        assert (weak.status_code, 'scope="write"' in weak["WWW-Authenticate"]) == (403, True)


def test_bearer_auth_can_be_called_outside_an_api(guard: Guard, issuer: LocalIssuer) -> None:
    from django.test import RequestFactory

    auth = BearerAuth(scopes=["write"])
    request = RequestFactory().get("/", headers=bearer(issuer, "write"))
    weak = RequestFactory().get("/", headers=bearer(issuer))
    with project(guard=guard):
        assert auth(request).identity == "user"
        assert auth(RequestFactory().get("/")) is None
        with pytest.raises(AuthorizationError):
            auth(weak)

        async def in_a_loop() -> Principal:
            principal: Principal = await auth(request)
            return principal

        assert asyncio.run(in_a_loop()).identity == "user"


# Users


def user_of(principal: Principal) -> Any:
    return User(username="ada") if principal.subject == "ada" else None


@pytest.mark.parametrize("place", ["/user", "/auser"])
def test_a_principal_may_be_a_user_of_django(place: str, serve: Serve, issuer: LocalIssuer) -> None:
    api = NinjaAPI(auth=BearerAuth())

    @api.get("/user")
    def user(request: Any) -> str:
        name: str = request.user.username
        return name

    @api.get("/auser")
    async def auser(request: Any) -> str:
        name: str = (await request.auser()).username
        return name

    call = serve(api, USER=user_of)
    assert call(place, bearer(issuer, subject="ada")).json() == "ada"
    refused = call(place, bearer(issuer, subject="eve"))
    assert (refused.status_code, challenge(refused)) == (403, challenges.bearer())


# Options and OpenAPI


def test_misuse_is_named() -> None:
    for options, message in (
        ({"scopes": "read"}, "scopes=: pass a list"),
        ({"scopes": ["a b"]}, "pass each scope as its own argument"),
        ({"require": "admin"}, "require="),
        ({"optional": "yes"}, "optional=: pass True or False"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            BearerAuth(**options)


def test_openapi_names_the_issuer(guard: Guard, issuer: LocalIssuer) -> None:
    url = f"{issuer.url}/.well-known/openid-configuration"
    with project(guard=guard):
        schema: Any = make().get_openapi_schema(path_prefix="")
    assert schema["components"]["securitySchemes"]["BearerAuth"] == {
        "type": "openIdConnect",
        "openIdConnectUrl": url,
    }
    assert schema["paths"]["/write"]["get"]["security"] == [{"BearerAuth": []}]


def test_an_installed_api_documents_each_operations_scopes(
    guard: Guard, issuer: LocalIssuer
) -> None:
    api = make()
    install(api)
    with project(path("api/", api.urls), guard=guard, REQUIRE=scopes("all"), EXCLUDE=["/api/*"]):
        schema = Client().get("/api/openapi.json").json()
        assert api.get_openapi_schema(path_prefix="")["paths"]["/who"]
    schemes = schema["components"]["securitySchemes"]
    assert set(schemes) == {"bearer", "Key"}
    assert schemes["bearer"]["openIdConnectUrl"].startswith(issuer.url)
    paths = schema["paths"]
    assert paths["/api/write"]["get"]["security"] == [{"bearer": ["all", "write"]}]
    assert paths["/api/inner/who"]["get"]["security"] == [{"bearer": ["all", "inner"]}]
    assert paths["/api/optional"]["get"]["security"] == [{}, {"bearer": ["all"]}]
    assert paths["/api/either"]["get"]["security"] == [{"Key": []}, {"bearer": ["all", "write"]}]
    assert set(paths["/api/write"]["get"]["responses"]) == {"200", "401", "403", "503"}
    assert "security" not in paths["/api/open"]["get"]
    assert set(paths["/api/open"]["get"]["responses"]) == {"200"}


def test_an_installed_api_documents_all_issuers() -> None:
    api = make()
    install(api)
    issuers = [Issuer(f"https://{name}.test", audience="x") for name in ("a", "b")]
    with Guard(*issuers) as guard, project(guard=guard):
        schema: Any = api.get_openapi_schema(path_prefix="")
    assert set(schema["components"]["securitySchemes"]) == {"bearer-a.test", "bearer-b.test", "Key"}
    assert schema["paths"]["/write"]["get"]["security"] == [
        {"bearer-a.test": ["write"]},
        {"bearer-b.test": ["write"]},
    ]


def test_each_caller_has_its_own_rate(serve: Serve, issuer: LocalIssuer) -> None:
    cache.clear()
    api = NinjaAPI(auth=BearerAuth(optional=True), throttle=[CallerRateThrottle("2/hour")])

    @api.get("/limited")
    def limited(request: Any) -> str:
        return "passed"

    call = serve(api, OPTIONAL=True)
    ada, bob = bearer(issuer, subject="ada"), bearer(issuer, subject="bob")
    for headers in (ada, bob, bearer(issuer, subject="ada", client_id="other"), {}):
        statuses = [call("/limited", headers).status_code for _ in range(3)]
        assert statuses == [200, 200, 429]
    cache.clear()
