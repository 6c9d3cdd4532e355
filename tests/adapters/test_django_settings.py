"""Django: what `settings.BEARERGUARD` may say, and what `manage.py check` finds."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.django_project import MIDDLEWARE, OURS, project

# isort: split
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import SystemCheckError
from django.http import HttpResponse
from django.test import Client, override_settings
from django.urls import include, path, re_path
from django.views import View

from bearerguard import ConfigurationError, Guard, Issuer, scopes
from bearerguard.django import BearerMiddleware, require_scopes, token_not_required
from bearerguard.django.protection import protection
from bearerguard.testing import LocalIssuer

ISSUER, AUDIENCE = "https://id.example.com", "https://api.example.com"
BASE = {"ISSUER": ISSUER, "AUDIENCE": AUDIENCE}
UPDATE, FETCH = (
    f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom")
)
LOGIN_REQUIRED = "django.contrib.auth.middleware.LoginRequiredMiddleware"
CORS = f"{__name__}.CorsMiddleware"

_local = LocalIssuer(algorithm="ES256")
a_guard = _local.guard()


def make_guard() -> Guard:
    return a_guard


def user_of(_principal: Any) -> None:
    return None


class CorsMiddleware:
    """Named as those of other packages are."""

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response

    def __call__(self, request: Any) -> Any:
        return self.get_response(request)


class Ours(BearerMiddleware):
    """A project's subclass."""


def view(_request: Any) -> HttpResponse:
    return HttpResponse("it")


@require_scopes("write")
def guarded(_request: Any) -> HttpResponse:
    return HttpResponse("it")


class Methods(View):
    @require_scopes("write")
    def post(self, _request: Any) -> HttpResponse:
        return HttpResponse("it")


@pytest.fixture(autouse=True)
def urls() -> Iterator[None]:
    with override_settings(ROOT_URLCONF=(path("it", view),), MIDDLEWARE=[OURS]):
        yield


ABSENT = "there is no such setting"
WRONG: list[tuple[Any, str]] = [
    ({}, 'BEARERGUARD["ISSUER"] is not set: give the issuer\'s URL'),
    ({"ISSUER": ISSUER}, 'BEARERGUARD["AUDIENCE"] is not set: give this API\'s identifiers'),
    (
        BASE | {"AUDENCE": "x"},
        f'BEARERGUARD["AUDENCE"]: {ABSENT}: BEARERGUARD["AUDIENCE"]',
    ),
    (
        BASE | {"issuer": "x"},
        f'BEARERGUARD["issuer"]: {ABSENT}: BEARERGUARD["ISSUER"]',
    ),
    (
        BASE | {"EXCLUDES": []},
        f'BEARERGUARD["EXCLUDES"]: {ABSENT}: BEARERGUARD["EXCLUDE"]',
    ),
    (
        BASE | {"COLOUR": 1},
        f'BEARERGUARD["COLOUR"]: {ABSENT}: remove it; there are ACCEPT',
    ),
    (BASE | {7: 1}, f'BEARERGUARD["7"]: {ABSENT}'),
    (BASE | {"SERVER_STORE": "x"}, f'BEARERGUARD["SERVER_STORE"]: {ABSENT}'),
    (BASE | {"EXCLUDE": "/health"}, 'BEARERGUARD["EXCLUDE"]: pass a list of paths'),
    (BASE | {"EXCLUDE": ["health"]}, 'BEARERGUARD["EXCLUDE"]: pass a list of paths'),
    (BASE | {"OPTIONAL": ["health"]}, 'BEARERGUARD["OPTIONAL"]: pass a list of paths'),
    (BASE | {"REQUIRE": "read"}, 'BEARERGUARD["REQUIRE"]: pass a requirement'),
    (BASE | {"PASS_PREFLIGHTS": 1}, 'BEARERGUARD["PASS_PREFLIGHTS"]: pass True or False'),
    (BASE | {"LEEWAY": "long"}, 'BEARERGUARD["LEEWAY"]: give a number of seconds'),
    (BASE | {"USER": "shop.users.user_of"}, "BEARERGUARD[\"USER\"]: No module named 'shop'"),
    (BASE | {"USER": 7}, 'BEARERGUARD["USER"]: give a function that takes a Principal'),
    ({"GUARD": f"{__name__}.nothing"}, 'BEARERGUARD["GUARD"]: Module'),
    ({"GUARD": "nothing"}, 'BEARERGUARD["GUARD"]: nothing doesn\'t look like a module path'),
    ({"GUARD": 7}, 'BEARERGUARD["GUARD"]: give a Guard'),
    (
        {"GUARD": f"{__name__}.view", "REALM": "x"},
        'BEARERGUARD["REALM"]: configure it on the guard of',
    ),
    ([], 'settings.BEARERGUARD: give a dict such as {"ISSUER"'),
    (None, "settings.BEARERGUARD: give a dict such as"),
]


@pytest.mark.parametrize(("given", "message"), WRONG)
def test_what_is_wrong_in_the_settings_is_named(given: Any, message: str) -> None:
    with override_settings(BEARERGUARD=given), pytest.raises(ConfigurationError) as caught:
        BearerMiddleware(view)
    assert str(caught.value).startswith(message)
    assert "BEARERGUARD_" not in str(caught.value)


def test_a_key_with_the_prefix_of_the_environment_is_quoted_as_given() -> None:
    given = {"ISSUER": ISSUER, "BEARERGUARD_AUDIENCE": "x"}
    with override_settings(BEARERGUARD=given), pytest.raises(ConfigurationError) as caught:
        BearerMiddleware(view)
    assert str(caught.value) == (
        f'BEARERGUARD["BEARERGUARD_AUDIENCE"]: {ABSENT}: BEARERGUARD["AUDIENCE"] is meant;'
        " rename it, or remove it"
    )


def test_an_app_without_the_settings_does_not_start() -> None:
    with pytest.raises(ConfigurationError, match=r"settings\.BEARERGUARD: give a dict such as"):
        Client().get("/it")
    with (
        override_settings(BEARER_GUARD=BASE),
        pytest.raises(ConfigurationError, match=r"settings\.BEARER_GUARD is there; rename it"),
    ):
        Client().get("/it")


def test_settings_as_an_environment_has_them_are_refused() -> None:
    with (
        override_settings(BEARERGUARD_ISSUER=ISSUER, BEARERGUARD_SERVER_STORE="sqlite://"),
        pytest.raises(ConfigurationError) as caught,
    ):
        BearerMiddleware(view)
    assert str(caught.value) == (
        'settings.BEARERGUARD_ISSUER: is not read: write BEARERGUARD = {"ISSUER": ...} instead'
    )


def test_every_name_of_the_environment_is_a_key() -> None:
    given = BASE | {"REALM": "shop", "TOKEN_TYPES": ["at+jwt", "JWT"], "ACCEPT_ID_TOKENS": True}
    with override_settings(BEARERGUARD=given):
        guard = protection().guard
    assert guard.realm == "shop"
    assert "id.example.com" in repr(guard)


@pytest.mark.parametrize(
    "given", [a_guard, make_guard, f"{__name__}.a_guard", f"{__name__}.make_guard"]
)
def test_a_guard_is_given_by_itself_a_function_or_a_path(given: Any) -> None:
    with override_settings(BEARERGUARD={"GUARD": given, "REQUIRE": scopes("read")}):
        token = {"Authorization": f"Bearer {_local.token(scopes=['read'])}"}
        assert Client().get("/it", headers=token).status_code == 200
        weak = {"Authorization": f"Bearer {_local.token()}"}
        assert Client().get("/it", headers=weak).status_code == 403


def test_there_is_one_guard_for_the_settings_in_force() -> None:
    other = LocalIssuer(audience=AUDIENCE)
    client = Client()
    with other.serve():
        with override_settings(BEARERGUARD={"ISSUER": other.url, "AUDIENCE": AUDIENCE}):
            token = {"Authorization": f"Bearer {other.token()}"}
            assert client.get("/it", headers=token).status_code == 200
            first = protection()
            assert protection() is first
            with override_settings(BEARERGUARD={"ISSUER": other.url, "AUDIENCE": "another"}):
                # The client has loaded its middleware before.
                assert client.get("/it", headers=token).status_code == 401
            assert client.get("/it", headers=token).status_code == 200
            assert protection() is not first
            assert protection().guard.health()["cached_tokens"] == 1
            kept = protection().guard
        # What was made of the settings is closed with them; a guard that was given is not.
        assert kept.health()["cached_tokens"] == 0
    with other.guard() as guard:
        token = {"Authorization": f"Bearer {other.token()}"}  # its url was another, served
        with override_settings(BEARERGUARD={"GUARD": guard}):
            assert client.get("/it", headers=token).status_code == 200
        assert guard.health()["cached_tokens"] == 1


# manage.py check


def check(*, deploy: bool = False) -> dict[str, str]:
    """Run the command; return what it says of ours, by id."""
    out = io.StringIO()
    try:
        call_command("check", "--tag", "security", *(["--deploy"] if deploy else []), stderr=out)
        text = out.getvalue()
    except SystemCheckError as error:
        text = str(error)
    lines = [line for line in text.splitlines() if "(bearerguard." in line]
    found = {}
    for line in lines:
        _, _, rest = line.partition("(bearerguard.")
        identity, _, message = rest.partition(") ")
        found[identity] = message
    assert len(found) == len(lines)
    return found


def test_a_project_as_the_page_has_it_has_nothing_to_report() -> None:
    with override_settings(BEARERGUARD=BASE, MIDDLEWARE=MIDDLEWARE):
        assert check() == {}
        assert check(deploy=True) == {}


def test_wrong_settings_are_reported_once() -> None:
    for given, message in WRONG:
        with override_settings(BEARERGUARD=given):
            found = check(deploy=True)
        assert set(found) == {"E001"}
        assert found["E001"].startswith(message)


def test_missing_middleware_is_reported(guard: Guard) -> None:
    with project(path("it", view), guard=guard, middleware=MIDDLEWARE[:-1]):
        assert "no view of Django is guarded" in check()["W001"]
    for each in (guarded, Methods.as_view()):
        inner = [path("<int:number>", each)]
        with project(path("api/", include(inner)), guard=guard, middleware=MIDDLEWARE[:-1]):
            assert f"{__name__}." in check()["E002"]
    with project(path("it", guarded), guard=guard, middleware=[f"{__name__}.Ours"]):
        assert check() == {}
    with project(guard=guard, middleware=[]), override_settings(ROOT_URLCONF=None):
        assert set(check()) == {"W001"}
    ours = ["bearerguard.django.rest_framework.BearerAuthentication"]
    with (
        project(path("it", view), guard=guard, middleware=[]),
        override_settings(REST_FRAMEWORK={"DEFAULT_AUTHENTICATION_CLASSES": ours}),
    ):
        assert check() == {}


def test_the_order_of_middleware_is_checked(guard: Guard) -> None:
    rows: list[tuple[list[str], dict[str, Any], set[str]]] = [
        ([OURS, *MIDDLEWARE[:-1]], {"USER": user_of}, {"E003"}),
        ([OURS, *MIDDLEWARE[:-1]], {}, set()),
        (MIDDLEWARE, {"USER": user_of}, set()),
        ([OURS, UPDATE, FETCH], {}, {"E004"}),
        ([UPDATE, OURS, FETCH], {}, set()),
        ([OURS, CORS], {}, {"W002"}),
        ([CORS, OURS], {}, set()),
        ([OURS, CORS], {"PASS_PREFLIGHTS": True}, set()),
        ([*MIDDLEWARE, LOGIN_REQUIRED], {}, {"W003"}),
        ([*MIDDLEWARE, LOGIN_REQUIRED], {"USER": user_of}, set()),
        ([OURS, "shop.middleware.Missing"], {}, set()),  # Django's to report
    ]
    for middleware, options, expected in rows:
        with project(path("it", view), guard=guard, middleware=middleware, **options):
            assert set(check()) == expected, (middleware, options)


def test_a_view_that_can_never_be_reached_is_reported(guard: Guard) -> None:
    exclude = ["/health", "/open/*"]
    inner = [path("<int:number>/", guarded), re_path("^other$", view)]
    with project(path("open/", include(inner)), guard=guard, EXCLUDE=exclude):
        assert check() == {
            "E005": f"{__name__}.guarded refuses every request: it has a requirement, and"
            ' BEARERGUARD["EXCLUDE"] leaves /open/<int:number>/ without authentication'
        }
    with project(path("health", Methods.as_view()), guard=guard, EXCLUDE=exclude):
        assert f"{__name__}.Methods refuses every request" in check()["E005"]
    with project(path("closed/", include(inner)), guard=guard, EXCLUDE=exclude):
        assert check() == {}


def test_a_path_without_the_slash_of_its_url_is_reported(guard: Guard) -> None:
    urls = (path("health/", view), path("status", view))
    for paths, expected in (
        (["/health", "/status"], {"W008"}),
        (["/health/", "/status", "/nowhere", "/heal*"], set()),
        (["/health", "/health/"], set()),  # so that Django's redirect needs no token
    ):
        for options in ({"EXCLUDE": paths}, {"OPTIONAL": paths}):
            with project(*urls, guard=guard, **options):
                found = check()
            assert set(found) == expected
            text = "has /health, which does not match the URL /health/"
            assert all(text in each for each in found.values())
    with project(*urls, guard=guard, OPTIONAL=True), override_settings(ROOT_URLCONF=None):
        assert check() == {}


def test_decorators_that_contradict_each_other_are_reported(guard: Guard) -> None:
    with project(path("it", token_not_required(guarded)), guard=guard):
        assert "marked with token_not_required() and has a requirement" in check()["W004"]
    with project(path("it", token_not_required(Methods).as_view()), guard=guard):
        assert check() == {}  # only one of its methods needs a token


def test_what_is_for_development_is_reported_before_deployment(guard: Guard) -> None:
    local = BASE | {"ISSUER": "http://127.0.0.1:8000"}
    insecure = BASE | {"ISSUER": "http://id.internal", "INSECURE_ALLOW_HTTP": True}
    for given, expected in ((local, {"W005"}), (insecure, {"W005", "W006"})):
        with override_settings(BEARERGUARD=given):
            assert check() == {}
            assert set(check(deploy=True)) == expected
    issuer = Issuer("http://id.internal", audience=AUDIENCE, insecure_allow_http=True)
    with override_settings(BEARERGUARD={"GUARD": Guard(issuer)}):
        assert set(check(deploy=True)) == {"W005", "W006"}
    with (
        override_settings(CORS_ALLOW_ALL_ORIGINS=True, CORS_ALLOW_CREDENTIALS=True),
        override_settings(BEARERGUARD=BASE),
    ):
        assert set(check(deploy=True)) == {"W007"}


def test_the_app_has_a_label_of_its_own() -> None:
    from django.apps import apps

    assert apps.get_app_config("bearerguard").name == "bearerguard.django"
    assert "bearerguard.django" in settings.INSTALLED_APPS


def test_nothing_of_a_configured_django_is_needed_to_import_it() -> None:
    """A module with views may be imported by tools that know no settings."""
    code = "import bearerguard.django, bearerguard.django.apps, bearerguard.django.checks"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
