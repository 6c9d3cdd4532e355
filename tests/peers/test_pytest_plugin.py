"""The pytest plugin in projects of its users, with the plugins that they use beside it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.user_suites import passing, run_pytest

APP = """
from bearerguard import Guard, Issuer

guard = Guard(Issuer("https://id.example.com", audience="https://api.example.com"))


def get_guard():
    return guard
"""
PROJECT = """
[tool.pytest.ini_options]
pythonpath = ["."]
bearerguard_guard = "app:guard"
addopts = ["--strict-markers", "--strict-config"]
filterwarnings = ["error"]
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a guard, and with its strictest settings."""
    (tmp_path / "app.py").write_text(APP)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


DJANGO = """
import os

SECRET_KEY = "for tests alone"
ROOT_URLCONF = "project"
ALLOWED_HOSTS = ["testserver"]
INSTALLED_APPS = ["rest_framework", "bearerguard.django"]
MIDDLEWARE = ["bearerguard.django.BearerMiddleware"]
BEARERGUARD = {"ISSUER": "https://id.example.com", "AUDIENCE": "https://api.example.com"}
REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["bearerguard.django.rest_framework.BearerAuthentication"],
    "UNAUTHENTICATED_USER": None,
    "EXCEPTION_HANDLER": "bearerguard.django.rest_framework.exception_handler",
}

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project")

import django

django.setup()

from django.http import JsonResponse
from django.urls import path
from ninja import NinjaAPI
from rest_framework.decorators import api_view, permission_classes
from rest_framework.response import Response

from bearerguard.django import require_scopes
from bearerguard.django.rest_framework import HasScopes
from bearerguard.ninja import BearerAuth


@require_scopes("read")
def view(request):
    return JsonResponse({"for": request.principal.subject})


async def async_view(request):
    return JsonResponse({"for": request.principal.subject})


@api_view()
@permission_classes([HasScopes.of("read")])
def drf_view(request):
    return Response({"for": request.auth.subject})


api = NinjaAPI(auth=BearerAuth())


@api.get("/recordings")
def recordings(request):
    return {"for": request.auth.subject}


urlpatterns = [
    path("view", view),
    path("async", async_view),
    path("drf", drf_view),
    path("api/", api.urls),
]
"""
DJANGO_TESTS = """
import asyncio

import project
import pytest
from django.test import AsyncClient, Client, RequestFactory, SimpleTestCase
from ninja.testing import TestClient
from rest_framework.test import APIClient

from bearerguard.testing import acting_as, trusted


def test_the_client(bearerguard_issuer):
    client = Client()
    with acting_as(client, scopes=["read"], subject="ada"):
        for path in ("/view", "/drf", "/api/recordings"):
            assert client.get(path).json() == {"for": "ada"}
    with acting_as(client, scopes=["write"]):
        assert client.get("/view").status_code == client.get("/drf").status_code == 403
    assert client.get("/view").status_code == 401


def test_the_async_client(bearerguard_issuer):
    client = AsyncClient()
    with acting_as(client, subject="ada"):
        assert asyncio.run(client.get("/async")).json() == {"for": "ada"}
    assert asyncio.run(client.get("/async")).status_code == 401


def test_the_client_of_drf(bearerguard_issuer):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION="Bearer of-before", HTTP_X="kept")
    assert client.get("/drf").status_code == 401
    with acting_as(client, scopes=["read"], subject="ada"):
        assert client.get("/drf").json() == {"for": "ada"}
    assert client._credentials == {"HTTP_AUTHORIZATION": "Bearer of-before", "HTTP_X": "kept"}


def test_the_client_of_ninja(bearerguard_issuer):
    client = TestClient(project.api)
    with acting_as(client, subject="ada"):
        assert client.get("/recordings").json() == {"for": "ada"}
    assert client.get("/recordings").status_code == 401


def test_a_request_factory(bearerguard_issuer, bearerguard_guard):
    factory = RequestFactory()
    with acting_as(factory, subject="ada"):
        authorization = factory.get("/view").headers["Authorization"]
    assert bearerguard_guard.verify(authorization.removeprefix("Bearer ")).subject == "ada"


def test_time_and_faults(bearerguard_issuer):
    client = Client()
    with acting_as(client, scopes=["read"], expires_in=600):
        with bearerguard_issuer.failing(outage=True):
            assert client.get("/view").status_code == 503
        bearerguard_issuer.clock.advance(60)
        assert 500 < int(client.get("/view").headers["Access-Token-Expires-In"]) <= 540
        bearerguard_issuer.clock.advance(600)
        assert client.get("/view").status_code == 401


class OfDjango(SimpleTestCase):
    def test_a_test_case_of_django(self):
        self.enterContext(trusted())
        self.enterContext(acting_as(self.client, scopes=["read"], subject="ada"))
        assert self.client.get("/view").json() == {"for": "ada"}
"""


def test_the_clients_of_django_and_its_frameworks_send_a_genuine_token(project: Path) -> None:
    (project / "pyproject.toml").write_text(PROJECT.replace('bearerguard_guard = "app:guard"', ""))
    (project / "project.py").write_text(DJANGO)
    (project / "test_project.py").write_text(DJANGO_TESTS)
    assert "7 passed" in passing(project, "-W", "default")


ASYNC = """
import anyio
import pytest

from app import guard
from bearerguard.testing import acting_as


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request):
    return request.param


@pytest.fixture
async def ready(bearerguard_issuer):
    yield await guard.averify(bearerguard_issuer.token())


@pytest.mark.anyio
async def test_a_guard_is_used_in_the_loop(ready, bearerguard_issuer):
    assert ready.subject == "user"
    bearerguard_issuer.delay = 0.01
    bearerguard_issuer.rotate()
    async with anyio.create_task_group() as group:
        for _ in range(3):
            group.start_soon(guard.averify, bearerguard_issuer.token())
"""


def test_fixtures_work_in_async_tests_on_asyncio_and_trio(project: Path) -> None:
    (project / "test_async.py").write_text(ASYNC)
    assert "2 passed" in passing(project)


MANY = """
import pytest

from app import guard


@pytest.mark.bearerguard
@pytest.mark.parametrize("number", range(40))
def test_each(number, bearerguard_issuer, bearerguard_guard):
    assert bearerguard_guard is guard
    assert guard.health()["cached_tokens"] == 0
    assert guard.verify(bearerguard_issuer.token(subject=str(number))).subject == str(number)
"""


def test_workers_of_xdist_have_issuers_of_their_own(project: Path) -> None:
    (project / "test_many.py").write_text(MANY)
    assert "40 passed" in passing(project, "-n", "2")


@pytest.mark.parametrize("name", ["app", "app:guard", "app:get_guard()"])
def test_the_guard_is_named_by_a_module_or_a_name_in_it(project: Path, name: str) -> None:
    (project / "pyproject.toml").write_text(PROJECT.replace("app:guard", name))
    (project / "test_many.py").write_text(MANY)
    assert "1 passed" in passing(project, "test_many.py::test_each[7]")


def test_a_misspelt_guard_is_an_error_that_says_so(project: Path) -> None:
    (project / "pyproject.toml").write_text(PROJECT.replace("app:guard", "app:gaurd"))
    (project / "test_many.py").write_text(MANY)
    done = run_pytest(project, "-x")
    assert done.returncode != 0
    assert "bearerguard_guard = app:gaurd: app has no 'gaurd': check the name" in done.stdout


def test_the_fixtures_and_the_marker_are_described(project: Path) -> None:
    described = passing(project, "--fixtures", "-q") + passing(project, "--markers", "-q")
    for name in ("bearerguard_issuer", "bearerguard_guard", "bearerguard_options"):
        assert name in described
    assert "@pytest.mark.bearerguard(**options)" in described


def test_a_test_that_reaches_for_the_network_fails_here(project: Path) -> None:
    """The other tests of this file would pass in vain without it."""
    (project / "test_network.py").write_text(
        "import socket\n\n"
        "def test_it():\n"
        "    socket.create_connection(('192.0.2.1', 443), timeout=5)\n"
    )
    done = run_pytest(project)
    assert "a test connects to 192.0.2.1" in done.stdout
