"""A login is stepped up end to end: the API, our server's own login, a person, and a client."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from contextlib import closing
from html import unescape
from pathlib import Path
from typing import Any

import httpx2
import pytest

from bearerguard.client import AuthorizationCode, BearerAuth, TokenManager
from bearerguard.errors import StepUpRequired, TokenRefused
from bearerguard.server.login.people import PASSWORD_ACR
from tests.peers.conftest import HERE
from tests.processes import free_port, program

USER, PASSWORD = "ada", "correct horse battery"


class Api:
    """The running API and its server."""

    def __init__(self, url: str, database: Path) -> None:
        self.url = url
        self._database = database

    def age_sessions(self, seconds: float) -> None:
        """Let every login have been `seconds` earlier."""
        with closing(sqlite3.connect(self._database)) as connection, connection:
            connection.execute("UPDATE sessions SET signed_in_at = signed_in_at - ?", [seconds])


@pytest.fixture
def api(tmp_path: Path) -> Generator[Api]:
    port = free_port()
    database = tmp_path / "auth.db"
    environ = {"ORIGIN": f"http://127.0.0.1:{port}", "STORE": f"sqlite:///{database}"}
    command = [sys.executable, "-m", "uvicorn", "tests.peers.step_up_app:app", "--port", str(port)]
    with program([*command, "--no-access-log"], cwd=HERE.parent.parent, environ=environ) as running:
        running.wait_for_port(port)
        yield Api(environ["ORIGIN"], database)


class Visitor:
    """Somebody with a browser without scripts, which keeps its cookies."""

    def __init__(self, _folder: Path) -> None:
        self._browser = httpx2.Client(follow_redirects=True, timeout=30)
        self.passwords: list[bool] = []
        self._visits: list[threading.Thread] = []

    def open(self, link: str) -> None:
        self._visits.append(threading.Thread(target=self._visit, args=(link,)))
        self._visits[-1].start()

    def close(self) -> None:
        for each in self._visits:
            each.join(30)
        self._browser.close()

    def _visit(self, link: str) -> None:
        page = self._browser.get(link)
        asked = 'name="password"' in page.text
        self.passwords.append(asked)
        if asked:
            page = self._submit(page, username=USER, password=PASSWORD)
        if 'name="decision"' in page.text:
            page = self._submit(page, decision="allow")
        page.raise_for_status()

    def _submit(self, page: httpx2.Response, **fields: str) -> httpx2.Response:
        action = re.search(r'<form method="post" action="([^"]+)"', page.text)
        assert action is not None, page.text
        hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text)
        given = {name: unescape(value) for name, value in hidden}
        return self._browser.post(page.url.join(unescape(action[1])), data=given | fields)


class Chromium:
    """Somebody at Chromium, whose profile keeps the session."""

    def __init__(self, folder: Path) -> None:
        found = shutil.which("chromium") or shutil.which("chromium-browser")
        if found is None:
            pytest.skip("chromium is not installed")
        if shutil.which("node") is None or not (HERE / "node_modules/playwright-core").is_dir():
            pytest.skip("node and the packages of tests/peers/package.json are not installed")
        self._pictures = Path(os.environ.get("BEARERGUARD_PICTURES") or folder)
        self._plan = {
            "chromium": found,
            "user": USER,
            "password": PASSWORD,
            "profile": str(folder / "profile"),
        }
        self._running: list[subprocess.Popen[str]] = []

    def open(self, link: str) -> None:
        number = len(self._running)
        plan = self._plan | {
            "link": link,
            "picture": str(self._pictures / f"step-up-consent-{number}.png"),
            "loginPicture": str(self._pictures / f"step-up-login-{number}.png"),
        }
        self._running.append(
            subprocess.Popen(
                ["node", "agent_login.mjs", json.dumps(plan)],
                cwd=HERE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    @property
    def passwords(self) -> list[bool]:
        """Whether the password was asked for, of each visit."""
        found = []
        for each in self._running:
            output, problem = each.communicate(timeout=60)
            assert each.returncode == 0, problem
            found.append(json.loads(output)["password"])
        return found

    def close(self) -> None:
        for each in self._running:
            if each.poll() is None:
                each.terminate()
            each.wait(20)


@pytest.fixture(params=[Visitor, Chromium])
def person(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Any]:
    someone = request.param(tmp_path)
    yield someone
    someone.close()


def manager(api: Api, person: Any) -> TokenManager:
    source = AuthorizationCode(
        api.url,
        client_id="phone",
        scopes="read",
        resources=api.url,
        open_browser=person.open,
        timeout=60,
    )
    return TokenManager(source)


def test_STEP_01_a_client_has_its_user_log_in_again_and_completes(api: Api, person: Any) -> None:
    manager(api, person).login()  # of another program: the browser's session begins
    api.age_sessions(600)
    began = time.time()
    auth = BearerAuth(manager(api, person), login=True)
    with httpx2.Client(base_url=api.url, auth=auth, timeout=90) as client:
        first = client.get("/account")
        assert first.status_code == 200
        assert first.json()["acr"] == PASSWORD_ACR
        assert first.json()["auth_time"] < began - 500
        done = client.post("/transfers")
        assert done.status_code == 200, done.text
        assert done.json()["auth_time"] >= int(began)
        assert client.get("/account").json() == done.json()
    assert person.passwords == [True, False, True]


def test_CL_03_a_demand_is_an_exception_that_step_up_takes(api: Api, tmp_path: Path) -> None:
    person = Visitor(tmp_path)
    tokens = manager(api, person)
    tokens.login()
    api.age_sessions(600)
    aged = manager(api, person)
    aged.login()
    with httpx2.Client(base_url=api.url, auth=BearerAuth(aged), timeout=60) as client:
        with pytest.raises(StepUpRequired) as demanded:
            client.post("/transfers")
        assert (demanded.value.max_age, demanded.value.scopes) == (60, ("write",))
        token = aged.step_up(demanded.value)
        assert token.scopes == ("read", "write")
        assert client.post("/transfers").status_code == 200
        # What nobody can do is said, and is not tried again and again.
        with pytest.raises(StepUpRequired) as demanded:
            client.get("/vault")
        assert demanded.value.acr_values == ("phr",)
        with pytest.raises(TokenRefused, match="unmet_authentication_requirements"):
            aged.step_up(demanded.value)
        assert client.post("/transfers").status_code == 200, "the token is kept"
    person.close()
    assert person.passwords == [True, False, True, False]


def test_AZ_08_oauth4webapi_reads_the_challenge_and_steps_up(api: Api) -> None:
    if shutil.which("node") is None or not (HERE / "node_modules/oauth4webapi").is_dir():
        pytest.skip("node and the packages of tests/peers/package.json are not installed")
    done = subprocess.run(
        ["node", "step_up.mjs"],
        cwd=HERE,
        env={**os.environ, "ISSUER": api.url, "USERNAME": USER, "PASSWORD": PASSWORD},
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout.splitlines()[-1])
    assert seen["metadata"]["acr_values_supported"] == [PASSWORD_ACR]
    assert seen["metadata"]["prompt_values_supported"] == [
        *("none", "login", "consent", "select_account")
    ]
    assert seen["challenge"]["error"] == "insufficient_user_authentication"
    assert seen["challenge"]["acr_values"] == "phr"
    assert not {"max_age", "scope"} & seen["challenge"].keys()
    assert seen["forced"] == {"password": True, "status": 200}
    assert seen["recent"] == {"password": False, "status": 200}
    assert seen["zero"] == {"password": True, "status": 200}
    assert seen["silent"] == "consent_required"
    assert seen["tooOld"] == "login_required"
    assert seen["unmet"] == "unmet_authentication_requirements"
    assert seen["mixed"] == "invalid_request"
