"""The example with its own server, and the server by itself, administered by commands."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.examples.servers import EXAMPLES
from tests.processes import free_port, program

PATH = "/api/v1/recordings"
COMMAND = [sys.executable, "-c", "from bearerguard.cli import main; main()"]
PASSWORD = "correct horse battery"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "BEARERGUARD_SERVER_STORE": f"sqlite:///{tmp_path}/auth.db",
        "BEARERGUARD_SERVER_SECRET": "a secret of this test's own that is long enough",
        "BEARERGUARD_SERVER_ISSUER": f"http://127.0.0.1:{free_port()}",
    }


@pytest.fixture
def run(environ: dict[str, str]) -> Callable[..., Any]:
    def run(*arguments: str, given: str = "") -> Any:
        done = subprocess.run(
            [*COMMAND, *arguments, "--json"],
            input=given,
            env={"PATH": "/usr/bin:/bin", **environ},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


def own_token(url: str, client: dict[str, str]) -> dict[str, Any]:
    fields = {name: client[name] for name in ("client_id", "client_secret")}
    response = httpx2.post(
        f"{url}/oauth/token", data={"grant_type": "client_credentials", **fields, "scope": "read"}
    )
    content: dict[str, Any] = response.raise_for_status().json()
    return content


def test_the_example_serves_apps_and_calls(
    environ: dict[str, str], run: Callable[..., Any]
) -> None:
    client = run("client", "add", "Notes", "--scope", "read")
    url = environ["BEARERGUARD_SERVER_ISSUER"]
    port = url.rpartition(":")[2]
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", port]
    with program(command, cwd=EXAMPLES / "embedded_app", environ=environ) as running:
        running.wait_for_port(int(port))
        assert httpx2.get(url + PATH).status_code == 401
        bearer = {"Authorization": f"Bearer {own_token(url, client)['access_token']}"}
        assert httpx2.get(url + PATH, headers=bearer).json()["for"] == client["client_id"]
        assert httpx2.post(url + PATH, headers=bearer).status_code == 403


def test_a_server_by_itself_is_run_and_administered_by_commands(
    environ: dict[str, str], run: Callable[..., Any], tmp_path: Path
) -> None:
    run("user", "add", "ada", given=f"{PASSWORD}\n")
    client = run("client", "add", "Notes", "--scope", "read")
    url = environ["BEARERGUARD_SERVER_ISSUER"]
    port = url.rpartition(":")[2]
    command = [*COMMAND, "serve", "--port", port, "--scope", "read=See your recordings"]
    command += ["--access-token-lifetime", "120"]
    environ["BEARERGUARD_SERVER_ALGORITHM"] = "ES256"
    with program(command, cwd=tmp_path, environ=environ) as running:
        running.wait_for_port(int(port))
        granted = own_token(url, client)
        token = granted["access_token"]
        assert granted["expires_in"] == 120
        assert [key["alg"] for key in httpx2.get(f"{url}/oauth/jwks").json()["keys"]] == ["ES256"]
        assert httpx2.get(f"{url}/").status_code == 404
        assert "Username" in httpx2.get(f"{url}/oauth/login").text
        # What a command changes counts in the process that serves.
        second = run("client", "rotate-secret", client["client_id"], "--overlap", "0")
        assert own_token(url, second)["scope"] == "read"
        assert run("revoke", "--token", given=f"{token}\n") == {"revoked": 1}
        again = subprocess.run(
            [*COMMAND, "revoke", "--token"],
            input=token,
            env={"PATH": "/usr/bin:/bin", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (again.returncode, again.stdout) == (1, "")
        assert "nothing was revoked" in again.stderr
        run("client", "remove", client["client_id"])
        refused = httpx2.post(
            f"{url}/oauth/token", data={"grant_type": "client_credentials", **second}
        )
        assert refused.json()["error"] == "invalid_client"
        assert len(run("keys", "list")) == 1
        assert client["client_secret"] not in running.output


def test_serving_refuses_a_configuration_that_is_unsafe(
    environ: dict[str, str], tmp_path: Path
) -> None:
    environ["BEARERGUARD_SERVER_ISSUER"] = "http://id.example.com"
    for more, complaint in (
        ([], "no https URL"),
        (["--scope", "read"], "--scope: pass each scope with its description"),
        (["--issuer", "https://id.example.com", "--code-lifetime", "900"], "--code-lifetime: 600"),
        (["--issuer", "https://id.example.com", "--refresh-grace", "-1"], "--refresh-grace: "),
    ):
        done = subprocess.run(
            [*COMMAND, "serve", *more],
            env={"PATH": "/usr/bin:/bin", **environ},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert complaint in done.stderr
        assert "Traceback" not in done.stderr
