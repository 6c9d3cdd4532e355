"""Each example is short, starts by its ordinary command, and does what its README says."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import httpx2
import pytest

from bearerguard.testing import LocalIssuer
from tests.examples.servers import EXAMPLES, serving

PATH = "/api/v1/recordings"
AUDIENCE = "https://api.example.com"


# CORS is a package of its own in Django, so its example leaves that out.
WITH_CORS = ["uvicorn", "fastapi", "flask", "gunicorn"]
APPS = {
    "starlette_app": "app.py",
    "fastapi_app": "app.py",
    "flask_app": "app.py",
    "django_app": "recordings/views.py",
    "embedded_app": "app.py",
    "mcp_server": "app.py",
}


@pytest.mark.parametrize("server", [*WITH_CORS, "uvicorn with Django", "gunicorn with Django"])
def test_an_example_lists_adds_and_refuses(server: str) -> None:
    issuer = LocalIssuer(audience=AUDIENCE)
    with (
        issuer.serve(),
        serving(server, issuer.url, AUDIENCE) as url,
        httpx2.Client(base_url=url) as client,
    ):
        reader = {"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
        writer = {"Authorization": f"Bearer {issuer.token(scopes=['write'], subject='ada')}"}
        listed = client.get(PATH, headers=reader)
        assert listed.json() == {"recordings": [{"id": 1, "title": "Dawn chorus"}]}
        assert listed.headers["cache-control"] == "private"
        assert client.post(PATH, headers=reader).status_code == 403
        added = client.post(PATH, headers=writer)
        assert (added.status_code, added.json()["title"]) == (201, "Uploaded by ada")
        assert client.get(PATH).status_code == 401
        assert client.get("/health").status_code == 200
        if server not in WITH_CORS:
            return
        origin = {"Origin": "https://app.example.com"}
        preflight = client.options(
            PATH,
            headers={
                **origin,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "authorization, content-type",
            },
        )
        assert preflight.status_code == 200
        assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
        refused = client.get(PATH, headers=origin)
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"]
        assert "www-authenticate" in refused.headers["access-control-expose-headers"].lower()


@pytest.mark.parametrize("name", APPS)
def test_an_example_is_short_and_has_a_readme(name: str) -> None:
    assert len((EXAMPLES / name / APPS[name]).read_text().splitlines()) <= 60
    commands = re.findall(
        r"```sh\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.DOTALL
    )
    assert len(commands) == 1


@pytest.mark.parametrize(
    ("server", "name"),
    [
        ("uvicorn", "BEARERGUARD_AUDIENCE"),
        ("uvicorn with Django", r'BEARERGUARD\["AUDIENCE"\]'),
        ("gunicorn with Django", r'BEARERGUARD\["AUDIENCE"\]'),
    ],
)
def test_a_missing_setting_is_named_at_start(server: str, name: str) -> None:
    with (
        pytest.raises(AssertionError, match=f"{name} is not set"),
        serving(server, "https://id.example.com", ""),
    ):
        pass


def test_manage_py_check_has_nothing_to_say_of_the_example_in_django() -> None:
    environ = {"BEARERGUARD_ISSUER": "https://id.example.com", "BEARERGUARD_AUDIENCE": AUDIENCE}
    done = subprocess.run(
        [sys.executable, "manage.py", "check", "--deploy"],
        cwd=EXAMPLES / "django_app",
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "bearerguard." not in done.stderr
    assert "security.W004" in done.stderr  # Django's own checks ran
