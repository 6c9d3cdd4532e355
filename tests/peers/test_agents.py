"""Agents of several SDKs against the example's MCP server: they know nothing but its URL.

Each finds the authorization server, registers, has a person log in with Chromium, calls a tool,
steps up for another one, and refreshes its token.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from bearerguard.client.storages.file_key import KEY_VARIABLE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.server import AuthorizationServer
from tests.examples.servers import EXAMPLES
from tests.processes import free_port, program

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECRET = "a secret of this test's own that is long enough"
USER, PASSWORD = "ada", "correct horse battery staple"
PYTHON = [sys.executable, "-m", "tests.peers.agent_python"]


def typescript(sdk: str) -> list[str]:
    node = shutil.which("node")
    if node is None or not (HERE / "node_modules").exists():
        pytest.skip("node, or the peers, are not installed")
    return [node, str(HERE / "agent_typescript.mjs"), sdk]


class Person:
    """Somebody with a browser, who consents to what agents ask."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile
        self.consents: list[str] = []

    def log_in(self, link: str) -> None:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if chromium is None:
            pytest.skip("chromium is not installed")
        plan = {
            "chromium": chromium,
            "link": link,
            "user": USER,
            "password": PASSWORD,
            "profile": str(self.profile),
            "picture": str(self.profile.parent / f"consent-{len(self.consents)}.png"),
        }
        done = subprocess.run(
            ["node", str(HERE / "agent_login.mjs"), json.dumps(plan)],
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        self.consents.append(json.loads(done.stdout)["consent"])


@contextmanager
def example(tmp_path: Path) -> Generator[str]:
    """Run the example's MCP server with a user; its URL is all that an agent knows."""
    port = free_port()
    url, store = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path}/auth.db"
    environ = {
        "BEARERGUARD_SERVER_STORE": store,
        "BEARERGUARD_SERVER_SECRET": SECRET,
        "BEARERGUARD_SERVER_ISSUER": url,
    }
    server = AuthorizationServer(url, store=store, secret=SECRET)
    server.users.add(USER, password=PASSWORD)
    server.close()
    command = [sys.executable, "-m", "uvicorn", "app:app", "--port", str(port)]
    with program(command, cwd=EXAMPLES / "mcp_server", environ=environ) as running:
        running.wait_for_port(port)
        yield f"{url}/mcp"


@pytest.fixture
def url(tmp_path: Path) -> Generator[str]:
    with example(tmp_path) as running:
        yield running


def seen(command: list[str], url: str, person: Person) -> dict[str, Any]:
    """Run an agent, log in where it asks, and return what it got."""
    last = ""
    with subprocess.Popen(
        [*command, url],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as agent:
        assert agent.stdout is not None
        try:
            for line in agent.stdout:
                if line.startswith("AUTHORIZE "):
                    person.log_in(line.split()[1])
                else:
                    last = line
            _, errors = agent.communicate(timeout=30)
        finally:
            agent.kill()
    assert agent.returncode == 0, errors
    found: dict[str, Any] = json.loads(last)
    return found


# 1.17 requests no scopes, and gets all that the person consents to: it needs no step-up.
@pytest.mark.parametrize(("sdk", "logins"), [("client", 2), ("sdk", 2), ("mcp-sdk-1.17", 1)])
def test_an_agent_in_typescript_needs_nothing_but_the_url(
    sdk: str, logins: int, url: str, tmp_path: Path
) -> None:
    found = seen(typescript(sdk), url, Person(tmp_path / "profile"))
    assert found["logins"] == 1
    assert found["write"].startswith("Dawn chorus was deleted for user-")
    assert (found["refreshed"], found["loginsAtTheEnd"]) == (True, logins)


@pytest.fixture(scope="session")
def earlier_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with the SDK of August 2025, which knew neither documents nor step-ups."""
    environment = tmp_path_factory.mktemp("earlier") / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = str(environment / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, "mcp==1.13.1", "pydantic<2.12"], check=True, timeout=300)
    return python


def test_an_agent_of_the_year_before_needs_nothing_but_the_url(
    earlier_python: str, url: str, tmp_path: Path
) -> None:
    command = [earlier_python, str(HERE / "agent_python.py"), "mcp"]
    found = seen(command, url, Person(tmp_path / "profile"))
    # It requests no scopes, and gets all that the person consents to.
    assert (found["logins"], found["loginsAtTheEnd"]) == (1, 1)
    assert (found["read"], found["again"]) == ("Dawn chorus", "Night train")
    assert found["write"].startswith("Dawn chorus was deleted for user-")


@pytest.mark.parametrize("sdk", ["mcp", "fastmcp", "mcp-remote", "bearerguard"])
def test_an_agent_in_python_needs_nothing_but_the_url(sdk: str, url: str, tmp_path: Path) -> None:
    found = seen([*PYTHON, sdk], url, Person(tmp_path / "profile"))
    assert found["logins"] == 1
    assert found["write"].startswith("Dawn chorus was deleted for user-")
    assert (found["steppedUp"], found["loginsAtTheEnd"]) == (2, 2)


def test_the_command_line_needs_nothing_but_the_url(url: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from bearerguard.cli import main; main()"]
    environ = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    environ |= {HOME_VARIABLE: str(tmp_path / "home"), KEY_VARIABLE: secrets.token_hex(32)}
    with subprocess.Popen(
        [*command, "login", url],
        env=environ,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as login:
        assert login.stderr is not None
        for line in login.stderr:
            if "/oauth/authorize?" in line:
                Person(tmp_path / "profile").log_in(line.strip())
        assert login.wait(30) == 0
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    called = subprocess.run(
        [
            *(*command, "call", url, "-d", json.dumps(message)),
            *("-H", "Accept: application/json, text/event-stream"),
        ],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # No session was opened: the server says so, and not that the token is refused.
    assert "session" in called.stdout.lower(), called.stdout + called.stderr
