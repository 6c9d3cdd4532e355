"""The docs of a FastAPI app sign in by a popup in Chromium: at our server and at oidc-provider.

`BEARERGUARD_PICTURES` names a directory where the screenshots are written, for review.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.peers.conftest import HERE, oidc_provider
from tests.processes import free_port, program

pytestmark = pytest.mark.xdist_group("popups")

USER, PASSWORD = "ada", "correct horse battery"
# Without its lines of requests: the address of a page holds the code that is brought back.
_UVICORN = (sys.executable, "-m", "uvicorn", "--no-access-log", "--port")
_ROOT = HERE.parent.parent


@contextmanager
def serving(app: str, port: int, **environ: str) -> Iterator[None]:
    with program([*_UVICORN, str(port), app], cwd=_ROOT, environ=environ) as running:
        running.wait_for_port(port)
        yield


@contextmanager
def ours(folder: Path, start: str, *, own_origin: bool) -> Iterator[str]:
    port, other = free_port(), free_port()
    api = f"http://127.0.0.1:{port}"
    issuer = api if own_origin else f"http://127.0.0.1:{other}"
    environ = {"API": api, "ISSUER": issuer, "STORE": f"sqlite:///{folder}/auth.db"}
    if own_origin:
        with serving("tests.peers.fastapi_docs_app:app", port, START=start, **environ):
            yield api
        return
    with (
        serving("tests.peers.fastapi_docs_issuer:app", other, **environ),
        serving("tests.peers.fastapi_docs_app:app", port, START=start, **environ),
    ):
        yield api


@contextmanager
def theirs(folder: Path, start: str, *, own_origin: bool) -> Iterator[str]:
    port, inner = free_port(), free_port()
    api = f"http://127.0.0.1:{port}"
    public = {"ISSUER": api} if own_origin else {}
    with oidc_provider(DOCS_REDIRECT=f"{api}/docs/oauth2-redirect", **public) as provider:
        issuer = api if own_origin else provider.url
        environ = {"API": api, "ISSUER": issuer, "AUDIENCE": "urn:api:ES256", "START": start}
        app = "tests.peers.fastapi_docs_app:app"
        if not own_origin:
            with serving(app, port, **environ):
                yield api
            return
        servers = {"API_SERVER": f"http://127.0.0.1:{inner}", "ISSUER_SERVER": provider.url}
        with (
            serving("tests.peers.fastapi_docs_proxy:app", port, **servers),
            serving(app, inner, **environ),
        ):
            yield api


# Each pair of two of these once.
@pytest.mark.parametrize(
    ("issuer", "origin", "start"),
    [
        (ours, "own origin", "started"),
        (ours, "another origin", "not started"),
        (theirs, "own origin", "not started"),
        (theirs, "another origin", "started"),
    ],
)
def test_swagger_ui_authorizes_and_tries_the_api_out(
    issuer: Any, origin: str, start: str, tmp_path: Path
) -> None:
    """Where the app has started, its description has the endpoints; else Swagger UI finds them."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    if shutil.which("node") is None or not (HERE / "node_modules" / "swagger-ui-dist").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    kept = os.environ.get("BEARERGUARD_PICTURES")
    name = f"{issuer.__name__}-{origin}-{start}".replace(" ", "-")
    pictures = (Path(kept) if kept else tmp_path) / name
    pictures.mkdir(parents=True, exist_ok=True)
    with issuer(tmp_path, start, own_origin=origin == "own origin") as api:
        plan = {
            "chromium": chromium,
            "api": api,
            "isOurs": issuer is ours,
            "user": USER,
            "password": PASSWORD,
            "pictures": str(pictures),
        }
        done = subprocess.run(
            ["node", "fastapi_docs.mjs", json.dumps(plan)],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    seen: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert "failure" not in seen, seen
    assert (seen["status"], seen["body"]) == (
        200,
        {"recordings": ["Dawn chorus"], "scopes": ["read"]},
    )
    if start == "started":
        assert {"401", "403", "503"} <= set(seen["documented"])
