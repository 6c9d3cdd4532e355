"""The device grant between real processes: our client, our server, and a person with a browser."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
import threading
import time
from collections.abc import Generator
from html import unescape
from pathlib import Path

import httpx2
import pytest

from bearerguard.client import DeviceCode, TokenManager
from bearerguard.client.login.device_code import DevicePrompt
from bearerguard.client.storages.file_key import KEY_VARIABLE
from bearerguard.client.storages.state_directory import VARIABLE as HOME_VARIABLE
from bearerguard.errors import TokenRefused
from bearerguard.protocol import names
from bearerguard.server import Registered
from tests.server.serving import Served, served


@pytest.fixture
def running(tmp_path: Path) -> Generator[Served]:
    with served(tmp_path) as started:
        yield started


@pytest.fixture
def screen(running: Served) -> Registered:
    return running.add(
        "Screen", public=True, redirect_uris=[], grant_types=["device_code", "refresh_token"]
    )


def decide(address: str, user_code: str, decision: str = "allow") -> str:
    """Do what a person does who is signed in: enter the code, and decide; return the last page."""
    with httpx2.Client(cookies={"user": "ada"}, timeout=30) as browser:
        page = browser.get(address)
        for pressed in ({"user_code": user_code}, {"decision": decision}):
            hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text)
            fields = {name: unescape(value) for name, value in hidden}
            page = browser.post(address, data=fields | pressed)
            page.raise_for_status()
        return page.text


def test_DEV_01_the_command_logs_in_on_another_device(
    running: Served, screen: Registered, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", "from bearerguard.cli import main; main()"]
    environ = {
        **os.environ,
        HOME_VARIABLE: str(tmp_path / "home"),
        KEY_VARIABLE: secrets.token_hex(32),
    }
    login = subprocess.Popen(
        [*command, "login", running.url, "--client-id", screen.client_id, "--device"],
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    said = ""
    try:
        assert login.stderr is not None
        for line in login.stderr:
            said += line
            if found := re.search(r"or open (\S+)\?user_code=(\S+)", said):
                page = decide(*found.groups())
                assert "go back to your device" in page
                break
        _, err = login.communicate(timeout=60)
    finally:
        login.kill()
    assert login.returncode == 0, said + err
    assert f"Open   {running.url}/oauth/device\n" in said
    assert "Logged in to" in err
    token = subprocess.run(
        [*command, "token"], env=environ, capture_output=True, text=True, check=True, timeout=60
    ).stdout.strip()
    principal = running.server.introspect(token)
    assert (principal["sub"], principal["client_id"]) == ("ada", screen.client_id)


def test_DEV_01_the_client_obeys_slow_down(running: Served, screen: Registered) -> None:
    asked: list[float] = []

    def show(prompt: DevicePrompt) -> None:
        asked.append(time.monotonic())
        threading.Thread(target=meddle, args=(prompt,)).start()

    def meddle(prompt: DevicePrompt) -> None:
        time.sleep(2)  # three seconds before the client's own poll, which then comes too soon
        polled = running.token(screen, grant_type=names.DEVICE_CODE, device_code=prompt.device_code)
        assert polled.json()["error"] == "authorization_pending"
        time.sleep(4)
        decide(prompt.verification_uri, prompt.user_code)

    source = DeviceCode(running.url, client_id=screen.client_id, scopes="read", prompt=show)
    token = TokenManager(source).login()
    assert time.monotonic() - asked[0] > 14  # 5 s, and 10 s after `slow_down`
    assert running.store.run("SELECT poll_interval FROM device_codes") == [(10,)]
    assert running.server.introspect(token.access_token)["sub"] == "ada"


def test_DEV_01_the_client_says_that_the_person_refused(
    running: Served, screen: Registered
) -> None:
    def show(prompt: DevicePrompt) -> None:
        decide(prompt.verification_uri, prompt.user_code, "deny")

    source = DeviceCode(running.url, client_id=screen.client_id, scopes="read", prompt=show)
    with pytest.raises(TokenRefused, match="access_denied"):
        TokenManager(source).login()
