"""Swagger UI and oidc-client-ts sign in at our server in Chromium, on its origin and another.

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

from tests.peers.conftest import HERE
from tests.processes import free_port, program

# One worker runs them all: each origin's browser is started once.
pytestmark = pytest.mark.xdist_group("popups")

USER, PASSWORD = "ada", "correct horse battery"
SCOPES = ("read", "openid read offline_access")


@pytest.fixture(scope="module", params=["own origin", "another origin"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What came of signing in."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    if shutil.which("node") is None or not (HERE / "node_modules" / "swagger-ui-dist").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    folder = tmp_path_factory.mktemp("popups")
    kept = os.environ.get("BEARERGUARD_PICTURES")
    pictures = (Path(kept) if kept else folder) / str(request.param).replace(" ", "-")
    pictures.mkdir(parents=True, exist_ok=True)
    port, other = free_port(), free_port()
    api, pages = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{other}"
    environ = {"API": api, "PAGES": pages, "STORE": f"sqlite:///{folder}/auth.db"}
    # Without its lines of requests: the address of a page holds the code that is brought back.
    uvicorn = (sys.executable, "-m", "uvicorn", "--no-access-log", "--port")
    root = HERE.parent.parent
    with (
        program(
            [*uvicorn, str(port), "tests.peers.popups_app:app"], cwd=root, environ=environ
        ) as server,
        program(
            [*uvicorn, str(other), "tests.peers.popups_pages:pages"], cwd=root, environ=environ
        ) as app,
    ):
        server.wait_for_port(port)
        app.wait_for_port(other)
        plan = {
            "chromium": chromium,
            "api": api,
            "pages": api if request.param == "own origin" else pages,
            "user": USER,
            "password": PASSWORD,
            "pictures": str(pictures),
        }
        done = subprocess.run(
            ["node", "popups.mjs", json.dumps(plan)],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_AZ_10_swagger_ui_authorizes_in_a_popup_and_tries_the_api_out(seen: dict[str, Any]) -> None:
    assert seen["failures"] == []
    assert seen["swagger"]["status"] == 200
    assert seen["swagger"]["body"]["recordings"] == ["Dawn chorus"]


@pytest.mark.parametrize("scope", SCOPES)
def test_AZ_10_oidc_client_ts_signs_in_in_a_popup_and_renews(
    seen: dict[str, Any], scope: str
) -> None:
    assert seen["failures"] == []
    signed_in, renewed = seen[f"popup {scope}"], seen[f"renewed {scope}"]
    assert signed_in == {"token": 3, "scope": "read", "hasRefresh": True, "status": 200}
    assert renewed == {**signed_in, "isNew": True}


def test_AZ_10_oidc_client_ts_signs_in_by_a_redirect(seen: dict[str, Any]) -> None:
    assert seen["redirect openid read"] == {"token": 3, "scope": "read", "hasRefresh": True}


def test_AZ_08_an_invisible_frame_learns_that_the_user_would_have_to_be_asked(
    seen: dict[str, Any],
) -> None:
    """Anybody can pose as an app on loopback: its user is asked each time (RFC 8252 §8.6)."""
    assert seen["frame of a stranger"] == {"error": "login_required"}
    assert seen["frame of the user"] == {"error": "consent_required"}


def test_AZ_10_what_pages_add_to_their_requests_is_let_through(seen: dict[str, Any]) -> None:
    assert {"traceparent", "x-requested-with"} <= set(seen["sent"]["POST /oauth/token"])
    assert "traceparent" in seen["sent"]["GET /api/recordings"]
    found = seen["sent"]["GET /.well-known/openid-configuration"]
    assert "x-requested-with" in found
