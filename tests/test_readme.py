"""The README is short, its app works as it stands, and the responses it shows are those it gets."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bearerguard.testing import LocalIssuer

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
(APP,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
RESPONSES = re.findall(r"```http\n(.*?)```", README, re.DOTALL)
PATH = "/api/v1/recordings"
LONGEST = 130


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer(audience="https://api.example.com")
    with issuer.serve():
        yield issuer


def run(block: str, issuer: LocalIssuer) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(block.replace("https://id.example.com", issuer.url), names)
    return names


def test_the_readme_is_short_and_begins_with_installing() -> None:
    assert len(README.splitlines()) <= LONGEST
    assert README.index("pip install") < README.index("```python")


def test_the_app_works(issuer: LocalIssuer) -> None:
    names = run(APP, issuer)
    with names["guard"], TestClient(names["app"]) as client:
        good = client.get(
            PATH, headers={"Authorization": f"Bearer {issuer.token(scopes=['read'])}"}
        )
        assert good.json() == {"recordings": [], "for": "user"}
        weak = {"Authorization": f"Bearer {issuer.token(scopes=['other'])}"}
        assert client.get(PATH, headers=weak).status_code == 403
        assert client.get(PATH).status_code == 401


def test_the_responses_are_those_that_clients_get(issuer: LocalIssuer) -> None:
    names = run(APP.replace('"read"', '"write"'), issuer)
    with names["guard"], TestClient(names["app"]) as client:
        token = issuer.token(scopes=["read"])
        allowed = issuer.token(scopes=["write"])
        headers = [{"Authorization": f"Bearer {allowed}"}, {}, {"Authorization": f"Bearer {token}"}]
        for shown, sent in zip(RESPONSES, headers, strict=True):
            head, _, body = shown.strip().partition("\n\n")
            status, *fields = head.splitlines()
            response = client.get(PATH, headers=sent)
            assert status.split()[1] == str(response.status_code)
            for field in fields:
                name, _, value = field.partition(": ")
                found = response.headers[name]
                assert found == value or (name.startswith("access-token") and found)
            assert not body or body == response.text
