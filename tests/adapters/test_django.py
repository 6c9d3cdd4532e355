"""Django: the middleware in sync and async stacks, its decorators, and what stands beside it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from tests.adapters import challenges
from tests.django_project import MIDDLEWARE, OURS, project

# isort: split
from asgiref.sync import SyncToAsync
from django.contrib.auth.decorators import login_not_required, login_required
from django.contrib.auth.models import AnonymousUser, User
from django.http import HttpResponse, HttpResponseForbidden, JsonResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory
from django.test.utils import override_settings
from django.urls import path, re_path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from bearerguard import ANONYMOUS, ConfigurationError, Guard, Principal, role, scopes
from bearerguard.django import (
    BearerMiddleware,
    require,
    require_scopes,
    token_not_required,
)
from bearerguard.testing import LocalIssuer

Bearer = Callable[..., dict[str, str]]
Call = Callable[..., Any]
PREFLIGHT = {"Origin": "https://app.test", "Access-Control-Request-Method": "DELETE"}


@pytest.fixture
def bearer(issuer: LocalIssuer) -> Bearer:
    return lambda **options: {"Authorization": f"Bearer {issuer.token(**options)}"}


@pytest.fixture(params=["sync", "async"])
def call(request: pytest.FixtureRequest) -> Call:
    """Send a request by Django's own test client: through WSGI's handler, and through ASGI's."""

    def send(place: str, headers: Any = None, *, method: str = "GET", **options: Any) -> Any:
        if request.param == "sync":
            return Client(**options).generic(method, place, headers=headers)
        return asyncio.run(AsyncClient(**options).generic(method, place, headers=headers))

    return send


def who(request: Any) -> HttpResponse:
    return HttpResponse(request.principal.identity)


@require_scopes("write")
def synchronous(request: Any) -> HttpResponse:
    return who(request)


@require_scopes("write")
async def asynchronous(request: Any) -> HttpResponse:
    return who(request)


@require_scopes("write")
class Whole(View):
    def get(self, request: Any) -> HttpResponse:
        return who(request)


@require_scopes("write")
class AsyncWhole(View):
    async def get(self, request: Any) -> HttpResponse:
        return who(request)


@require_scopes("write")
class Base(View):
    """Without a method, so neither sync nor async."""


class Inherited(Base):
    async def get(self, request: Any) -> HttpResponse:
        return who(request)


@method_decorator(require_scopes("write"), name="dispatch")
class ByMethodDecorator(View):
    def get(self, request: Any) -> HttpResponse:
        return who(request)


@method_decorator(require_scopes("write"), name="dispatch")
class AsyncByMethodDecorator(View):
    async def get(self, request: Any) -> HttpResponse:
        return who(request)


class Methods(View):
    @require_scopes("write")
    def get(self, request: Any) -> HttpResponse:
        return who(request)

    @method_decorator(require_scopes("write"))
    def post(self, request: Any) -> HttpResponse:
        return who(request)


class AsyncMethods(View):
    @require_scopes("write")
    async def get(self, request: Any) -> HttpResponse:
        return who(request)

    @method_decorator(require_scopes("write"))
    async def post(self, request: Any) -> HttpResponse:
        return who(request)


class Plain(View):
    def get(self, request: Any) -> HttpResponse:
        return who(request)


class AsyncPlain(View):
    async def get(self, request: Any) -> HttpResponse:
        return who(request)


VIEWS = {
    "function": synchronous,
    "async function": asynchronous,
    "class": Whole.as_view(),
    "async class": AsyncWhole.as_view(),
    "subclass": Inherited.as_view(),
    "method_decorator": ByMethodDecorator.as_view(),
    "async method_decorator": AsyncByMethodDecorator.as_view(),
    "methods": Methods.as_view(),
    "async methods": AsyncMethods.as_view(),
    "as_view": require_scopes("write")(Plain.as_view()),
    "async as_view": require_scopes("write")(AsyncPlain.as_view()),
}


@pytest.mark.parametrize("kind", VIEWS)
def test_a_view_of_any_kind_is_guarded(kind: str, guard: Guard, call: Call, bearer: Bearer) -> None:
    with project(path("it", VIEWS[kind]), guard=guard):
        assert call("/it", bearer(scopes=["write"], subject="ada")).content == b"ada"
        weak = call("/it", bearer(scopes=["read"]))
        assert weak.status_code == 403
        assert 'scope="write"' in weak["WWW-Authenticate"]
        assert call("/it").status_code == 401
        assert call("/it", bearer(expires_in=-60)).status_code == 401


@pytest.mark.parametrize("view", [Methods, AsyncMethods])
def test_a_method_is_guarded_by_djangos_method_decorator(
    view: type[View], guard: Guard, call: Call, bearer: Bearer
) -> None:
    with project(path("it", view.as_view()), guard=guard):
        assert call("/it", bearer(scopes=["write"]), method="POST").status_code == 200
        assert call("/it", bearer(), method="POST").status_code == 403


def test_a_refusal_comes_in_full(guard: Guard, call: Call, bearer: Bearer) -> None:
    with project(path("it", synchronous), guard=guard):
        refused = call("/it", {**bearer(scopes=["read"]), "Origin": "https://app.test"})
    assert refused.json() == {
        "type": "about:blank",
        "title": "Forbidden",
        "status": 403,
        "detail": "The request needs a scope that the access token does not have",
        "error": "insufficient_scope",
        "scope": "write",
    }
    assert refused["Content-Type"] == "application/problem+json"
    assert refused["Cache-Control"] == "no-store"
    assert 3590 < int(refused["Access-Token-Expires-In"]) <= 3600
    assert "WWW-Authenticate" in refused["Access-Control-Expose-Headers"]
    assert refused["WWW-Authenticate"].startswith('Bearer realm="api", error="insufficient_scope"')


def test_a_decorators_refusal_is_the_middlewares(guard: Guard, call: Call, bearer: Bearer) -> None:
    token = {**bearer(scopes=["read"]), "Origin": "https://app.test"}
    with project(path("it", synchronous), guard=guard):
        by_view = call("/it", token)
    with project(path("it", who), guard=guard, REQUIRE=scopes("write")):
        by_middleware = call("/it", token)
    left = "Access-Token-Expires-In"
    assert by_view.status_code == by_middleware.status_code == 403
    assert by_view.content == by_middleware.content
    assert {**by_view.headers, left: ""} == {**by_middleware.headers, left: ""}


def test_a_response_has_the_expiry_and_is_private(guard: Guard, call: Call, bearer: Bearer) -> None:
    def public(_request: Any) -> HttpResponse:
        return HttpResponse(headers={"Cache-Control": "public, max-age=60", "Vary": "Cookie"})

    with project(path("it", who), path("public", public), guard=guard, OPTIONAL=["/public"]):
        response = call("/it", {**bearer(), "Origin": "https://app.test"})
        assert 3590 < int(response["Access-Token-Expires-In"]) <= 3600
        assert response["Cache-Control"] == "private"
        assert "Access-Token-Expires-In" in response["Access-Control-Expose-Headers"]
        assert "Vary" not in response
        cached = call("/public", bearer())
        assert "Access-Token-Expires-In" not in cached
        assert cached["Vary"] == "Cookie, Authorization"
        assert call("/public")["Vary"] == "Cookie, Authorization"


def test_a_refused_HEAD_has_the_headers_and_no_body(guard: Guard, call: Call) -> None:
    with project(path("it", who), guard=guard):
        refused, head = call("/it"), call("/it", method="HEAD")
    assert head.status_code == 401
    assert head.content == b""
    assert head.headers == refused.headers


def test_a_stream_is_sent_as_it_is_made(guard: Guard, bearer: Bearer) -> None:
    made = []

    def chunks() -> Iterator[bytes]:
        for chunk in (b"a", b"b"):
            made.append(chunk)
            yield chunk

    async def achunks() -> AsyncIterator[bytes]:
        for chunk in chunks():
            yield chunk

    async def read() -> list[bytes]:
        response = await AsyncClient().get("/async", headers=bearer())
        assert made == [b"a", b"b"]  # by the other stream
        assert "Access-Token-Expires-In" in response
        return [chunk async for chunk in response]

    with project(
        path("sync", lambda _request: StreamingHttpResponse(chunks())),
        path("async", lambda _request: StreamingHttpResponse(achunks())),
        guard=guard,
    ):
        response = Client().get("/sync", headers=bearer())
        assert made == []
        assert list(response) == [b"a", b"b"]
        assert "Access-Token-Expires-In" in response
        assert asyncio.run(read()) == [b"a", b"b"]


def test_a_repeated_authorization_field_is_refused(guard: Guard, bearer: Bearer) -> None:
    token = bearer()["Authorization"]
    with project(path("it", who), guard=guard):
        # A WSGI server joins them by a comma, as Django does in ASGI.
        joined = Client().get("/it", headers={"Authorization": f"{token}, {token}"})
        assert joined.status_code == 400
        request = AsyncRequestFactory().get("/it").scope
        request["headers"] = [(b"authorization", token.encode())] * 2

        async def send() -> Any:
            return await AsyncClient().request(**request)

        assert asyncio.run(send()).status_code == 400


def test_a_token_of_octets_beyond_latin_1_is_refused(guard: Guard) -> None:
    with project(path("it", who), guard=guard):
        response = Client().get("/it", HTTP_AUTHORIZATION="Bearer \u20ac")
        assert response.status_code == 400


def test_an_unavailable_issuer_is_503(issuer: LocalIssuer, call: Call, bearer: Bearer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard, project(path("it", who), guard=guard):
        refused = call("/it", bearer())
    assert (refused.status_code, refused["Retry-After"]) == (503, "1")


def test_a_token_that_is_cached_is_checked_again(guard: Guard, call: Call, bearer: Bearer) -> None:
    token, plain = bearer(scopes=["read"], subject="ada"), bearer()
    with project(path("it", who), guard=guard, REQUIRE=scopes("read")):
        assert [call("/it", token).content for _ in range(2)] == [b"ada", b"ada"]
        assert [call("/it", plain).status_code for _ in range(2)] == [403, 403]
    with project(path("it", who), guard=guard, REQUIRE=scopes("write")):
        assert call("/it", token).status_code == 403


def test_stacked_decorators_name_all_scopes(guard: Guard, call: Call, bearer: Bearer) -> None:
    view = require(scopes("a"))(require_scopes("b")(who))
    with project(path("it", view), guard=guard, REQUIRE=role("admin")):
        refused = call("/it", bearer(scopes=["a"], roles=["admin"]))
    assert 'scope="a b"' in refused["WWW-Authenticate"]


# Paths and views that need no token


def test_excluded_paths_are_anonymous_whatever_is_sent(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    with project(
        path("health", who), path("it", synchronous), guard=guard, EXCLUDE=["/health", "/it"]
    ):
        for headers in ({}, bearer(subject="ada"), {"Authorization": "Bearer x"}, PREFLIGHT):
            response = call("/health", headers)
            assert response.content.decode() == ANONYMOUS.identity
            assert set(response.headers) == {"Content-Type"}
        refused = call("/it", bearer(scopes=["write"]))
        assert refused.status_code == 401
        assert refused["WWW-Authenticate"] == challenges.bearer("write")


@pytest.mark.parametrize("place", ["//health", "/x/../health", "/health%2f", "/Health", "/health/"])
def test_another_spelling_of_an_excluded_path_is_not_excluded(
    place: str, guard: Guard, call: Call
) -> None:
    with project(re_path("", who), guard=guard, EXCLUDE=["/health", "/static/*"]):
        assert call(place).status_code == 401


def test_what_the_server_decoded_is_compared_too(guard: Guard) -> None:
    with project(re_path("", who), guard=guard, EXCLUDE=["/static/*"]):
        assert Client().get("/static/a").status_code == 200
        assert Client().get("/static/a", RAW_URI="/static/%2e%2e/a?b").status_code == 401
        scope = AsyncRequestFactory().get("/static/a").scope
        scope["raw_path"] = b"/static/%2e%2e/a"
        request = AsyncRequestFactory().request(**scope)
        assert BearerMiddleware(who)(request).status_code == 401


def test_a_path_is_compared_below_the_mount(guard: Guard) -> None:
    with project(path("health", who), guard=guard, EXCLUDE=["/health"]):
        assert Client().get("/health", SCRIPT_NAME="/api").status_code == 200
        assert Client().get("/api/health").status_code == 401


def test_preflights_pass_where_that_is_set(guard: Guard, call: Call, bearer: Bearer) -> None:
    with project(path("it", who), guard=guard, PASS_PREFLIGHTS=True):
        assert call("/it", PREFLIGHT, method="OPTIONS").status_code == 200
        assert (
            call("/it", {**PREFLIGHT, **bearer(expires_in=-60)}, method="OPTIONS").status_code
            == 401
        )
        assert call("/it", PREFLIGHT).status_code == 401
    with project(path("it", who), guard=guard):
        assert call("/it", PREFLIGHT, method="OPTIONS").status_code == 401


@token_not_required
def open_view(request: Any) -> HttpResponse:
    return who(request)


@token_not_required
async def open_async(request: Any) -> HttpResponse:
    return who(request)


@token_not_required
class OpenClass(View):
    def get(self, request: Any) -> HttpResponse:
        return who(request)

    @require_scopes("write")
    def post(self, request: Any) -> HttpResponse:
        return who(request)


OPEN = {
    "function": open_view,
    "async": open_async,
    "class": OpenClass.as_view(),
    "as_view": token_not_required(AsyncPlain.as_view()),
}


@pytest.mark.parametrize("kind", OPEN)
def test_a_marked_view_needs_no_token_but_refuses_a_bad_one(
    kind: str, guard: Guard, call: Call, bearer: Bearer
) -> None:
    with project(path("open", OPEN[kind]), path("it", who), guard=guard):
        anonymous = call("/open")
        assert anonymous.content.decode() == ANONYMOUS.identity
        assert anonymous["Vary"] == "Authorization"
        token = bearer(subject="ada")
        for _ in range(2):  # the second time it is found in the cache
            known = call("/open", token)
            assert (known.content, known["Vary"]) == (b"ada", "Authorization")
        refused = call("/open", bearer(expires_in=-60))
        assert (refused.status_code, refused["Vary"]) == (401, "Authorization")
        assert call("/open", {"Authorization": "Basic eDp5"}).status_code == 200
        assert "Vary" not in call("/it", bearer())
        assert call("/nowhere").status_code == 401


def test_a_method_of_a_marked_class_may_need_a_token(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    with project(path("open", OpenClass.as_view()), guard=guard):
        assert call("/open", method="POST").status_code == 401
        assert call("/open", bearer(scopes=["write"]), method="POST").status_code == 200


def test_a_mark_opens_only_where_it_was_put(guard: Guard, call: Call) -> None:
    class Other(View):
        get = Plain.get

    token_not_required(who)
    token_not_required(Other)
    with project(path("who", who), path("plain", Plain.as_view()), guard=guard):
        assert call("/who").status_code == 401
        assert call("/plain").status_code == 401


class Urls:
    urlpatterns = (path("it", who),)


def switch_urls(get_response: Any) -> Any:
    def middleware(request: Any) -> Any:
        request.urlconf = Urls
        return get_response(request)

    return middleware


def test_a_mark_counts_for_the_view_that_is_called(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    """Middleware inside may choose other URLs than those for which the request was admitted."""
    inside, outside = [OURS, f"{__name__}.switch_urls"], [f"{__name__}.switch_urls", OURS]
    with project(path("it", open_view), guard=guard, middleware=inside, REQUIRE=scopes("read")):
        refused = call("/it")
        assert refused.status_code == 401
        assert refused["WWW-Authenticate"] == challenges.bearer("read")
        assert call("/it", bearer(scopes=["read"])).status_code == 200
    with project(path("it", open_view), guard=guard, middleware=outside):
        assert call("/it").status_code == 401
    with project(path("it", open_view), guard=guard):
        assert call("/it").status_code == 200


class Revealing:
    regex = ".+"

    def to_python(self, value: str) -> str:
        raise RuntimeError("no database")

    def to_url(self, value: str) -> str:
        return value


def test_a_stranger_learns_nothing_from_url_converters(guard: Guard, call: Call) -> None:
    from django.urls.converters import REGISTERED_CONVERTERS, register_converter

    register_converter(Revealing, "revealing")
    try:
        with project(path("<revealing:name>", who), guard=guard):
            assert call("/it").status_code == 401
    finally:
        del REGISTERED_CONVERTERS["revealing"]


# Beside Django's own


def test_an_async_stack_is_left_for_no_thread(
    guard: Guard, bearer: Bearer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Django calls sync middleware, and sync methods of it, in threads."""
    called: list[str] = []
    in_thread = SyncToAsync.__call__

    async def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
        called.append(self.func.__qualname__)
        return await in_thread(self, *args, **kwargs)

    async def view(request: Any) -> HttpResponse:
        return HttpResponse((await request.auser()).username)

    async def unguarded(_request: Any) -> HttpResponse:
        return HttpResponse()

    async def user(principal: Principal) -> User:
        return User(username=principal.subject)

    monkeypatch.setattr(SyncToAsync, "__call__", noted)
    with project(path("it", unguarded), guard=guard, middleware=[]):
        asyncio.run(AsyncClient().get("/it"))
    by_django = [*called]
    called.clear()
    with project(path("it", view), guard=guard, USER=user):
        response = asyncio.run(AsyncClient().get("/it", headers=bearer(subject="ada")))
        assert response.content == b"ada"
    assert called == by_django


def test_attributes_of_a_view_are_kept(guard: Guard) -> None:
    for view in (
        require_scopes("write")(login_not_required(csrf_exempt(who))),
        login_not_required(csrf_exempt(require_scopes("write")(who))),
        token_not_required(login_not_required(csrf_exempt(who))),
        require_scopes("write")(
            method_decorator([csrf_exempt, login_not_required], name="dispatch")(
                type("Marked", (Plain,), {})
            )
        ).as_view(),
    ):
        assert view.csrf_exempt is True
        assert view.login_required is False
    assert synchronous.__name__ == "synchronous"


@pytest.mark.parametrize("middleware", [MIDDLEWARE, [OURS, *MIDDLEWARE[:-1]]])
def test_a_request_with_a_token_needs_no_csrf_token(
    middleware: list[str], guard: Guard, bearer: Bearer
) -> None:
    with project(
        path("it", who), path("form", who), guard=guard, middleware=middleware, OPTIONAL=["/form"]
    ):
        client = Client(enforce_csrf_checks=True)
        assert client.post("/it", headers=bearer()).status_code == 200
        assert (
            client.post("/it", headers={**bearer(), "Origin": "https://app.test"}).status_code
            == 200
        )
        assert client.post("/it").status_code == 401
        # By a session, or by nothing, it needs one as ever.
        refused = client.post("/form")
        assert refused.status_code == 403
        assert b"CSRF" in refused.content
        assert client.post("/form", headers=bearer()).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Cookie": "a=b"}, 200),
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site"}, 200),
        # A form of another site, through a proxy that adds the token for its cookie.
        ({"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}, 403),
        ({"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Site": "cross-site"}, 403),
        # A script of another site: with the proxy's cookie, or with a session and its own token.
        ({"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "cross-site", "Cookie": "a=b"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://evil.test", "Cookie": "a=b"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://app.test", "Cookie": "a=b"}, 200),
        ({"Sec-Fetch-Site": "same-site", "Origin": "http://app.test", "Cookie": "a=b"}, 403),
        ({"Sec-Fetch-Site": "same-site", "Origin": "https://x.ours.test", "Cookie": "a=b"}, 200),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "null", "Cookie": "a=b"}, 403),
    ],
)
def test_what_another_site_may_have_sent_needs_a_csrf_token(
    headers: dict[str, str], status: int, guard: Guard, bearer: Bearer
) -> None:
    with (
        override_settings(CSRF_TRUSTED_ORIGINS=["https://app.test", "https://*.ours.test"]),
        project(path("it", who), guard=guard, middleware=MIDDLEWARE),
    ):
        client = Client(enforce_csrf_checks=True)
        assert client.post("/it", headers={**bearer(), **headers}).status_code == status
        assert client.get("/it", headers={**bearer(), **headers}).status_code == 200


def test_without_a_hook_the_sessions_user_stays(users: None, guard: Guard, bearer: Bearer) -> None:
    def user(request: Any) -> HttpResponse:
        return HttpResponse(request.user.get_username())

    with project(path("it", user), guard=guard, middleware=MIDDLEWARE, OPTIONAL=True):
        client = Client()
        assert client.get("/it", headers=bearer()).content == b""
        client.force_login(User.objects.get(username="ada"))
        assert client.get("/it", headers=bearer(subject="bob")).content == b"ada"
        assert client.get("/it").content == b"ada"


def user_of(principal: Principal) -> User | None:
    return User.objects.filter(username=principal.subject).first()


async def auser_of(principal: Principal) -> User | None:
    return await User.objects.filter(username=principal.subject).afirst()


@pytest.mark.parametrize("hook", [f"{__name__}.user_of", f"{__name__}.auser_of", auser_of])
def test_a_hook_makes_the_principals_user_the_requests(
    hook: Any, users: None, guard: Guard, call: Call, bearer: Bearer
) -> None:
    @login_required
    def sync_view(request: Any) -> JsonResponse:
        return JsonResponse([request.user.username], safe=False)

    @login_required
    async def async_view(request: Any) -> JsonResponse:
        return JsonResponse([request.user.username, (await request.auser()).username], safe=False)

    with project(
        path("sync", sync_view),
        path("async", async_view),
        guard=guard,
        middleware=MIDDLEWARE,
        USER=hook,
    ):
        assert call("/sync", bearer(subject="ada")).json() == ["ada"]
        assert call("/async", bearer(subject="ada")).json() == ["ada", "ada"]
        for nobody in ("bob", "eve"):  # not active, and unknown
            refused = call("/sync", bearer(subject=nobody))
            assert refused.status_code == 403
            assert refused["WWW-Authenticate"] == challenges.bearer()
            assert refused.json()["detail"] == "There is no active account for this access token"
            assert nobody not in refused.content.decode()
        assert call("/sync").status_code == 401


class AsyncCallable:
    async def __call__(self, principal: Principal) -> User | None:
        return await auser_of(principal)


def test_a_hook_may_be_an_object(users: None, guard: Guard, call: Call, bearer: Bearer) -> None:
    view = login_required(who)
    with project(path("it", view), guard=guard, middleware=MIDDLEWARE, USER=AsyncCallable()):
        assert call("/it", bearer(subject="ada")).content == b"ada"


def test_a_token_without_a_user_passes_as_djangos_anonymous_user(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    """A client of its own, such as a service, has none."""

    def user(request: Any) -> HttpResponse:
        return HttpResponse(f"{request.principal.identity} {request.user.is_authenticated}")

    with project(path("it", user), guard=guard, USER=lambda _principal: AnonymousUser()):
        assert call("/it", bearer(subject="robot")).content == b"robot False"


@pytest.mark.parametrize("user", [("ada", True), "ada", True])
def test_a_hook_that_returns_no_user_is_named(user: Any, guard: Guard, bearer: Bearer) -> None:
    with (
        project(path("it", who), guard=guard, USER=lambda _principal: user),
        pytest.raises(ConfigurationError, match=rf'"USER"\]: it returned a {type(user).__name__}'),
    ):
        Client().get("/it", headers=bearer())


def test_an_error_page_shows_no_token(guard: Guard, bearer: Bearer) -> None:
    def fails(_request_or_principal: Any) -> HttpResponse:
        raise RuntimeError("it failed")

    token = bearer()
    secret = token["Authorization"].removeprefix("Bearer ")
    client = Client(raise_request_exception=False)
    rows: list[tuple[Any, dict[str, Any]]] = [(fails, {}), (who, {"USER": fails})]
    for view, options in rows:
        with project(path("it", view), guard=guard, **options), override_settings(DEBUG=True):
            page = client.get("/it", headers=token)
        assert page.status_code == 500
        assert b"it failed" in page.content
        assert b"HTTP_AUTHORIZATION" in page.content
        assert secret.encode() not in page.content
        assert secret.rpartition(".")[2].encode() not in page.content


def test_the_log_says_why_a_user_was_refused(
    users: None, guard: Guard, issuer: LocalIssuer, bearer: Bearer, caplog: pytest.LogCaptureFixture
) -> None:
    with issuer.guard() as own, project(path("it", who), guard=own, USER=user_of):
        Client().get("/it", headers=bearer(subject="eve"))
    (line,) = [each for each in caplog.messages if each.startswith("no_account")]
    assert 'BEARERGUARD["USER"] returned None' in line
    assert "eve" not in line


def test_an_anonymous_request_has_the_user_that_django_gives(guard: Guard, call: Call) -> None:
    def user(request: Any) -> HttpResponse:
        return HttpResponse(str(request.user.is_authenticated))

    for middleware in (MIDDLEWARE, [OURS]):
        with project(
            path("it", user), guard=guard, middleware=middleware, OPTIONAL=True, USER=user_of
        ):
            assert call("/it").content == b"False"


def test_an_exception_of_the_hook_is_djangos_to_handle(guard: Guard, bearer: Bearer) -> None:
    from django.core.exceptions import PermissionDenied

    def fails(_principal: Principal) -> User:
        raise PermissionDenied

    def broken(_principal: Principal) -> User:
        raise RuntimeError("the hook failed")

    with project(path("it", who), guard=guard, USER=fails):
        assert Client().get("/it", headers=bearer()).status_code == 403
    with project(path("it", who), guard=guard, USER=broken):
        with pytest.raises(RuntimeError, match="the hook failed"):
            Client().get("/it", headers=bearer())
        assert Client(raise_request_exception=False).get("/it", headers=bearer()).status_code == 500


def test_a_hook_needs_authentication_middleware_above(guard: Guard) -> None:
    turned = [OURS, *MIDDLEWARE[:-1]]
    with (
        project(path("it", who), guard=guard, middleware=turned, USER=user_of),
        pytest.raises(ConfigurationError, match="move BearerMiddleware below it"),
    ):
        Client().get("/it")
    with project(path("it", who), guard=guard, middleware=turned):
        assert Client().get("/it").status_code == 401


def test_login_required_middleware_lets_a_mapped_user_pass(
    users: None, guard: Guard, call: Call, bearer: Bearer
) -> None:
    middleware = [*MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    with project(path("it", who), guard=guard, middleware=middleware, USER=user_of):
        assert call("/it", bearer(subject="ada")).content == b"ada"


def test_gzip_outside_compresses_what_is_guarded(guard: Guard, call: Call, bearer: Bearer) -> None:
    middleware = ["django.middleware.gzip.GZipMiddleware", OURS]
    with project(
        path("it", lambda _request: HttpResponse(b"x" * 5000)), guard=guard, middleware=middleware
    ):
        response = call("/it", {**bearer(), "Accept-Encoding": "gzip"})
        assert gzip.decompress(response.content).rstrip(b"\0") == b"x" * 5000
        assert "Access-Token-Expires-In" in response
        assert call("/it", {"Accept-Encoding": "gzip"}).json()["status"] == 401


def test_the_sites_cache_keeps_no_response_to_a_token(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    middleware = [
        "django.middleware.cache.UpdateCacheMiddleware",
        OURS,
        "django.middleware.cache.FetchFromCacheMiddleware",
    ]
    with project(path("it", who), guard=guard, middleware=middleware, OPTIONAL=True):
        for subject in ("ada", "bob"):
            assert call("/it", bearer(subject=subject)).content.decode() == subject
        assert call("/it").content.decode() == ANONYMOUS.identity


def test_error_handlers_of_the_project_are_not_called_for_a_refusal(
    guard: Guard, call: Call, bearer: Bearer
) -> None:
    class Handled:
        urlpatterns = (path("it", synchronous),)

        @staticmethod
        def handler404(_request: Any, exception: Exception) -> HttpResponse:
            return HttpResponse("mine", status=404)

        @staticmethod
        def handler403(_request: Any, exception: Exception) -> HttpResponse:
            return HttpResponseForbidden("mine")

    with project(guard=guard), override_settings(ROOT_URLCONF=Handled):
        assert call("/nowhere").status_code == 401
        missing = call("/nowhere", bearer())
        assert (missing.status_code, missing.content) == (404, b"mine")
        assert "Access-Token-Expires-In" in missing
        assert "WWW-Authenticate" in call("/it", bearer())


# Without a client


def test_a_request_of_the_factory_is_guarded_by_the_middleware(
    guard: Guard, bearer: Bearer
) -> None:
    with project(guard=guard):
        factory = RequestFactory(headers=bearer(scopes=["write"], subject="ada"))
        assert BearerMiddleware(synchronous)(factory.get("/it")).content == b"ada"
        assert BearerMiddleware(synchronous)(RequestFactory().get("/it")).status_code == 401
        request = AsyncRequestFactory().get("/it", headers=bearer(scopes=["write"]))
        response = asyncio.run(BearerMiddleware(asynchronous)(request))
        assert response.content == b"user"
        with pytest.raises(ConfigurationError, match=r"call BearerMiddleware\(view\)\(request\)"):
            synchronous(factory.get("/it"))


def test_misuse_is_named(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        require("read")  # type: ignore[arg-type]
    with pytest.raises(
        ConfigurationError, match=r"require\(\): Other is not a django\.views\.View"
    ):
        require_scopes("read")(type("Other", (), {}))
    with pytest.raises(ConfigurationError, match=r"token_not_required\(\): Other is not a"):
        token_not_required(type("Other", (), {}))
    with pytest.raises(ConfigurationError, match="takes no request"):
        require_scopes("read")(lambda: None)
    with pytest.raises(ConfigurationError, match="takes no request"):

        @require_scopes("read")
        def numbered(number: int) -> HttpResponse:
            return HttpResponse()

    with pytest.raises(ConfigurationError, match="must take its request"):
        require_scopes("read")(lambda *_args: HttpResponse())(7)
