"""The README's code is run as it stands, with an issuer of this machine in place of its example.

So is that of the client's page.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from bearerguard.testing import LocalIssuer
from tests.faults.test_client_storms import COMMAND
from tests.server.serving import Served, served

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
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


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Served]:
    """An API with its own authorization server; a user is signed in by a cookie."""
    with served(tmp_path, COMMAND) as running:
        yield running


def test_the_client_calls_an_api_with_a_token_of_its_own(api: Served) -> None:
    (block,) = (block for block in BLOCKS if "BearerAuth" in block)
    robot = api.add(client_id="robot")
    names: dict[str, Any] = {"__name__": "readme"}
    for shown, real in (
        ("https://api.example.com", api.url),
        ("its secret", robot.client_secret or ""),
    ):
        assert shown in block
        block = block.replace(shown, real)
    exec(block, names)
    names["client"].close()
    assert names["recordings"] == {"recordings": [], "for": "robot"}


def test_the_clients_page_logs_a_person_in_and_keeps_the_session(
    api: Served, tmp_path: Path
) -> None:
    page = (ROOT / "docs" / "client.md").read_text()
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    api.add(client_id="notes", public=True, redirect_uris=["http://127.0.0.1/callback"])
    program = block.replace("https://api.example.com", api.url) + "\nprint(recordings)\n"
    environ = {
        **os.environ,
        "BEARERGUARD_CLIENT_STORAGE_KEY": "a key of this test, not a real one",
        "XDG_STATE_HOME": str(tmp_path / "state"),
    }
    # The second time it finds its session, and needs no browser.
    for browser in (f"{sys.executable} -m tests.visitor %s &", "none"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            env={**environ, "BROWSER": browser},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "{'recordings': [], 'for': 'notes'}\n"
