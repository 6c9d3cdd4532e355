"""The page about Django, followed literally in an empty folder: its files, and its commands."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest

from bearerguard.django import checks
from tests.docs.pages import ROOT
from tests.processes import free_port, program

PAGE = ROOT / "docs" / "django.md"
_STEP = re.compile(
    r"^```\{code-block\} python\n:caption: (?P<file>[\w/.]+)(?P<end>, at the end)?\n\n"
    r"(?P<text>.*?)^```$"
    r"|^```console\n(?P<console>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)


MORE_URLS = """
from mysite import api

urlpatterns += [
    path("api/recordings", api.Recordings.as_view()),
    path("api/recordings/<int:number>", api.recording),
    path("api/uploads", api.Uploads.as_view()),
    path("api/old", api.OldUploads.as_view()),
    path("api/status", api.status),
]
"""
MORE_TESTS = """
from django.contrib.auth.models import User
from django.test import TestCase

from bearerguard.testing import acting_as, trusted
from mysite.requests import GuardedRequest


class MoreTests(TestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(trusted())

    def status(self, path, method="GET", **options):
        with acting_as(self.client, subject="ada", **options):
            return self.client.generic(method, path).status_code

    def test_views(self):
        self.assertEqual(self.client.get("/api/status").status_code, 200)
        self.assertEqual(self.status("/api/status"), 403)  # there is no such user
        User.objects.create_user("ada")
        self.assertEqual(self.status("/api/status"), 200)
        for path in ("/api/recordings", "/api/recordings/7"):
            self.assertEqual(self.status(path, scopes=["read"]), 200)
            self.assertEqual(self.status(path), 403)
        for path in ("/api/uploads", "/api/old"):
            self.assertEqual(self.status(path, scopes=["write"]), 200)
            self.assertEqual(self.status(path, scopes=["read"]), 403)
        self.assertEqual(self.status("/api/recordings", "POST", roles=["admin"]), 201)

    def test_types(self):
        self.assertEqual(list(GuardedRequest.__annotations__), ["principal"])
"""


class Reader:
    """Whoever follows the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, file: str, text: str, *, at_the_end: bool) -> None:
        path = self.folder / file
        before = path.read_text() if at_the_end else ""
        path.write_text(before + text)

    def run(self, command: str) -> str:
        done = subprocess.run(
            shlex.split(command),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout + done.stderr

    def serve_and_fetch(self, path: str, expected: list[str]) -> None:
        """Run the server as `runserver` does, on a free port, and send what curl sends."""
        port = free_port()
        command = ["python", "manage.py", "runserver", "--noreload", str(port)]
        with program(command, cwd=self.folder, environ={"PYTHONUNBUFFERED": "1"}) as server:
            server.wait_for_port(port)
            response = httpx2.get(f"http://127.0.0.1:{port}{path}")
        status, *headers = expected
        assert status.split()[1] == str(response.status_code)
        for line in headers:
            name, _, value = line.partition(": ")
            assert response.headers[name] == value


class Step(NamedTuple):
    """A file to write, or commands to run with what they print."""

    file: str | None
    at_the_end: bool
    text: str


def steps(page: Path) -> Iterator[Step]:
    for match in _STEP.finditer(page.read_text()):
        text = match["text"] if match["file"] else match["console"]
        yield Step(match["file"], match["end"] is not None, text)


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reader:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:/usr/bin:/bin")
    return Reader(tmp_path)


def follow(page: Path, reader: Reader) -> list[str]:
    """Write the files of a page and run its commands; return the commands."""
    ran = []
    for step in steps(page):
        if step.file is not None:
            reader.write(step.file, step.text, at_the_end=step.at_the_end)
            continue
        for command in re.findall(r"^\$ (.*)$", step.text, re.MULTILINE):
            ran.append(command)
            if command.startswith("cd "):
                reader.folder /= command.removeprefix("cd ")
            elif command.startswith("curl "):
                path = command.partition("127.0.0.1:8000")[2]
                reader.serve_and_fetch(path, step.text.splitlines()[1:])
            elif not command.startswith(("pip ", "python manage.py runserver")):
                reader.run(command)
    return ran


def test_the_page_works_in_an_empty_folder(reader: Reader) -> None:
    assert len(follow(PAGE, reader)) == 7
    # What the page has after its tests.
    reader.write("mysite/urls.py", MORE_URLS, at_the_end=True)
    reader.write("mysite/more_tests.py", MORE_TESTS, at_the_end=False)
    assert "no issues" in reader.run("python manage.py check")
    assert "OK" in reader.run("python manage.py test mysite.more_tests")
    _, expected = re.split(r"^```text\n", PAGE.read_text(), maxsplit=1, flags=re.MULTILINE)
    reader.write("mysite/settings.py", 'del BEARERGUARD["AUDIENCE"]\n', at_the_end=True)
    done = subprocess.run(
        ["python", "manage.py", "check"],
        cwd=reader.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert expected.partition("\n")[0] in done.stderr.splitlines()


MORE_OF_REST_FRAMEWORK = """
REST_FRAMEWORK["EXCEPTION_HANDLER"] = "mysite.errors.handle"
"""
MORE_URLS_OF_REST_FRAMEWORK = """
from drf_spectacular.views import SpectacularJSONAPIView

from mysite.more_views import Uploads

router.register("uploads", Uploads, basename="uploads")
urlpatterns = [
    *router.urls,
    path("newest/", views.newest),
    path("health/", views.health),
    path("schema/", SpectacularJSONAPIView.as_view(permission_classes=[])),
]
"""
MORE_TESTS_OF_REST_FRAMEWORK = """
from mysite.tests import RecordingsTests, bearer


class MoreTests(RecordingsTests):
    def test_uploads(self):
        for options, status in (
            ({"roles": ["admin"]}, 201),
            ({"scopes": ["write"]}, 201),
            ({}, 403),
        ):
            response = self.client.post("/uploads/", headers=bearer(**options))
            self.assertEqual(response.status_code, status)
        exported = self.client.get("/uploads/export/", headers=bearer(scopes=["export"]))
        self.assertEqual(exported.status_code, 200)
        refused = self.client.get("/uploads/export/", headers=bearer())
        self.assertIn('scope="export"', refused["WWW-Authenticate"])
        self.assertEqual(refused.json()["docs"], "https://api.example.com/errors")

    def test_throttled(self):
        from rest_framework.throttling import SimpleRateThrottle

        self.assertEqual(SimpleRateThrottle.THROTTLE_RATES, {"client": "1000/hour"})

    def test_the_document(self):
        schema = self.client.get("/schema/").json()
        create = schema["paths"]["/uploads/"]["post"]
        self.assertEqual(schema["paths"]["/recordings/"]["get"]["security"], [{"bearer": ["read"]}])
        self.assertEqual(create["security"], [{"bearer": ["write"]}])
"""
MORE_OF_NINJA = """
from mysite.uploads import router

api.add_router("", router)
"""
MORE_TESTS_OF_NINJA = """
from mysite.tests import RecordingsTests, bearer


class MoreTests(RecordingsTests):
    def test_uploads(self):
        for headers, status in (
            (bearer(scopes=["write"]), 200),
            (bearer(roles=["admin"]), 200),
            (bearer(), 403),
            ({"X-API-Key": "the key of a machine"}, 200),
            ({}, 401),
        ):
            response = self.client.post("/api/uploads", headers=headers)
            self.assertEqual(response.status_code, status)

    def test_the_document(self):
        schema = self.client.get("/api/openapi.json").json()
        security = schema["paths"]["/api/recordings"]["get"]["security"]
        self.assertEqual(security, [{"bearer": ["read"]}])
"""


@pytest.mark.parametrize(
    ("name", "more", "tests"),
    [
        (
            "rest-framework.md",
            {"settings.py": MORE_OF_REST_FRAMEWORK, "urls.py": MORE_URLS_OF_REST_FRAMEWORK},
            MORE_TESTS_OF_REST_FRAMEWORK,
        ),
        ("ninja.md", {"api.py": MORE_OF_NINJA}, MORE_TESTS_OF_NINJA),
    ],
    ids=["rest-framework", "ninja"],
)
def test_the_pages_about_frameworks_of_django_work(
    name: str, more: dict[str, str], tests: str, reader: Reader
) -> None:
    reader.run("django-admin startproject mysite")
    reader.folder /= "mysite"
    assert len(follow(ROOT / "docs" / name, reader)) == 4
    # What the page has after its tests.
    for file, text in more.items():
        reader.write(f"mysite/{file}", text, at_the_end=True)
    reader.write("mysite/more_tests.py", tests, at_the_end=False)
    assert "OK" in reader.run("python manage.py test mysite.more_tests")


def test_the_table_has_every_check() -> None:
    listed = re.findall(r"^\| `(bearerguard\.\w+)` \|", PAGE.read_text(), re.MULTILINE)
    source = ast.parse(Path(checks.__file__).read_text())
    made = {
        word.value.value
        for word in ast.walk(source)
        if isinstance(word, ast.keyword)
        and word.arg == "id"
        and isinstance(word.value, ast.Constant)
    }
    assert set(listed) == made
    assert len(listed) == len(made)
