"""REST framework: with the middleware and without, by its own test client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.django_project import OURS, project

# isort: split
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.http import Http404
from django.test.utils import override_settings
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from rest_framework import exceptions, serializers, status
from rest_framework.authentication import BasicAuthentication, SessionAuthentication
from rest_framework.decorators import (
    action,
    api_view,
    authentication_classes,
    permission_classes,
    throttle_classes,
)
from rest_framework.permissions import AllowAny, BasePermission, IsAdminUser, IsAuthenticated
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory, force_authenticate
from rest_framework.throttling import UserRateThrottle
from rest_framework.views import APIView
from rest_framework.views import exception_handler as default_handler
from rest_framework.viewsets import ViewSet

from bearerguard import ConfigurationError, Guard, Principal, role, scopes
from bearerguard.django.rest_framework import (
    BearerAuthentication,
    BearerUser,
    ClientRateThrottle,
    HasScopes,
    Requires,
    exception_handler,
)
from bearerguard.testing import LocalIssuer
from tests.adapters import challenges
from tests.adapters.tokens import bearer

Serve = Callable[..., APIClient]
HANDLER = "bearerguard.django.rest_framework.exception_handler"


class Guarded(APIView):
    authentication_classes: Any = (BearerAuthentication,)
    permission_classes: Any = (IsAuthenticated,)
    serializer_class = serializers.Serializer

    def get(self, request: Any) -> Response:
        return Response([str(request.user), request.auth.identity, request.principal.identity])


class Reading(Guarded):
    permission_classes = (HasScopes,)
    required_scopes = ("read", "more")


class Mapped(Guarded):
    permission_classes = (HasScopes,)
    required_scopes = {"GET": ["read"], "POST": ["write"], "DELETE": []}  # noqa: RUF012

    def post(self, request: Any) -> Response:
        return Response("posted")

    def delete(self, request: Any) -> Response:
        return Response("deleted")

    def put(self, request: Any) -> Response:
        return Response("put")


class Owner(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool("owner" in request.query_params)


class Either(Guarded):
    permission_classes = (
        Owner | HasScopes.of("a") | (HasScopes.of("b") & Requires(role("admin"))),
    )


class Both(Guarded):
    permission_classes = (HasScopes.of("a") & HasScopes.of("b"), ~Requires(scopes("banned")))


class Open(Guarded):
    permission_classes = (AllowAny,)

    def get(self, request: Any) -> Response:
        return Response([str(request.user), request.auth and request.auth.identity])


class Several(Open):
    authentication_classes = (BasicAuthentication, BearerAuthentication, SessionAuthentication)
    permission_classes = (IsAuthenticated,)


class SessionFirst(Open):
    authentication_classes = (SessionAuthentication, BearerAuthentication)
    permission_classes = (HasScopes.of("read"),)


@api_view(["GET"])
@authentication_classes([BearerAuthentication])
@permission_classes([HasScopes.of("read")])
def function(request: Any) -> Response:
    return Response(request.auth.identity)


@api_view(["GET"])
@authentication_classes([BearerAuthentication])
@permission_classes([AllowAny])
def raising(request: Any) -> Response:
    raise {
        "404": Http404(),
        "403": DjangoPermissionDenied(),
        "401": exceptions.NotAuthenticated(),
        "list": exceptions.NotAuthenticated(["no", "token"]),
        "500": ValueError("a bug"),
    }[request.query_params["status"]]


@api_view(["GET"])
@authentication_classes([])
@permission_classes([HasScopes.of("read")])
def unauthenticated(request: Any) -> Response:
    return Response(request.principal.identity)


class Recordings(ViewSet):
    authentication_classes = (BearerAuthentication,)
    permission_classes = (HasScopes,)
    required_scopes = {"list": ["read"], "create": ["write"]}  # noqa: RUF012
    serializer_class = serializers.Serializer

    def list(self, request: Any) -> Response:
        return Response("listed")

    def create(self, request: Any) -> Response:
        return Response("created")

    @action(detail=False, methods=["post"], permission_classes=[HasScopes.of("publish")])
    def publish(self, request: Any) -> Response:
        return Response("published")

    @action(detail=False, required_scopes=["export"])
    def export(self, request: Any) -> Response:
        return Response("exported")


@pytest.fixture(params=["with the middleware", "without the middleware"])
def serve(request: pytest.FixtureRequest, guard: Guard) -> Iterator[Serve]:
    """Serve views at /; return REST framework's own client."""
    open_now: list[Any] = []
    middleware = [OURS] if request.param.startswith("with the") else []

    def at_root(view: Any, *, handler: str = HANDLER, **options: Any) -> APIClient:
        view = view.as_view() if hasattr(view, "as_view") else view
        used = options.pop("guard", guard)
        framework = override_settings(
            REST_FRAMEWORK={"EXCEPTION_HANDLER": handler, **options.pop("framework", {})}
        )
        whole = project(path("", view), guard=used, middleware=middleware, **options)
        for each in (framework, whole):
            each.__enter__()
            open_now.append(each)
        return APIClient(raise_request_exception=False)

    yield at_root
    for each in reversed(open_now):
        each.__exit__(None, None, None)


def challenge(response: Any) -> str:
    value: str = response.headers["WWW-Authenticate"]
    return value


# Authentication


def test_a_view_has_the_principal_as_auth_and_its_user(serve: Serve, issuer: LocalIssuer) -> None:
    response = serve(Guarded).get("/", headers=bearer(issuer, subject="ada"))
    assert (response.status_code, response.json()) == (200, ["ada", "ada", "ada"])


def test_a_request_without_a_token_is_401_with_the_challenge(serve: Serve) -> None:
    refused = serve(Guarded).get("/")
    assert refused.status_code == 401
    assert challenge(refused) == challenges.bearer()
    assert refused.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("header", "status_code", "error"),
    [("Bearer a.b.c", 401, "invalid_token"), ("Bearer", 400, "invalid_request")],
)
def test_a_malformed_token_is_refused_also_where_none_is_needed(
    header: str, status_code: int, error: str, serve: Serve
) -> None:
    refused = serve(Open).get("/", headers={"Authorization": header})
    assert refused.status_code == status_code
    assert f'error="{error}"' in challenge(refused)
    assert refused.json()["error"] == error


def test_an_unavailable_issuer_is_503(serve: Serve, issuer: LocalIssuer) -> None:
    down = LocalIssuer(issuer.url, algorithm="ES256")
    down.outage = True
    with down.guard() as guard:
        refused = serve(Guarded, guard=guard).get("/", headers=bearer(issuer))
    assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
    assert "WWW-Authenticate" not in refused.headers


def test_what_every_request_needs_is_needed_here_too(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Reading, REQUIRE=scopes("all"))
    refused = client.get("/", headers=bearer(issuer, "read"))
    assert refused.status_code == 403
    assert 'scope="all' in challenge(refused)
    refused = client.get("/", headers=bearer(issuer, "all"))
    assert 'scope="all read more"' in challenge(refused)


def test_a_token_is_validated_once(serve: Serve, issuer: LocalIssuer) -> None:
    asked: list[str] = []
    own = LocalIssuer(issuer.url, algorithm="ES256")

    def event(event: Any) -> None:
        asked.append(event.code)

    with own.guard(on_event=event) as guard:
        client = serve(Guarded, guard=guard)
        assert client.get("/", headers=bearer(own)).status_code == 200
        asked.clear()
        client.get("/", headers={"Authorization": "Bearer a.b.c"})
    assert asked == ["malformed_token"]


def test_a_path_that_the_settings_leave_out_has_no_principal(
    serve: Serve, issuer: LocalIssuer
) -> None:
    client = serve(Open, EXCLUDE=["/"])
    assert client.get("/", headers=bearer(issuer)).json() == ["AnonymousUser", None]
    assert client.get("/", headers={"Authorization": "Bearer a.b.c"}).status_code == 200


# Permissions


def test_all_scopes_of_a_view_are_needed_and_named(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Reading)
    assert client.get("/", headers=bearer(issuer, "read", "more")).status_code == 200
    refused = client.get("/", headers=bearer(issuer, "read"))
    assert refused.status_code == 403
    assert 'error="insufficient_scope"' in challenge(refused)
    assert 'scope="read more"' in challenge(refused)
    assert refused.json()["scope"] == "read more"
    assert "Access-Token-Expires-In" in refused.headers
    assert client.get("/").status_code == 401


def test_scopes_may_be_given_by_method(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Mapped)
    reader, writer = bearer(issuer, "read"), bearer(issuer, "write")
    assert client.get("/", headers=reader).status_code == 200
    assert client.head("/", headers=reader).status_code == 200
    assert client.post("/", headers=reader).status_code == 403
    assert client.post("/", headers=writer).json() == "posted"
    assert client.delete("/", headers=bearer(issuer)).json() == "deleted"
    assert client.delete("/").status_code == 401
    assert client.patch("/", headers=reader).status_code == 405
    assert client.options("/", headers=reader).status_code == 200
    assert client.put("/", headers=writer).status_code == 500  # a mistake of the view's


@pytest.mark.parametrize(
    ("place", "granted", "status_code"),
    [("/?owner", (), 200), ("/", ("a",), 200), ("/", (), 403), ("/", ("b",), 403)],
)
def test_permissions_combine(
    place: str, granted: tuple[str, ...], status_code: int, serve: Serve, issuer: LocalIssuer
) -> None:
    response = serve(Either).get(place, headers=bearer(issuer, *granted))
    assert response.status_code == status_code
    assert ('scope="a"' in response.headers.get("WWW-Authenticate", "")) is (status_code == 403)


def test_both_sides_of_a_combination_are_named(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Both)
    assert client.get("/", headers=bearer(issuer, "a", "b")).status_code == 200
    assert 'scope="a b"' in challenge(client.get("/", headers=bearer(issuer, "a")))
    banned = client.get("/", headers=bearer(issuer, "a", "b", "banned"))
    assert banned.status_code == 403
    assert "WWW-Authenticate" not in banned.headers  # no scope would change it


def test_a_missing_role_names_no_scope(serve: Serve, issuer: LocalIssuer) -> None:
    class Admins(Guarded):
        permission_classes = (Requires(role("admin")),)

    client = serve(Admins)
    token = issuer.token(roles=["admin"])
    admin = {"Authorization": f"Bearer {token}"}
    assert client.get("/", headers=admin).status_code == 200
    refused = client.get("/", headers=bearer(issuer))
    assert (refused.status_code, challenge(refused)) == (403, challenges.bearer())


def test_function_views_are_guarded(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(function)
    assert client.get("/", headers=bearer(issuer, "read")).json() == "user"
    assert 'scope="read"' in challenge(client.get("/", headers=bearer(issuer)))
    assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    ("method", "name", "needed"),
    [
        ("get", "list", "read"),
        ("post", "create", "write"),
        ("post", "publish", "publish"),
        ("get", "export", "export"),
    ],
)
def test_the_actions_of_a_view_set_have_their_own_scopes(
    method: str, name: str, needed: str, serve: Serve, issuer: LocalIssuer
) -> None:
    found: Any = getattr(Recordings, name)
    client = serve(Recordings.as_view({method: name}, **getattr(found, "kwargs", {})))
    call = getattr(client, method)
    assert call("/", headers=bearer(issuer, needed)).status_code == 200
    refused = call("/", headers=bearer(issuer, "other"))
    assert refused.status_code == 403
    assert f'scope="{needed}"' in challenge(refused)
    assert client.options("/", headers=bearer(issuer)).status_code == (
        200 if needed in {"read", "write"} else 403
    )
    assert client.patch("/", headers=bearer(issuer, needed)).status_code == 405


def test_a_view_without_required_scopes_is_a_named_mistake(guard: Guard) -> None:
    class Forgetful(Guarded):
        permission_classes = (HasScopes,)

    class Text(Forgetful):
        required_scopes = "read"

    request = APIRequestFactory().get("/")
    force_authenticate(request, token=Principal(issuer="https://id.test"))
    with project(guard=guard):
        for view in (Forgetful, Text):
            with pytest.raises(ConfigurationError, match=f"set required_scopes of {view.__name__}"):
                view.as_view()(request)
    with pytest.raises(ConfigurationError, match="pass a requirement"):
        Requires("read")  # type: ignore[arg-type]


# Other authentication classes, other handlers


def test_other_credentials_are_left_to_other_classes(issuer: LocalIssuer, guard: Guard) -> None:
    with project(path("", Several.as_view()), guard=guard, middleware=[]), _handler(HANDLER):
        client = APIClient()
        assert client.get("/", headers=bearer(issuer)).json() == ["user", "user"]
        missing = client.get("/")
        assert missing.status_code == 401
        assert challenge(missing) == f'Basic realm="api", {challenges.bearer()}'
        # REST framework's: the first class alone has a say in the status.
    with project(path("", SessionFirst.as_view()), guard=guard, middleware=[]), _handler(HANDLER):
        refused = client.get("/", headers={"Authorization": "Bearer a.b.c"})
        assert (refused.status_code, "invalid_token" in challenge(refused)) == (401, True)
        missing = client.get("/")
        assert (missing.status_code, challenge(missing)) == (
            401,
            challenges.bearer("read"),
        )


def test_a_session_is_no_token(guard: Guard) -> None:
    with project(path("", SessionFirst.as_view()), guard=guard, middleware=[]), _handler(HANDLER):
        client = APIClient()
        client.force_authenticate(User(username="ada"))
        refused = client.get("/")
        assert (refused.status_code, refused.headers.get("WWW-Authenticate")) == (403, None)


def test_without_our_handler_401_has_the_challenge(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Reading, handler="rest_framework.views.exception_handler", OPTIONAL=True)
    missing = client.get("/")
    assert (missing.status_code, challenge(missing)) == (
        401,
        challenges.bearer("read more"),
    )
    malformed = client.get("/", headers={"Authorization": "Bearer a.b.c"})
    assert 'error="invalid_token"' in challenge(malformed)
    strict = serve(Reading, handler="rest_framework.views.exception_handler", REQUIRE=scopes("all"))
    assert 'scope="all"' in challenge(strict.get("/", headers=bearer(issuer)))


@pytest.mark.parametrize(
    ("code", "status_code", "has_challenge"),
    [
        ("404", 404, False),
        ("403", 403, False),
        ("401", 401, True),
        ("list", 401, True),
        ("500", 500, False),
    ],
)
def test_what_a_view_raises_stays_its_own(
    code: str, status_code: int, has_challenge: bool, serve: Serve, issuer: LocalIssuer
) -> None:
    response = serve(raising).get(f"/?status={code}", headers=bearer(issuer))
    assert response.status_code == status_code
    assert ("WWW-Authenticate" in response.headers) is has_challenge


def test_a_handler_of_the_projects_own_may_call_ours(serve: Serve) -> None:
    refused = serve(Guarded, handler=f"{__name__}.own_handler", OPTIONAL=True).get("/")
    assert refused.json()["own"] is True
    assert challenge(refused) == challenges.bearer()
    assert exception_handler(exceptions.NotFound(), {}).status_code == 404
    assert default_handler(exceptions.NotFound(), {}).status_code == 404


def own_handler(exc: Exception, context: Any) -> Any:
    response = exception_handler(exc, context)
    response.data["own"] = True
    return response


def test_a_response_of_optional_paths_varies(serve: Serve) -> None:
    refused = serve(Guarded, OPTIONAL=True).get("/")
    assert "Authorization" in refused.headers["Vary"]


def test_a_view_behind_the_middleware_needs_no_authentication_class(
    guard: Guard, issuer: LocalIssuer
) -> None:
    with project(path("", unauthenticated), guard=guard), _handler(HANDLER):
        client = APIClient()
        assert client.get("/", headers=bearer(issuer, "read")).json() == "user"
        refused = client.get("/", headers=bearer(issuer))
        assert (refused.status_code, 'scope="read"' in challenge(refused)) == (403, True)


# Users


def user_of(principal: Principal) -> Any:
    return User.objects.filter(username=principal.subject).first()


@pytest.mark.usefixtures("users")
def test_a_principal_may_be_a_user_of_django(serve: Serve, issuer: LocalIssuer) -> None:
    class Users(Guarded):
        def get(self, request: Any) -> Response:
            return Response([type(request.user).__name__, request.user.username])

    client = serve(Users, USER=user_of)
    ada = client.get("/", headers=bearer(issuer, subject="ada"))
    assert ada.json() == ["User", "ada"]
    for unknown in ("bob", "eve"):
        refused = client.get("/", headers=bearer(issuer, subject=unknown))
        assert refused.status_code == 403
        assert challenge(refused) == challenges.bearer()
    assert client.get("/").status_code == 401


@pytest.mark.usefixtures("users")
def test_a_user_who_is_refused_stays_refused_if_the_request_is_authenticated_again(
    guard: Guard, issuer: LocalIssuer
) -> None:
    request = APIRequestFactory().get("/", headers=bearer(issuer, subject="eve"))
    with project(guard=guard, middleware=[], USER=user_of), _handler(HANDLER):
        for _ in range(2):
            assert Open.as_view()(request).status_code == 403
            assert request.principal.is_authenticated is False


@pytest.mark.usefixtures("users")
@pytest.mark.parametrize("error", [Http404, DjangoPermissionDenied, KeyError])
def test_a_caller_whose_user_cannot_be_found_stays_refused_at_a_second_look(
    error: type[Exception], guard: Guard, issuer: LocalIssuer
) -> None:
    seen: list[Any] = []

    def failing(_: Principal) -> Any:
        raise error

    class Described(Open):
        def handle_exception(self, exc: Exception) -> Any:
            # As the page of the browsable API does, to know which forms the caller may send.
            seen.append((self.request.user.is_authenticated, self.request.auth))
            return super().handle_exception(exc)

    request = APIRequestFactory().get("/", headers=bearer(issuer))
    with project(guard=guard, middleware=[], USER=failing), _handler(HANDLER):
        if error is KeyError:
            with pytest.raises(KeyError):
                Described.as_view()(request)
        else:
            assert Described.as_view()(request).status_code in {403, 404}
    assert seen == [(False, None)]
    assert request.principal.is_authenticated is False
    assert request.csrf_processing_done is False


def test_a_bearer_user_is_a_user_without_rights(issuer: LocalIssuer, guard: Guard) -> None:
    one, same, other = (
        BearerUser(guard.verify(issuer.token(subject=name))) for name in ("ada", "ada", "bob")
    )
    assert one == same
    assert one != other
    assert one != "ada"
    assert len({one, same, other}) == 2
    assert one.id == one.pk
    assert (str(one), one.username, one.get_username()) == ("ada", "ada", "ada")
    assert (one.is_authenticated, one.is_staff, one.is_anonymous) == (True, False, False)
    assert not one.has_perm("auth.add_user")
    assert not one.has_perms(["auth.add_user"])
    assert one.has_perms([])
    assert not one.has_module_perms("auth")


def test_a_client_is_no_user_of_the_same_name() -> None:
    def of(**names: Any) -> BearerUser:
        return BearerUser(Principal(issuer="https://id.test", **names))

    assert of(subject="ada") == of(subject="ada", client_id="app")
    assert of(subject="ada") != of(client_id="ada")
    assert of(subject="None") != of()
    assert of(token_id="a") != of(token_id="b")
    # Nor do they share a rate.
    throttle = ClientRateThrottle.__new__(ClientRateThrottle)
    request: Any = APIRequestFactory().get("/")
    keys = set[str]()
    for user in (of(client_id="ada"), of(subject="ada"), of(client_id="ada", subject="b")):
        request.auth, request.user = user.principal, user
        keys.add(throttle.get_cache_key(request, None))
    assert len(keys) == 2


def test_a_bearer_user_is_no_admin(serve: Serve, issuer: LocalIssuer) -> None:
    class Admins(Guarded):
        permission_classes = (IsAdminUser,)

    assert serve(Admins).get("/", headers=bearer(issuer)).status_code == 403


# Tests of users' own


def test_force_authenticate_works(serve: Serve) -> None:
    class Passed(Reading):
        def get(self, request: Any) -> Response:
            return Response(str(request.user))

    client = serve(Passed)
    reader = Principal(issuer="https://id.test", subject="ada", scopes={"read", "more"})
    for forced in ({"token": reader}, {"user": reader}, {"user": BearerUser(reader)}):
        client.force_authenticate(**forced)
        assert client.get("/").status_code == 200
    client.force_authenticate(user=User(username="eve"), token=reader)
    assert client.get("/").json() == "eve"
    client.force_authenticate(user=User(username="ada"))
    assert client.get("/").status_code == 403
    client.handler._force_user = client.handler._force_token = None
    assert client.get("/").status_code == 401


def test_credentials_of_the_client_work(serve: Serve, issuer: LocalIssuer) -> None:
    client = serve(Reading)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {issuer.token(scopes=['read', 'more'])}")
    assert client.get("/").status_code == status.HTTP_200_OK


# Throttling


@pytest.fixture
def empty_cache() -> Iterator[None]:
    cache.clear()
    yield
    cache.clear()


@pytest.mark.usefixtures("empty_cache")
def test_each_client_has_its_own_rate(serve: Serve, issuer: LocalIssuer) -> None:
    class Twice(ClientRateThrottle):
        rate = "2/hour"

    class Limited(Open):
        throttle_classes = (Twice,)

    client = serve(Limited, OPTIONAL=True)
    one = [bearer(issuer, client_id="one", subject=name) for name in ("ada", "bob", "eve")]
    assert [client.get("/", headers=each).status_code for each in one] == [200, 200, 429]
    assert client.get("/", headers=bearer(issuer, client_id="two")).status_code == 200
    assert [client.get("/").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.usefixtures("empty_cache")
def test_the_throttles_of_rest_framework_work(serve: Serve, issuer: LocalIssuer) -> None:
    class Once(UserRateThrottle):
        rate = "1/hour"

    @api_view(["GET"])
    @authentication_classes([BearerAuthentication])
    @throttle_classes([Once])
    def limited(request: Any) -> Response:
        return Response("passed")

    client = serve(limited)
    ada = bearer(issuer, subject="ada")
    assert [client.get("/", headers=ada).status_code for _ in range(2)] == [200, 429]
    assert client.get("/", headers=bearer(issuer, subject="bob")).status_code == 200


# OpenAPI


def test_openapi_names_the_issuer_and_each_views_scopes(guard: Guard, issuer: LocalIssuer) -> None:
    patterns = [
        path("function/", function),
        path("open/", Open.as_view()),
        path("mapped/", Mapped.as_view(http_method_names=["get", "post", "delete"])),
        path("recordings/", Recordings.as_view({"get": "list", "post": "create"})),
    ]
    framework = {"DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema"}
    with (
        project(*patterns, guard=guard, REQUIRE=scopes("all")),
        override_settings(REST_FRAMEWORK=framework),
        pytest.MonkeyPatch.context() as patch,
    ):
        from drf_spectacular.openapi import AutoSchema

        for view in (function.cls, Open, Mapped, Recordings):
            patch.setattr(view, "schema", AutoSchema())
        schema = SchemaGenerator(patterns=patterns).get_schema(public=True)
    url = f"{issuer.url}/.well-known/openid-configuration"
    assert schema["components"]["securitySchemes"] == {
        "bearer": {"type": "openIdConnect", "openIdConnectUrl": url}
    }

    def security(place: str, method: str = "get") -> Any:
        return schema["paths"][place][method]["security"]

    assert security("/function/") == [{"bearer": ["all", "read"]}]
    assert security("/open/") == [{"bearer": ["all"]}, {}]
    assert security("/mapped/", "post") == [{"bearer": ["all", "write"]}]
    assert security("/mapped/", "delete") == [{"bearer": ["all"]}]
    assert security("/recordings/") == [{"bearer": ["all", "read"]}]
    assert security("/recordings/", "post") == [{"bearer": ["all", "write"]}]


def test_drf_spectacular_need_not_be_there(guard: Guard) -> None:
    with override_settings(INSTALLED_APPS=["rest_framework", "bearerguard.django"]):
        pass  # the apps are made ready
    with project(path("", Guarded.as_view()), guard=guard):
        assert APIClient().get("/").status_code == 401


def _handler(name: str) -> Any:
    return override_settings(REST_FRAMEWORK={"EXCEPTION_HANDLER": name})
