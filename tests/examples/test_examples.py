"""Each example is short, starts by its ordinary command, and does what its README says."""

from __future__ import annotations

import re

import httpx2
import pytest

from bearerguard.testing import LocalIssuer
from tests.examples.servers import EXAMPLES, serving

PATH = "/api/v1/recordings"
AUDIENCE = "https://api.example.com"


@pytest.mark.parametrize("server", ["uvicorn", "fastapi", "flask", "gunicorn"])
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


@pytest.mark.parametrize("name", ["starlette_app", "fastapi_app", "flask_app", "embedded_app"])
def test_an_example_is_short_and_has_a_readme(name: str) -> None:
    assert len((EXAMPLES / name / "app.py").read_text().splitlines()) <= 60
    commands = re.findall(
        r"```sh\n(.*?)```", (EXAMPLES / name / "README.md").read_text(), re.DOTALL
    )
    assert len(commands) == 1


def test_a_missing_setting_is_named_at_start() -> None:
    with (
        pytest.raises(AssertionError, match="BEARERGUARD_AUDIENCE is not set"),
        serving("uvicorn", "https://id.example.com", ""),
    ):
        pass
