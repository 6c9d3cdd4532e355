"""A program's user logs in with Chromium, and comes back to the program by loopback redirect.

`BEARERGUARD_PICTURES` names a directory where the screenshots are written, for review.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bearerguard.client import AuthorizationCode, TokenManager
from bearerguard.errors import TokenRefused
from tests.peers.conftest import HERE
from tests.processes import free_port, program

pytestmark = pytest.mark.xdist_group("pages")

APPEARANCES: dict[str, dict[str, Any]] = {
    "light": {"colorScheme": "light", "viewport": {"width": 1000, "height": 800}},
    "phone-dark": {
        "colorScheme": "dark",
        "viewport": {"width": 360, "height": 720},
        "deviceScaleFactor": 2,
    },
}


@pytest.fixture
def issuer(tmp_path: Path) -> Generator[str]:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {"ORIGIN": origin, "STORE": f"sqlite:///{tmp_path}/auth.db"}
    command = [sys.executable, "-m", "uvicorn", "tests.peers.pages_app:app", "--port", str(port)]
    with program(command, cwd=HERE.parent.parent, environ=environ) as running:
        running.wait_for_port(port)
        yield origin


class Chromium:
    """What `open_browser` starts: a person at a real browser."""

    def __init__(self, picture: Path, appearance: str, answer: str) -> None:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if found is None:
            pytest.skip("chromium is not installed")
        if shutil.which("node") is None or not (HERE / "node_modules/playwright-core").is_dir():
            pytest.skip("node and the packages of tests/peers/package.json are not installed")
        self._plan = {
            "chromium": found,
            "user": "ada",
            "password": "correct horse battery",
            "answer": answer,
            "appearance": APPEARANCES[appearance],
            "picture": str(picture),
        }
        self._process: subprocess.Popen[str] | None = None

    def open(self, link: str) -> None:
        self._process = subprocess.Popen(
            ["node", "login.mjs", json.dumps({**self._plan, "link": link})],
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def seen(self) -> dict[str, Any]:
        assert self._process is not None
        output, problem = self._process.communicate(timeout=60)
        assert self._process.returncode == 0, problem
        found: dict[str, Any] = json.loads(output)
        return found


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = Path(os.environ.get("BEARERGUARD_PICTURES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def manager(issuer: str, browser: Chromium) -> TokenManager:
    source = AuthorizationCode(
        issuer, client_id="notes", scopes="read", open_browser=browser.open, timeout=60
    )
    return TokenManager(source)


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_CL_07_a_person_logs_in_and_is_told_to_go_back_to_the_program(
    issuer: str, pictures: Path, appearance: str
) -> None:
    picture = pictures / f"landing-{appearance}.png"
    browser = Chromium(picture, appearance, "Allow")
    session = manager(issuer, browser)
    token = session.login()
    seen = browser.seen()
    assert seen["title"] == seen["heading"] == "You can close this page"
    assert "Go back to the program" in seen["text"]
    assert (seen["violations"], seen["tooWide"]) == ([], False)
    assert {"color-contrast", "document-title", "html-has-lang"} <= set(seen["checked"])
    dark = appearance.endswith("dark")
    assert seen["background"] == ("rgb(15, 19, 27)" if dark else "rgb(242, 244, 248)")
    assert picture.stat().st_size > 5000
    assert token.scopes == ("read",)
    renewed = session.renew(session.lease()).token
    assert renewed.refresh_token not in {None, token.refresh_token}
    assert session.logout()
    refused = httpx2.post(
        f"{issuer}/oauth/token",
        data={
            "grant_type": "refresh_token",
            "client_id": "notes",
            "refresh_token": renewed.refresh_token,
        },
    )
    assert refused.json()["error"] == "invalid_grant"


def test_CL_07_a_person_who_denies_is_told_so_and_the_program_too(
    issuer: str, pictures: Path
) -> None:
    browser = Chromium(pictures / "landing-denied.png", "light", "Deny")
    with pytest.raises(TokenRefused) as refused:
        manager(issuer, browser).login()
    assert refused.value.error == "access_denied"
    seen = browser.seen()
    assert seen["heading"] == "Login not completed"
    assert seen["violations"] == []
