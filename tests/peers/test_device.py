"""A device logs in with libraries that others wrote; a person allows it in Chromium (RFC 8628).

`BEARERGUARD_PICTURES` names a directory where the screenshots are written, for review.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.peers.conftest import HERE
from tests.peers.test_client_browser import issuer, pictures

__all__ = ["issuer", "pictures"]

pytestmark = pytest.mark.xdist_group("pages")


def run(issuer: str, library: str, pictures: Path, **variables: str) -> dict[str, Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    needed = ("playwright-core", "openid-client", "oauth4webapi")
    if shutil.which("node") is None or not all(
        (HERE / "node_modules" / each).is_dir() for each in needed
    ):
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    given = {
        "CHROMIUM": chromium,
        "CLIENT": "screen",
        "DECISION": "Allow",
        "ISSUER": issuer,
        "LIBRARY": library,
        "PICTURES": str(pictures),
        "SCHEME": "light",
        "WIDTH": "1000",
    }
    done = subprocess.run(
        ["node", "device.mjs"],
        cwd=HERE,
        env={**os.environ, **given, **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("library", "variables"),
    [
        ("openid-client", {"DPOP": "1"}),
        ("oauth4webapi", {"SCHEME": "dark", "WIDTH": "360"}),
    ],
)
def test_DEV_01_a_person_allows_a_device_that_a_library_drives(
    issuer: str, pictures: Path, library: str, variables: dict[str, str]
) -> None:
    found = run(issuer, library, pictures, **variables)
    tokens, asked, seen = found["tokens"], found["asked"], found["seen"]
    assert tokens["token_type"] == ("dpop" if "DPOP" in variables else "bearer")
    assert tokens["scope"] == "read"
    assert tokens["refresh_token"]
    assert set(found["polls"]) <= {"authorization_pending"}, found["polls"]
    assert seen["filledIn"] == asked["user_code"]
    check_looks(seen)
    assert asked["user_code"] in seen["pages"]["device-consent"]["text"]
    assert "Living room" in seen["pages"]["device-consent"]["text"]
    assert "See your recordings and their titles" in seen["pages"]["device-consent"]["text"]
    assert "wrong" in seen["pages"]["device-wrong"]["text"]
    assert "go back to your device" in seen["pages"]["device-done"]["text"]


def check_looks(seen: dict[str, Any]) -> None:
    assert len(seen["pages"]) == 4
    assert seen["violations"] == []
    assert [page for page, shown in seen["pages"].items() if shown["tooWide"]] == []


@pytest.mark.parametrize(
    ("library", "variables"),
    [
        ("openid-client", {"SCHEME": "dark"}),
        ("oauth4webapi", {"WIDTH": "360"}),
    ],
)
def test_DEV_01_a_library_learns_that_the_person_refused(
    issuer: str, pictures: Path, library: str, variables: dict[str, str]
) -> None:
    found = run(issuer, library, pictures, DECISION="Deny", **variables)
    assert found["error"] == "access_denied"
    check_looks(found["seen"])
    assert "gets no access" in found["seen"]["pages"]["device-done"]["text"]
