"""The pages of an account in Chromium: accessible, as wide as a phone, and usable by keyboard.

`BEARERGUARD_PICTURES` names a directory where the screenshots are written, for review.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bearerguard.server.pages.texts import TEXTS
from tests.peers.conftest import HERE
from tests.processes import free_port, program


def test_GRANT_01_the_account_page_is_accessible_and_works_by_keyboard(tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    if shutil.which("node") is None or not (HERE / "node_modules" / "playwright-core").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    environ = {"ORIGIN": origin, "STORE": f"sqlite:///{tmp_path}/auth.db"}
    command = [sys.executable, "-m", "uvicorn", "tests.peers.account_app:app", "--port", str(port)]
    plan = {
        "chromium": chromium,
        "origin": origin,
        "user": "ada",
        "password": "correct horse battery",
        "another": "another horse battery",
        "pictures": os.environ.get("BEARERGUARD_PICTURES", str(tmp_path)),
    }
    with program(command, cwd=HERE.parent.parent, environ=environ) as running:
        running.wait_for_port(port)
        seen = browsed(plan)
    assert seen["violations"] == []
    assert seen["checked"] > 25 * 10, "axe has looked"
    pages = ("", "password-", "tokens-", "tokens-wrong-", "tokens-made-")
    appearances = ("light", "dark", "phone", "phone-dark", "zoomed")
    assert sorted(seen["looked"]) == sorted(page + each for page in pages for each in appearances)
    assert seen["tooWide"] == []
    status = "the server responded with a status of 400 (Bad Request)"
    assert (
        seen["console"] == [f"Failed to load resource: {status}"] * 5
    )  # of the forms with mistakes
    assert seen["said"] == [
        "App 003 has no access to your account any more.",
        "You are signed out everywhere else.",
        TEXTS["account.done.all_but_tokens"],
        TEXTS["account.done.password_but_tokens"],
    ]
    assert seen["made"].startswith("bgp_")
    assert sorted(seen["tokens"]) == sorted(f"Backup of {each}" for each in appearances)
    assert seen["reloaded"] == seen["said"][0]
    assert seen["second"].startswith("App 0")
    assert seen["left"] == ["Chrome on Linux This browser"]


def browsed(plan: dict[str, Any]) -> dict[str, Any]:
    done = subprocess.run(
        ["node", "account.mjs", json.dumps(plan)],
        cwd=HERE,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return seen
