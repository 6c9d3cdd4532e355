"""The README's code is run as it stands, with an issuer of this machine in place of its example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bearerguard.testing import LocalIssuer

README = (Path(__file__).resolve().parent.parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
ANSWERS = re.findall(r"```http\n(.*?)```", README, re.DOTALL)
PATH = "/api/v1/recordings"


@pytest.fixture
def issuer() -> Iterator[LocalIssuer]:
    issuer = LocalIssuer(audience="https://api.example.com")
    with issuer.serve():
        yield issuer


def run(block: str, issuer: LocalIssuer) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "readme"}
    exec(block.replace("https://id.example.com", issuer.url), names)
    return names


def test_the_starlette_app_is_short_and_works(issuer: LocalIssuer) -> None:
    (block,) = (block for block in BLOCKS if "Starlette" in block)
    names = run(block, issuer)
    with names["guard"], TestClient(names["app"]) as client:
        good = client.get(PATH, headers={"Authorization": f"Bearer {issuer.token()}"})
        assert good.json() == {"recordings": [], "for": "user"}
        weak = {"Authorization": f"Bearer {issuer.token(scope='other')}"}
        assert client.get(PATH, headers=weak).status_code == 403
        assert client.get(PATH).status_code == 401


def test_the_flask_app_works(issuer: LocalIssuer) -> None:
    (block,) = (block for block in BLOCKS if "Flask" in block)
    names = run(block, issuer)
    client = names["app"].test_client()
    with names["guard"]:
        good = client.get(PATH, headers={"Authorization": f"Bearer {issuer.token()}"})
        assert good.json == {"recordings": [], "for": "user"}
        assert client.get(PATH).status_code == 401


def test_the_answers_are_those_that_clients_get(issuer: LocalIssuer) -> None:
    (block,) = (block for block in BLOCKS if "Starlette" in block)
    names = run(block.replace('"read"', '"write"'), issuer)
    with names["guard"], TestClient(names["app"]) as client:
        token = issuer.token(scope="read")
        allowed = issuer.token(scope="write")
        headers = [{"Authorization": f"Bearer {allowed}"}, {}, {"Authorization": f"Bearer {token}"}]
        for shown, sent in zip(ANSWERS, headers, strict=True):
            head, _, body = shown.strip().partition("\n\n")
            status, *lines = head.splitlines()
            answer = client.get(PATH, headers=sent)
            assert status.split()[1] == str(answer.status_code)
            for line in lines:
                name, _, value = line.partition(": ")
                found = answer.headers[name]
                assert found == value or (name.startswith("access-token") and found)
            assert not body or body == answer.text
